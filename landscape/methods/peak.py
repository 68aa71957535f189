"""How high a curve rises between the points of a grid: maxima refined by parabolas through three points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_GOLDEN = 0.381966
_NEAR = 0.05
"""A point closer to one already known than this share of the bracket would tell nothing about the curve."""


@dataclass(frozen=True)
class Maximum:
    """Of one curve y(t) at the points known so far: its height and place, and the three points to go on from.

    bracket: t and y at the highest point and its neighbours (at an end, the two next to it). None where it is not
    finite, and at an end beside which the parabola rises no further.
    """

    height: float
    place: float
    bracket: tuple[np.ndarray, np.ndarray] | None

    @property
    def vertex(self) -> tuple[float, float]:
        """Place and height of the top of the parabola through the bracket; the maximum itself without one."""
        if self.bracket is None:
            return self.place, self.height
        slope, bend = _newton(*self.bracket)
        if not bend < 0:
            return self.place, self.height
        t = self.bracket[0]
        place = float((t[0] + t[1]) / 2 - slope / (2 * bend))
        if not t[0] < place < t[2]:
            return self.place, self.height
        return place, max(self.predicted(place), self.height)

    def predicted(self, t: float) -> float:
        """The parabola at t; NaN outside the bracket."""
        if self.bracket is None or not self.bracket[0][0] <= t <= self.bracket[0][2]:
            return float("nan")
        slope, bend = _newton(*self.bracket)
        (a, b, _), y = self.bracket
        return float(y[0] + slope * (t - a) + bend * (t - a) * (t - b))

    @property
    def next(self) -> float:
        """Where to look next: the parabola's top, or if that is a point known already, beside it in the wider half."""
        assert self.bracket is not None
        (low, middle, high), place = self.bracket[0], self.vertex[0]
        if abs(place - self.place) > _NEAR * (high - low):
            return place
        far = high if high - middle >= middle - low else low
        return float(middle + _GOLDEN * (far - middle))


def _newton(t: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """First and second divided difference of three points."""
    first, second = (y[1] - y[0]) / (t[1] - t[0]), (y[2] - y[1]) / (t[2] - t[1])
    return float(first), float((second - first) / (t[2] - t[0]))


def maximum(t: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"]) -> Maximum:
    """The highest of at least three points (t ascending); infinite, at the first such place, if one is not finite."""
    lost = np.flatnonzero(~np.isfinite(y))
    if len(lost):
        return Maximum(float("inf"), float(t[lost[0]]), None)
    top = int(np.argmax(y))
    start = min(max(top - 1, 0), len(t) - 3)
    around = slice(start, start + 3)
    found = Maximum(float(y[top]), float(t[top]), (t[around], y[around]))
    inside = 0 < top < len(t) - 1
    rises = abs(found.vertex[0] - found.place) > _NEAR * (t[around][2] - t[around][0])
    return found if inside or rises else Maximum(found.height, found.place, None)


@dataclass(frozen=True)
class Refined:
    """t (points,) and the curves y (points, curves) there; of each curve its highest point and how sure its height is.

    accuracies: how much higher the last parabola through the maximum reaches, or by how much it missed the point
    evaluated last, whichever is larger; 0 where an end is the maximum, NaN where none was tested or one is not finite.
    """

    t: np.ndarray
    y: np.ndarray
    heights: np.ndarray
    places: np.ndarray
    accuracies: np.ndarray


def refine(
    function: Callable[[float], np.ndarray],
    t: Float[np.ndarray, " points"],
    y: Float[np.ndarray, "points curves"],
    wanted: Sequence[int],
    share: float,
    floor: Float[np.ndarray, " curves"],
    budget: int,
) -> Refined:
    """Evaluate several curves at up to `budget` more points, until the heights of the `wanted` ones are known.

    function(t) gives all curves at t. Known means: accuracy at most share·height, or at most the curve's floor. Each
    point is chosen for the curve that is known worst: the top of the parabola through its highest point and the
    neighbours (successive parabolic interpolation, Brent 1973, chapter 5). A second, higher maximum between two
    points of the grid that are both low is not found.
    """
    missed = np.full(y.shape[1], np.nan)
    for left in range(budget, -1, -1):
        tops = [maximum(t, column) for column in y.T]
        accuracies = np.array([_accuracy(top, miss) for top, miss in zip(tops, missed, strict=True)])
        doubts = [_doubt(tops[k], accuracies[k], max(share * tops[k].height, floor[k])) for k in wanted]
        if not left or max(doubts, default=0.0) <= 1:
            break
        place = tops[wanted[int(np.argmax(doubts))]].next
        new = np.asarray(function(place), dtype=np.float64)
        predicted = np.array([top.predicted(place) for top in tops])
        missed = np.where(np.isnan(predicted), missed, np.abs(new - predicted))
        spot = int(np.searchsorted(t, place))
        t, y = np.insert(t, spot, place), np.insert(y, spot, new, axis=0)
    heights, places = np.array([top.height for top in tops]), np.array([top.place for top in tops])
    return Refined(t, y, heights, places, accuracies)


def _accuracy(top: Maximum, missed: float) -> float:
    if top.bracket is None:
        return 0.0 if np.isfinite(top.height) else float("nan")
    return float(max(top.vertex[1] - top.height, missed)) if np.isfinite(missed) else float("nan")


def _doubt(top: Maximum, accuracy: float, allowed: float) -> float:
    """Accuracy over what is allowed; infinite for a maximum that no point has tested yet."""
    if top.bracket is None:
        return 0.0
    return accuracy / allowed if allowed > 0 and np.isfinite(accuracy) else float("inf")
