"""A training's way over a plane: its checkpoints in order, arrows along the way, as many names as have room."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from landscape.results import SurfaceResult

from .groups import common_start
from .style import INK

LINE: dict[str, Any] = {
    "color": INK, "linewidth": 1.0, "marker": "o", "markersize": 2.2,
    "markerfacecolor": "white", "markeredgewidth": 0.6,
}  # fmt: skip
HALO = [Stroke(linewidth=2.4, foreground="white"), Normal()]
MOST_MARKERS = 40
_MOST_NAMES = 6
_LONGEST = 20
_APART = 42.0


def way(axes: Axes, result: SurfaceResult) -> list[tuple[Line2D, str]]:
    """The projected checkpoints joined in order, black on white so that it is seen on every colour; its legend."""
    points = result.trajectory
    if not len(points):
        return []
    every = -(-len(points) // MOST_MARKERS)
    axes.plot(*points.T, zorder=5, gid="trajectory", markevery=every, path_effects=HALO, **LINE)
    axes.plot(*points[-1], zorder=5.1, marker="o", markersize=4.0, color=INK, linestyle="none", gid="trajectory end")
    return [(Line2D([], [], **LINE), f"training, {' to '.join(ends(result.trajectory_labels))}")]


def ends(labels: Sequence[str]) -> tuple[str, str]:
    """First and last of some names, without what all begin with where they would be long."""
    chosen = labels if max(map(len, labels)) <= _LONGEST else short(labels)
    return chosen[0], chosen[-1]


def short(labels: Sequence[str]) -> list[str]:
    """Names without what all begin with, cut before the number in which they differ."""
    shared = common_start(labels).rstrip("0123456789.")
    return [label[len(shared) :] or label for label in labels]


def arrows(axes: Axes, points: np.ndarray) -> None:
    """Arrowheads at even distances along the way; call after the layout has settled. points: (T, 2)."""
    pixels = axes.transData.transform(points)
    walked = np.r_[0.0, np.cumsum(np.hypot(*np.diff(pixels, axis=0).T))]
    for place in np.arange(_APART / 2, walked[-1] - _APART / 6, _APART):
        back, here, on = (
            np.array([np.interp(place + shift, walked, column) for column in pixels.T]) for shift in (-4.0, 0.0, 4.0)
        )
        angle = np.degrees(np.arctan2(*(on - back)[::-1])) - 90
        axes.plot(
            *axes.transData.inverted().transform(here), marker=(3, 0, angle), markersize=4.8, color=INK,
            linestyle="none", zorder=5.2, markeredgecolor="white", markeredgewidth=0.4, gid="arrow",
        )  # fmt: skip


def named(result: SurfaceResult, marks: np.ndarray) -> tuple[np.ndarray, list[str], int]:
    """(points, names, how many of them are optional): the ends of the way, then some between, where no mark stands.

    marks: (m, 2) points that have names already.
    """
    points, labels = result.trajectory, result.trajectory_labels
    if not len(points):
        return points.reshape(0, 2), [], 0
    brief, near = short(labels), 1e-3 * np.array([np.ptp(result.x), np.ptp(result.y)])
    free = [i for i, p in enumerate(points) if not (np.abs(marks - p) <= near).all(axis=1).any()]
    between = np.unique(np.linspace(0, len(points) - 1, _MOST_NAMES + 2).round().astype(int)[1:-1]).tolist()
    first = [i for i in dict.fromkeys((0, len(points) - 1)) if i in free]
    others = [i for i in between if i in free and i not in first]
    whole = dict(zip((0, len(points) - 1), ends(labels), strict=True))
    return points[[*first, *others]], [*(whole[i] for i in first), *(brief[i] for i in others)], len(others)
