"""The shape of the basin around a point of a grid: how far it reaches along the axes, its volume and its form."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from landscape.methods.sublevel import Moments, components, moments
from landscape.methods.triangulation import edges, simplices, vertices


@dataclass(frozen=True)
class Grid:
    """A function on a grid of d axes, linear on the simplices of `methods.triangulation`.

    coordinates: of each axis, increasing. values: on the grid; what is not finite is a wall, higher than every level.
    known: False where no value is known; there the grid has holes that count as ends of it.
    """

    coordinates: tuple[Float[np.ndarray, " _"], ...]
    values: Float[np.ndarray, "..."]
    known: Bool[np.ndarray, "..."]

    @cached_property
    def heights(self) -> Float[np.ndarray, " n"]:
        """The values of the raveled grid, walls and unknown ones as +∞."""
        values = self.values.ravel()
        return np.where(self.known.ravel() & np.isfinite(values), values, np.inf).astype(float)

    @cached_property
    def points(self) -> Float[np.ndarray, "n d"]:
        return vertices(self.coordinates)

    @cached_property
    def edges(self) -> Int[np.ndarray, "e 2"]:
        return edges(self.known.shape)

    @cached_property
    def simplices(self) -> Int[np.ndarray, "s corners"]:
        """Those of which all corners are known."""
        found = simplices(self.known.shape)
        return found[self.known.ravel()[found].all(axis=1)]

    @cached_property
    def ends(self) -> Bool[np.ndarray, " n"]:
        """Whether a grid point is on the border, or next to one without a value."""
        border = np.ones(self.known.shape, bool)
        border[(slice(1, -1),) * self.known.ndim] = False
        found, known = border.ravel(), self.known.ravel()
        for near, far in (self.edges.T, self.edges.T[::-1]):
            found[near[~known[far]]] = True
        return found

    @cached_property
    def volume(self) -> float:
        """Of the part whose values are known."""
        return moments(self.points, np.zeros(len(self.points)), self.simplices, 0.0).volume

    def nearest(self, point: Float[np.ndarray, " d"]) -> int | None:
        """Index of the grid point next to a point; None outside the grid."""
        place = []
        for axis, where in zip(self.coordinates, point.tolist(), strict=True):
            k = int(np.abs(axis - where).argmin())
            room = np.diff(axis)[[max(k - 1, 0), min(k, len(axis) - 2)]].max() / 2
            if not abs(axis[k] - where) <= room * (1 + 1e-9):
                return None
            place.append(k)
        return int(np.ravel_multi_index(place, self.known.shape))


@dataclass(frozen=True)
class Basin:
    """The component of {f ≤ t} that holds a grid point.

    moments: of the component. open: it reaches the grid's end or a point without a value, so that its volume is a
    lower bound. reach: (d, 2) distances from the point to where f crosses t, down and up each axis, and reach_open:
    whether no crossing was met, so that the distance is a lower bound. components: of {f ≤ t} in all. share: the part
    of the grid's volume, as far as values are known, where f ≤ t.
    """

    moments: Moments
    open: bool
    reach: Float[np.ndarray, "d 2"]
    reach_open: Bool[np.ndarray, "d 2"]
    components: int
    share: float


def basin(grid: Grid, point: int, level: float) -> Basin:
    """The basin of a grid point whose value is at most `level`."""
    count, labels = components(grid.heights, grid.edges, level)
    corners = labels[grid.simplices]
    inside = (corners == labels[point]).any(axis=1)
    found = moments(grid.points, grid.heights, grid.simplices[inside], level)
    whole = (
        found if count == 1 else moments(grid.points, grid.heights, grid.simplices[(corners >= 0).any(axis=1)], level)
    )
    reach = [_reach(grid, point, axis, way, level) for axis in range(grid.known.ndim) for way in (-1, 1)]
    return Basin(
        moments=found,
        open=bool(grid.ends[labels == labels[point]].any()),
        reach=np.array([distance for distance, _ in reach]).reshape(-1, 2),
        reach_open=np.array([unmet for _, unmet in reach]).reshape(-1, 2),
        components=count,
        share=whole.volume / grid.volume if grid.volume else float("nan"),
    )


def _reach(grid: Grid, point: int, axis: int, way: int, level: float) -> tuple[float, bool]:
    """(distance along an axis to the first crossing of the level, whether the grid or its values end before it)."""
    place = np.unravel_index(point, grid.known.shape)
    row: tuple = tuple(slice(None) if k == axis else int(i) for k, i in enumerate(place))
    heights, known = grid.heights.reshape(grid.known.shape)[row], grid.known[row]
    x, start = grid.coordinates[axis], int(place[axis])
    at = start
    while 0 <= at + way < len(x) and heights[at + way] <= level:
        at += way
    ahead, walked = at + way, abs(float(x[at] - x[start]))
    if not 0 <= ahead < len(x) or not known[ahead]:
        return walked, True
    share = (level - heights[at]) / (heights[ahead] - heights[at])
    return walked + float(share) * abs(float(x[ahead] - x[at])), False
