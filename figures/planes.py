"""The same quantity on two to four planes side by side, with one scale of colours."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.results import SurfaceResult

from .contours import colour_bar, fill, label_lines, shade, thin_ticks
from .coordinates import aspect_of, is_plane
from .holes import hatch
from .layout import fit, legend_below, new_figure, renderer, settle, wrap
from .plane import frame, mark, name_all, taken_points
from .quantities import missing, values_of
from .style import style
from .titles import titles
from .trajectory import way

_MOST = 4


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    levels: int = 10,
) -> Figure:
    """Contours of one quantity on two to four planes beside each other, on one scale of colours and levels.

    quantity, levels: as of the recipe plane. names: titles; default what differs between the scans, such as their
    batch-norm policy.
    """
    if not 2 <= len(results) <= _MOST or not all(is_plane(result) for result in results):
        raise InputError(f"planes needs two to {_MOST} plane scans (`landscape surface plane` or `random`).")
    grids, words = zip(*(values_of(result, quantity) for result in results), strict=True)
    headings = titles(results, names)
    columns = 2 if len(results) != 3 else 3
    with style():
        figure = new_figure("double", 3.0)
        grid = figure.add_gridspec(-(-len(results) // columns), columns)
        panels = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(len(results))]
        shown, shades = shade(grids, levels)
        filled, lines = zip(
            *(fill(a, r.x, r.y, s, shades) for a, r, s in zip(panels, results, shown, strict=True)), strict=True
        )
        bars = [colour_bar(panels[i], filled[i], shades, words[0]) for i in range(columns - 1, len(panels), columns)]
        entries = {}
        for axes, result, values in zip(panels, results, grids, strict=True):
            frame(axes, result, result.labels, 96 // columns)
            mark(axes, result.marks)
            entries |= hatch(axes, result.x, result.y, missing(result, values))
            entries |= {label: handle for handle, label in way(axes, result)}
        _title(panels, headings, columns)
        legend_below(figure, [(handle, label) for label, handle in entries.items()])
        rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
        fit(figure, rows, aspect_of(results[0]) or 0.8)
        for bar in bars:
            thin_ticks(panels[0], bar)
        for axes, result, own in zip(panels, results, lines, strict=True):
            named = name_all(axes, result, result.labels)
            boxes = [text.get_window_extent(renderer(figure)) for text in named]
            label_lines(axes, own, shades, boxes, taken_points(result))
        return settle(figure)


def _title(panels: Sequence[Axes], headings: Sequence[str], columns: int) -> None:
    """Titles; names of axes at the outside only, where they are those of the neighbour."""
    for number, (axes, heading) in enumerate(zip(panels, headings, strict=True)):
        axes.set_title(wrap(heading, 66 // columns, 2))
        if number % columns and axes.get_ylabel() == panels[number - 1].get_ylabel():
            axes.set_ylabel("")
