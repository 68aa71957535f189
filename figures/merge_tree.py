"""The merge tree of a scan: a branch for each minimum, up to the pass at which its basin joins a deeper one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from landscape.errors import InputError, illegal
from landscape.results import BasinResult, Result, SurfaceResult

from .contours import colour_bar, fill, label_lines, shade, thin_ticks
from .layout import legend_below, name_points, new_figure, renderer, settle
from .plane import frame
from .scales import choose_scale, limits, number, scale_axis
from .style import FAINT, INK, look, style

_NOWHERE = np.zeros((0, 2))


def draw(
    results: Sequence[Result],
    *,
    names: Sequence[str] | None = None,
    most: int = 8,
    width: str | None = None,
    scale: str = "auto",
    levels: int = 8,
) -> Figure:
    """The merge tree of one basin result; with the plane that it was measured on, beside its contours.

    A thick line rises from each minimum to the pass over which the basin joins that of a deeper minimum (elder rule);
    its length is the minimum's persistence, which stands below it. The deepest minimum's never ends. Marks stand at
    their heights, on the branch whose basin they lie in. names: of the marks. most: so many minima of largest
    persistence, besides those that marks lie by; the figure says how many are left out. width: single, or double
    beside contours. scale: of the heights, log where all are positive. levels: at most so many contour lines.
    """
    basins, surface = _sorted(results)
    names = list(names or basins.labels)
    if len(names) != len(basins.labels):
        raise InputError(f"names: {len(names)} given for {len(basins.labels)} points. Give one name for each.")
    shown = _chosen(basins, most)
    with style():
        figure = new_figure(width or ("double" if surface else "single"), 2.9)
        parts = figure.subplots(1, 2, width_ratios=(1.1, 1)) if surface else [figure.add_subplot()]
        _tree(parts[-1], basins, shown, scale, room=figure.get_figwidth() / len(parts))
        entries = [(_mark(k), name) for k, name in enumerate(names)]
        if surface:
            entries += [(_spots("minimum"), "minimum"), (_spots("saddle"), "pass")]
        hidden = len(basins.births) - len(shown)
        note = f"{hidden} minima of smaller persistence left out" if hidden else ""
        legend_below(figure, entries, note)
        if surface:
            _contours(figure, parts[0], surface, basins, shown, levels)
        return settle(figure)


def _sorted(results: Sequence[Result]) -> tuple[BasinResult, SurfaceResult | None]:
    basins = [result for result in results if isinstance(result, BasinResult)]
    planes = [result for result in results if isinstance(result, SurfaceResult) and len(result.shape) == 2]
    if len(basins) != 1 or len(planes) > 1 or len(basins) + len(planes) != len(results):
        raise InputError("merge_tree needs one basin result (`landscape basin`), alone or with the plane it is of.")
    if planes and (basins[0].dimension != 2 or basins[0].cells != planes[0].grid(basins[0].spec.quantity).size):
        raise InputError("this basin result was not measured on this plane. Measure it again, or leave the plane out.")
    return basins[0], planes[0] if planes else None


def _chosen(basins: BasinResult, most: int) -> list[int]:
    """The branches of largest persistence and those of the marks, with all that they join; deepest first."""
    if most < 1:
        raise illegal("most", most, "at least 1", "It counts minima.")
    order = np.argsort(-basins.persistence, kind="stable")[:most]
    shown: set[int] = set()
    for branch in (*order.tolist(), *basins.branches.tolist()):
        while branch >= 0:
            shown.add(branch)
            branch = int(basins.parents[branch])
    return sorted(shown)


def _tree(axes: Axes, basins: BasinResult, shown: list[int], scale: str, room: float) -> None:
    """Branches in an order in which no two lines cross, at heights of the loss."""
    order = _leaves(basins, shown)
    place = {branch: float(x) for x, branch in enumerate(order)}
    known = [basins.births[shown], basins.deaths[shown], basins.bases]
    if not np.isfinite(basins.deaths[shown]).any():
        known.append(basins.levels.ravel())
    heights = np.concatenate(known)
    chosen = choose_scale(heights, scale)
    low, high, threshold = limits(heights, chosen, margin=0.1)
    scale_axis(axes.yaxis, low, high, chosen, threshold)
    for branch in order:
        x, top = place[branch], min(float(basins.deaths[branch]), high)
        axes.plot([x, x], [basins.births[branch], top], color=INK, linewidth=2.4, solid_capstyle="butt", gid="branch")
        if np.isfinite(basins.deaths[branch]):
            axes.plot([place[int(basins.parents[branch])], x], [top, top], color=INK, linewidth=0.8, gid="pass")
        else:
            axes.plot([x], [high], color=INK, marker="^", markersize=6, clip_on=False, gid="root")
    for k, (base, branch) in enumerate(zip(basins.bases, basins.branches, strict=True)):
        at = _standing(basins, int(branch), float(base), place)
        axes.add_line(_mark(k, [at], [base]))
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.xaxis.set_major_locator(FixedLocator([place[branch] for branch in order]))
    wide = len(order) <= 1.7 * room
    axes.set_xticklabels([_words(basins, branch, wide) for branch in order])
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_ylabel(basins.spec.quantity)
    axes.set_xlabel("minimum, and its persistence" if wide else "minimum")


def _leaves(basins: BasinResult, shown: list[int]) -> list[int]:
    """Each branch, then those that join it, the lowest pass next to it, each with its own."""

    def below(branch: int) -> list[int]:
        joining = [other for other in shown if basins.parents[other] == branch]
        joining.sort(key=lambda other: (basins.deaths[other], other))
        return [branch, *(leaf for other in joining for leaf in below(other))]

    return [leaf for root in shown if basins.parents[root] < 0 for leaf in below(root)]


def _standing(basins: BasinResult, branch: int, height: float, place: dict[int, float]) -> float:
    """Where a point of this height stands: on its branch, or on that which the branch has joined below the height."""
    while height > basins.deaths[branch]:
        branch = int(basins.parents[branch])
    return place[branch]


def _words(basins: BasinResult, branch: int, wide: bool) -> str:
    persistence = float(f"{basins.persistence[branch]:.2g}")
    return f"{branch + 1}\n{number(persistence)}" if wide else str(branch + 1)


def _mark(k: int, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    return Line2D(
        x, y, linestyle="none", marker=look(k).marker, markersize=5.5, markerfacecolor="white",
        markeredgecolor="black", markeredgewidth=1.0, zorder=7, gid="mark", clip_on=False,
    )  # fmt: skip


def _spots(kind: str, points: np.ndarray = _NOWHERE) -> Line2D:
    """Minima as dots, passes as crosses."""
    marker, size, colour, order = {"minimum": ("o", 3.4, "black", 8), "saddle": ("X", 5.5, FAINT, 6)}[kind]
    return Line2D(
        points[:, 0], points[:, 1], linestyle="none", marker=marker, markersize=size, markerfacecolor=colour,
        markeredgecolor="black", zorder=order, gid=kind, clip_on=False,
    )  # fmt: skip


def _contours(
    figure: Figure, axes: Any, surface: SurfaceResult, basins: BasinResult, shown: list[int], levels: int
) -> None:
    """The plane with the same minima and numbers, the passes as crosses, and the marks."""
    (values,), shades = shade([surface.grid(basins.spec.quantity)], levels)
    filled, lines = fill(axes, surface.x, surface.y, values, shades)
    bar = colour_bar(axes, filled, shades, basins.spec.quantity)
    frame(axes, surface, surface.labels)
    minima, saddles = basins.minima[shown], basins.saddles[shown]
    axes.add_line(_spots("minimum", minima))
    axes.add_line(_spots("saddle", saddles))
    for k, point in enumerate(basins.points):
        axes.add_line(_mark(k, [point[0]], [point[1]]))
    settle(figure)
    thin_ticks(axes, bar)
    texts = name_points(axes, minima, [str(branch + 1) for branch in shown])
    points = np.concatenate([basins.points, saddles[np.isfinite(saddles).all(axis=1)]])
    label_lines(axes, lines, shades, [text.get_window_extent(renderer(figure)) for text in texts], points)
