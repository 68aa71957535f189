"""A function on a grid from part of its cells: evaluate few, refine where interpolation errs, interpolate the rest.

Values are interpolated by cubic radial basis functions with a linear part (Wendland, "Scattered Data Approximation",
section 8): as they are, their fourth roots, or their logarithms, whichever predicts new cells best. Losses span
decades, and a picture of them has logarithmic levels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

_COARSE = 9
"""Points along each axis of the first grid."""

_ROUND, _GROWTH = 20, 0.1
"""Cells evaluated in a round: at least so many, and this share of those known."""

_LOGARITHMIC = 0.5
"""Shares of the range of logarithms count half: where 1 % is asked for, 2 % of the span of the levels will do."""

_MARGIN = 0.5
"""The search ends at this share of the tolerance: cells that were not looked at can be worse than those that were."""

_WHOLE, _NEIGHBOURS = 1200, 120
"""Up to so many known cells take part in one interpolation; beyond, so many of the nearest ones."""

_BESIDE = 2.0
"""A cell is beside cells that are not finite when the nearest of them is at most so many times as far as others."""

_SCALES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "linear": (lambda values: values, lambda found: found),
    "root": (lambda values: values**0.25, lambda found: np.maximum(found, 0.0) ** 4),
    "logarithm": (np.log, np.exp),
}
"""Ways to interpolate; all but the first are for positive values."""


@dataclass(frozen=True)
class Refined:
    """values (*grid, columns): evaluated or interpolated, as `interpolated` (*grid) says.

    error: the largest error of the targets at the cells of the last two rounds before they were used, `held_out` of
    them in the last: as a share of the range of values, or half its share of the range of their logarithms if that is
    more (positive values alone have logarithms).
    """

    values: np.ndarray
    interpolated: np.ndarray
    error: float
    held_out: int


def refine(
    visit: Callable[[Sequence[tuple[int, ...]]], None],
    values: Float[np.ndarray, "*grid columns"],
    targets: Sequence[int],
    tolerance: float,
    order: Int[np.ndarray, " cells"],
) -> Refined:
    """Evaluate cells until each target column is interpolated to `tolerance`.

    visit(cells) fills values[cell] in place for each that is not filled yet. order: all cells' numbers (in C order) in
    a random order. Each round evaluates the cells where two interpolants differ most and as many random ones, and
    ends the search when all of them were predicted to half the tolerance in two rounds in a row; so the error is of the
    worst cells known of. Cells beside others that are not finite are always evaluated.
    """
    grid, flat = values.shape[:-1], values.reshape(-1, values.shape[-1])
    places = np.stack(np.meshgrid(*(np.linspace(0, 1, k) for k in grid), indexing="ij"), -1).reshape(-1, len(grid))
    columns = [_Column(places, flat[:, k]) for k in range(flat.shape[1])]
    known = np.zeros(len(flat), bool)

    def look(cells: np.ndarray) -> None:
        visit([tuple(map(int, place)) for place in zip(*np.unravel_index(cells, grid), strict=True)])
        known[cells] = True

    look(_coarse(grid))
    error, held_out, before = 0.0, 0, math.inf
    while not known.all():
        rest = np.flatnonzero(~known)
        doubts = [columns[k].predict(known, rest) for k in targets]
        chosen = _chosen(np.max(doubts, axis=0), rest, grid, order, known)
        earlier = known.copy()
        look(chosen)
        now = max(columns[k].judge(earlier, np.searchsorted(rest, chosen), chosen) for k in targets)
        error, held_out, before = max(now, before), len(chosen), now
        if error <= _MARGIN * tolerance:
            break
    rest = np.flatnonzero(~known)
    found = values.copy()
    for k, column in enumerate(columns):
        found.reshape(flat.shape)[rest, k] = column.interpolated(known, rest)
    return Refined(found, ~known.reshape(grid), error if len(rest) else 0.0, held_out)


@dataclass
class _Column:
    """One column on its places (cells, axes): how it is predicted, and how well that went."""

    places: np.ndarray
    values: np.ndarray
    scale: str = "linear"
    _trials: dict[str, np.ndarray] = field(default_factory=dict)

    def predict(self, known: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Predict the cells of `rest` on every scale; returns how far another interpolant differs on the best one."""
        self._trials = {name: self.interpolated(known, rest, name) for name in _SCALES}
        other = self.interpolated(known, rest, self.scale, "thin_plate_spline")
        doubt = _shares(self._trials[self.scale], other, self.values[known])
        return np.where(np.isnan(doubt), np.inf, doubt)

    def judge(self, known: np.ndarray, at: np.ndarray, cells: np.ndarray) -> float:
        """The error of what was predicted at these cells, the `at`-th of the rest; the best scale is the next one."""
        errors = {name: _error(p[at], self.values[cells], self.values[known]) for name, p in self._trials.items()}
        error = errors[self.scale]
        self.scale = min(errors, key=lambda name: errors[name])
        return error

    def interpolated(
        self, known: np.ndarray, rest: np.ndarray, scale: str = "", kernel: str = "cubic"
    ) -> Float[np.ndarray, " rest"]:
        """The column at the cells of `rest`; NaN beside cells that are not finite, and where the scale has no sense."""
        finite = known & np.isfinite(self.values)
        scale, count = scale or self.scale, int(finite.sum())
        if count <= self.places.shape[1] or (scale != "linear" and not (self.values[finite] > 0).all()):
            return np.full(len(rest), np.nan)
        if not len(rest):
            return np.zeros(0)
        forward, backward = _SCALES[scale]
        data, neighbours = forward(self.values[finite]), None if count <= _WHOLE else _NEIGHBOURS
        run = RBFInterpolator(self.places[finite], data, neighbors=neighbours, kernel=kernel, degree=1)
        found = backward(run(self.places[rest]))
        lost = known & ~finite
        if lost.any():
            near, far = (KDTree(self.places[some]).query(self.places[rest])[0] for some in (finite, lost))
            found = np.where(far > _BESIDE * near, found, np.nan)
        return found


def _coarse(grid: tuple[int, ...]) -> np.ndarray:
    steps = [np.unique(np.round(np.linspace(0, k - 1, min(k, _COARSE))).astype(int)) for k in grid]
    return np.ravel_multi_index(np.meshgrid(*steps, indexing="ij"), grid).reshape(-1)


def _shares(a: np.ndarray, b: np.ndarray, known: np.ndarray) -> np.ndarray:
    """|a − b| as a share of the range of the known values, or half its share of that of logarithms if that is more."""
    finite = known[np.isfinite(known)]
    scales = [(1.0, a, b, finite)]
    if (finite > 0).all():
        smallest = np.finfo(float).tiny
        scales.append((_LOGARITHMIC, np.log(np.maximum(a, smallest)), np.log(np.maximum(b, smallest)), np.log(finite)))
    found = np.zeros(len(a))
    for weight, x, y, values in scales:
        extent = max(np.ptp(values), 1e-9 * np.abs(values).max()) if len(values) else 0.0
        if extent > 0:
            found = np.maximum(found, weight * np.abs(x - y) / extent)
    return found


def _error(predicted: np.ndarray, true: np.ndarray, known: np.ndarray) -> float:
    """The largest share; what could not be predicted does not count, what was and is not finite is infinitely wrong."""
    tried = np.isfinite(predicted)
    if not tried.any():
        return math.inf
    found = _shares(predicted[tried], np.where(np.isfinite(true[tried]), true[tried], np.inf), known)
    return float(np.where(np.isnan(found), np.inf, found).max())


def _chosen(
    doubt: np.ndarray, rest: np.ndarray, grid: tuple[int, ...], order: np.ndarray, known: Bool[np.ndarray, " cells"]
) -> np.ndarray:
    """All cells beside what is not finite, the most doubtful others, no two neighbours, and as many at random."""
    count = min(len(rest), max(_ROUND, int(_GROWTH * known.sum())))
    near, chosen = np.zeros(grid, bool), set(map(int, rest[np.isinf(doubt)]))
    wanted = len(chosen) + count // 2
    for cell in rest[np.argsort(-doubt, kind="stable")]:
        place = np.unravel_index(cell, grid)
        if len(chosen) >= wanted:
            break
        if not near[place]:
            chosen.add(int(cell))
            near[tuple(slice(max(0, i - 1), i + 2) for i in place)] = True
    fresh = [int(cell) for cell in order if not known[cell] and int(cell) not in chosen]
    return np.array(sorted(chosen | set(fresh[: max(1, count - count // 2)])))
