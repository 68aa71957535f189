"""What a scan of the loss found: a labelled grid of one to three axes."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from landscape.errors import illegal
from landscape.record import Result
from landscape.spec import AxesSpec, LineSpec, PlaneSpec

_STANDARD = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


def _none() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True, kw_only=True)
class SurfaceResult(Result):
    """Losses and accuracies on a grid of one to three axes; grids have one array axis per coordinate axis.

    x: (X,) coordinates of the first axis; y: (Y,) and z: (Z,) of the others, (0,) where there is none. Grids:
    (X,), (X, Y) or (X, Y, Z). Coordinates are displacements: α for a line or arc (k at the k-th checkpoint of a
    polyline), parameter-space ℓ2 distance for planes through checkpoints, eigenvectors and principal components,
    multiples of the normalised direction for random axes. axes: what each axis is, in words.

    done: the cells that have a value; the others are NaN and `complete` is False, whereas a NaN in a done cell is
    what the loss gave. interpolated: the cells whose value was not evaluated, (0,) when all were; interpolation_error:
    the estimated largest error of those, as a share of the range of the values (NaN without), from `held_out`
    cells that were evaluated only to compare.

    labels and marks (m, axes) name the checkpoints and give their true coordinates. trajectory (T, axes): the
    coordinates of a training's checkpoints projected onto the axes, trajectory_labels their names; explained
    (axes,): the share of the trajectory's variance along each axis; all (0,) without a trajectory.
    test_* arrays are (0,) when no test data were given; accuracies are (0,) for regression.
    extra_names, extra (*grid, K): what else was measured at each point, such as "smallest eigenvalue".
    half_error: of losses evaluated in bfloat16, the largest error on a sample of points as a share of their range (NaN
    in full precision). evaluation: how the losses were evaluated, in words. vectors (k, n): eigenvectors at the last
    point, while a scan with curvature is incomplete. directions (k, n): likewise the eigenvectors that were measured
    for its axes, so that it goes on along the same ones.
    """

    kind: ClassVar[str] = "surface"
    spec: LineSpec | PlaneSpec | AxesSpec
    x: np.ndarray
    y: np.ndarray
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    labels: tuple[str, ...]
    marks: np.ndarray
    complete: bool
    evaluations: int
    done: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    z: np.ndarray = field(default_factory=_none)
    axes: tuple[str, ...] = ()
    interpolated: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    interpolation_error: float = float("nan")
    held_out: int = 0
    trajectory: np.ndarray = field(default_factory=_none)
    trajectory_labels: tuple[str, ...] = ()
    explained: np.ndarray = field(default_factory=_none)
    extra_names: tuple[str, ...] = ()
    extra: np.ndarray = field(default_factory=_none)
    half_error: float = float("nan")
    evaluation: str = ""
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    directions: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def coordinates(self) -> tuple[np.ndarray, ...]:
        """The coordinates of each axis there is: (x,), (x, y) or (x, y, z)."""
        return tuple(axis for axis in (self.x, self.y, self.z) if len(axis))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(map(len, self.coordinates))

    @property
    def known(self) -> np.ndarray:
        """`done`; of a scan that does not record it, all of a complete one, else where there is a training loss."""
        return self.done if self.done.size else ~np.isnan(self.train_loss) | self.complete

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was measured at each point, by the names that `grid` knows: "train loss", "test accuracy", …"""
        standard = (name.replace("_", " ") for name in _STANDARD if getattr(self, name).size)
        return (*standard, *self.extra_names)

    def grid(self, quantity: str) -> np.ndarray:
        """The values of one of `quantities` at all points, in the shape of the grid. Raises `InputError`."""
        if quantity in self.extra_names:
            return self.extra[..., self.extra_names.index(quantity)]
        if quantity not in self.quantities:
            raise illegal("quantity", quantity, f"one of {', '.join(self.quantities)}", "Measure it first.")
        return getattr(self, quantity.replace(" ", "_"))
