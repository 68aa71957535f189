"""Text that neither overlaps nor leaves the page: wrapped names, a legend outside the axes, names beside points."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from landscape.errors import illegal

from .style import WIDTHS

_PAPER = {"boxstyle": "round,pad=0.12", "facecolor": "white", "alpha": 0.8, "linewidth": 0}


def new_figure(width: str, height: float) -> Figure:
    """An empty figure of a named column width and a height in inches, laid out by constrained layout."""
    if width not in WIDTHS:
        raise illegal("width", width, f"one of {', '.join(WIDTHS)}", "")
    return Figure(figsize=(WIDTHS[width], height), layout="constrained")


def wrap(text: str, width: int, lines: int = 3) -> str:
    """`text` in at most `lines` lines of at most `width` characters, broken at spaces and - _ / if possible.

    No-break spaces hold together, as between a number and its unit.
    """
    pieces = [p for p in re.split(r"(?<=[ \-_/])", re.sub(r"[^\S\u00a0]+", " ", text).strip()) if p]
    rows = [""]
    for piece in pieces:
        if rows[-1] and len((rows[-1] + piece).rstrip()) > width:
            rows.append("")
        rows[-1] += piece
        while len(rows[-1].rstrip()) > width:
            rows[-1:] = [rows[-1][:width], rows[-1][width:]]
    rows = [row.rstrip() for row in rows]
    if len(rows) > lines:
        rows = [*rows[: lines - 1], rows[lines - 1][: width - 1] + "…"]
    shown = "\n".join(rows) or "(no name)"
    return " " + shown if shown.startswith("_") else shown  # matplotlib leaves out legend entries that begin with _


def legend_below(figure: Figure, entries: Sequence[tuple[Any, str]], note: str = "") -> None:
    """A legend under the axes, in as many columns as fit; the figure grows by the legend's height.

    note: one sentence above the entries, on what error bars and small marks mean. Nothing to say leaves the figure.
    """
    if not (entries or note):
        return
    inches = figure.get_size_inches()
    room = figure.dpi * (inches[0] - 0.1)
    handles, labels = [handle for handle, _ in entries], [wrap(label, 42, 2) for _, label in entries]
    note = wrap(note, int(inches[0] * 17), 3) if note else ""
    for rows in range(1, max(len(entries), 1) + 1):
        columns = -(-len(entries) // rows) or 1
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=note or None)
        extent = legend.get_window_extent(renderer(figure))
        if extent.width <= room or columns == 1:
            figure.set_size_inches(inches[0], inches[1] + extent.height / figure.dpi)
            return
        legend.remove()


def renderer(figure: Figure) -> Any:
    """A renderer to measure text with; the canvas of a bare Figure draws to no screen."""
    canvas = figure.canvas
    return (canvas if isinstance(canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)).get_renderer()


def fit(figure: Figure, panels: Sequence[Sequence[Axes]], aspect: float) -> Figure:
    """Settle the figure at the height at which its panels, rows of equal ones, have this height over width."""
    rows, columns, width = len(panels), len(panels[0]), figure.get_figwidth()
    for _ in range(3):
        settle(figure)
        boxes = [axes.get_tightbbox(renderer(figure)) for row in panels for axes in row]
        used, frame = Bbox.union([box for box in boxes if box is not None]), panels[0][0].get_window_extent()
        spare = (width - used.width / figure.dpi - 0.1) / columns
        wanted = rows * float(np.clip(aspect * (frame.width / figure.dpi + spare), 0.4, 1.4 * width / columns))
        rest = max((used.height - rows * frame.height) / figure.dpi, 0.3) + sum(
            legend.get_window_extent(renderer(figure)).height / figure.dpi + 0.06 for legend in figure.legends
        )
        figure.set_size_inches(width, wanted + rest + 0.1)
    return settle(figure)


def settle(figure: Figure) -> Figure:
    """Run the layout once under the present style, so that lazily made ticks do not depend on later settings."""
    figure.draw_without_rendering()
    return figure


def part_ticks(axes: Axes) -> None:
    """Put every second name below the axes a line lower where neighbours would touch. Call after the layout settled."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    labels = axes.get_xticklabels()
    boxes = [label.get_window_extent(renderer(figure)) for label in labels]
    space = 2.5 * figure.dpi / 72
    if any(right.x0 - left.x1 < space for left, right in pairwise(boxes)):
        names = [label.get_text() for label in labels]
        axes.set_xticks(axes.get_xticks(), [f"\n{name}" if k % 2 else name for k, name in enumerate(names)])
        settle(figure)


def cross_out(axes: Axes, x: np.ndarray, colour: str) -> None:
    """Crosses on the upper edge, for points that have no finite value."""
    if len(x):
        axes.plot(
            x, np.ones(len(x)), linestyle="none", marker="x", color=colour, markersize=3.6,
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=5,
        )  # fmt: skip


_SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_BEYOND = 4.0  # outside the axes stand the ticks: worse than a place on a marker
_ALIGN = {1: ("left", "bottom"), -1: ("right", "top"), 0: ("center", "center")}


def name_points(
    axes: Axes, points: np.ndarray, names: Sequence[str], size: float = 7.0, optional: int = 0
) -> list[Text]:
    """Write each name beside its point: inside the axes, on no other name and on no point.

    points: (m, 2) in data coordinates, those with a name first. The last `optional` names are left out where there
    is no room for them. Call after the layout has settled; the names take no part in it.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    pixels = axes.transData.transform(points)
    frame = axes.get_window_extent()
    marker = 4.0 * figure.dpi / 72
    taken = [Bbox.from_extents(x - marker, y - marker, x + marker, y + marker) for x, y in pixels]
    written = []
    for number, (point, name) in enumerate(zip(points, names, strict=False)):
        candidates = [
            _annotation(axes, point, wrap(name, width, 4), side, size) for width in (24, 14) for side in _SIDES
        ]
        boxes = [text.get_window_extent(renderer(figure)).padded(1.0) for text in candidates]
        others = [box for i, box in enumerate(taken) if i != number]
        costs = [_BEYOND * _outside(box, frame) + sum(_shared(box, other) for other in others) for box in boxes]
        best = int(np.argmin(costs))
        if costs[best] > 0 and number >= len(names) - optional:
            best = -1
        for i, text in enumerate(candidates):
            if i != best:
                text.remove()
        if best >= 0:
            taken.append(boxes[best])
            written.append(candidates[best])
    return written


def _annotation(axes: Axes, point: np.ndarray, name: str, side: tuple[int, int], size: float) -> Text:
    reach = 6.0 if 0 in side else 4.5
    text = axes.annotate(
        name, (float(point[0]), float(point[1])), (reach * side[0], reach * side[1]), textcoords="offset points",
        ha=_ALIGN[side[0]][0], va=_ALIGN[side[1]][1], size=size, bbox=dict(_PAPER), zorder=8,
        annotation_clip=False, linespacing=1.05,
    )  # fmt: skip
    text.set_in_layout(False)
    return text


def _outside(box: Bbox, frame: Bbox) -> float:
    return box.width * box.height - _shared(box, frame)


def _shared(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)


def overlaps(box: Bbox, others: Iterable[Bbox]) -> bool:
    """Whether a box shares area with any of the others."""
    return any(_shared(box, other) > 0 for other in others)
