"""What was found on the way between two minima: losses along paths, and the barriers on them."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from landscape.errors import illegal
from landscape.record import Result
from landscape.spec import PathSpec


def _none() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, kw_only=True)
class PathResult(Result):
    """Losses along paths γ(t), 0 ≤ t ≤ 1, from one checkpoint to another, and their barriers.

    labels: of the two ends. paths: "raw" (the straight line), "recalibrated" (the line with batch-norm statistics
    recomputed at each point), "aligned" (the line to the second checkpoint with its units permuted), "curve" (trained),
    and combinations. t: (T,). Losses and accuracies: (paths, T); test_* are (0,) without test data, accuracies (0,)
    for regression. added: (paths, R, 5) the points evaluated to find the maxima, in the order of t, each t and the
    four values in the order above; NaN where a path has fewer, and where there is no value.

    Barriers have the axes (paths, quantity) with the quantities in the order of `QUANTITIES`, NaN where there is
    none; with f(t) the loss or error at γ(t):
    barriers: max_t f(t) − ((1−t)·f(0) + t·f(1)) (Entezari et al. 2022, arXiv 2110.06296), at barrier_t.
    rises: max_t f(t) − max(f(0), f(1)), at rise_t. For ends of equal loss both are what Frankle et al. 2020
    (arXiv 1912.05671) call instability.
    Both are at least 0, which the ends have themselves, and infinite where any point of the path is not finite. They
    are of points that were evaluated, and so lower bounds; barrier_accuracy and rise_accuracy say how far the parabola
    through the maximum and its neighbours still disagrees (`methods.peak.Refined`; NaN where untested).
    lengths: (paths,) ∫‖γ′‖dt. evaluations: passes over a data set.
    """

    kind: ClassVar[str] = "path"
    QUANTITIES: ClassVar[tuple[str, ...]] = ("train loss", "train error", "test loss", "test error")
    spec: PathSpec
    labels: tuple[str, str]
    paths: tuple[str, ...]
    t: np.ndarray
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    barriers: np.ndarray
    barrier_t: np.ndarray
    barrier_accuracy: np.ndarray
    rises: np.ndarray
    rise_t: np.ndarray
    rise_accuracy: np.ndarray
    lengths: np.ndarray
    evaluations: int
    added: np.ndarray = field(default_factory=_none)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Those of `QUANTITIES` that were measured; errors are 1 − accuracy, as fractions."""
        return tuple(name for name in self.QUANTITIES if self._grid(name).size)

    def along(self, path: int, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        """All t at which a path was evaluated, ascending, and the values of a quantity there. Raises `InputError`."""
        if quantity not in self.quantities:
            raise illegal("quantity", quantity, f"one of {', '.join(self.quantities)}", "Measure it first.")
        added = self.added[path] if self.added.size else np.zeros((0, 5))
        added = added[~np.isnan(added[:, 0])]
        column = added[:, 1 + self.QUANTITIES.index(quantity)]
        error = quantity.endswith("error")
        t = np.concatenate([self.t, added[:, 0]])
        values = np.concatenate([self._grid(quantity)[path], column])
        order = np.argsort(t, kind="stable")
        return t[order], (1 - values if error else values)[order]

    def _grid(self, quantity: str) -> np.ndarray:
        return getattr(self, quantity.replace("error", "accuracy").replace(" ", "_"))
