"""The loss on a plane, with the minima at their true coordinates: filled, labelled, logarithmic contours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text

from landscape.results import SurfaceResult

from .contours import Shades, colour_bar, fill, label_lines, shade, thin_ticks
from .coordinates import aspect_of, axis_names, default_names, only_plane
from .holes import counted, hatch
from .layout import fit, legend_below, name_points, new_figure, renderer, settle, wrap
from .quantities import interpolation_note, missing, values_of
from .scales import scale_axis
from .style import LOOKS, style
from .trajectory import arrows, named, way

_OWN_SCALES = "each axis has its own scale"


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    width: str = "single",
    levels: int = 10,
) -> Figure:
    """Contours of one quantity on a plane through checkpoints (or around one), minima and training marked and named.

    quantity: train loss, test loss, train error, test error (in %), or any other that the scan holds. names: of the
    marked checkpoints. levels: at most so many contour lines, at round numbers; logarithmic, and interpolated as
    logarithms, when no value is negative (zeros share the lowest colour), linear otherwise; values of both signs
    take a map centred on 0 and dashed lines below it. Points without a number are hatched, by kind.
    """
    result = only_plane(results, "plane")
    names = default_names(result, names)
    with style():
        figure = new_figure(width, 3.0)
        axes = figure.add_subplot()
        drawn = backdrop(axes, result, quantity, names, levels)
        legend_below(figure, [*drawn.holes, *way(axes, result)], drawn.note)
        fit(figure, [[axes]], aspect_of(result) or 0.8)
        thin_ticks(axes, drawn.bar)
        taken = [text.get_window_extent(renderer(figure)) for text in name_all(axes, result, names)]
        label_lines(axes, drawn.lines, drawn.shades, taken, taken_points(result))
        return settle(figure)


_SHORTEST = 22
"""Characters in a line of the vertical axis's name, however flat the plane."""


@dataclass(frozen=True)
class Backdrop:
    """Contours of a plane, drawn: what labels them, the legend of their holes, and what has to be said of them."""

    lines: QuadContourSet
    shades: Shades
    bar: Colorbar
    words: str
    holes: list[tuple[Patch, str]]
    note: str


def backdrop(axes: Axes, result: SurfaceResult, quantity: str, names: Sequence[str], levels: int) -> Backdrop:
    """Contours of one quantity with their bar, the plane's axes, marked checkpoints, and points without a number."""
    grid, words = values_of(result, quantity)
    (shown,), shades = shade([grid], levels)
    filled, lines = fill(axes, result.x, result.y, shown, shades)
    bar = colour_bar(axes, filled, shades, words)
    frame(axes, result, names)
    mark(axes, result.marks)
    kinds = missing(result, grid)
    notes = [interpolation_note(result), "" if aspect_of(result) else _OWN_SCALES]
    holes = counted(hatch(axes, result.x, result.y, kinds), kinds)
    return Backdrop(lines, shades, bar, words, holes, "; ".join(filter(None, notes)))


def frame(axes: Axes, result: SurfaceResult, names: Sequence[str], room: int = 52) -> None:
    """Limits, ticks, aspect and names of a plane's two axes, in lines of at most `room` characters."""
    first, second = axis_names(result, names)
    first, second = (
        wrap(first, room, 2),
        wrap(second, max(_SHORTEST, int(room * min(1.0, aspect_of(result) or 1.0))), 3),
    )
    axes.set_aspect("equal" if aspect_of(result) else "auto")
    for axis, values in ((axes.xaxis, result.x), (axes.yaxis, result.y)):
        scale_axis(axis, float(values.min()), float(values.max()), "linear")
    axes.set(xlabel=first, ylabel=second)


def mark(axes: Axes, marks: np.ndarray) -> None:
    """The marked checkpoints at their true coordinates (m, 2)."""
    for place, as_ in zip(marks, LOOKS, strict=False):
        axes.plot(
            *place, linestyle="none", marker=as_.marker, markersize=5.5, markerfacecolor="white",
            markeredgecolor="black", markeredgewidth=1.0, zorder=7, gid="mark", clip_on=False,
        )  # fmt: skip


def name_all(axes: Axes, result: SurfaceResult, names: Sequence[str]) -> list[Text]:
    """The arrows of a training and the names of marks and of some of its checkpoints; call when the layout is done."""
    places, steps, optional = named(result, result.marks)
    if len(result.trajectory):
        arrows(axes, result.trajectory)
    points = np.concatenate([result.marks, places, result.trajectory.reshape(-1, 2)])
    return name_points(axes, points, [*names, *steps], optional=optional)


def taken_points(result: SurfaceResult) -> np.ndarray:
    """(k, 2) points on which no label may be written."""
    return np.concatenate([result.marks, result.trajectory.reshape(-1, 2)])
