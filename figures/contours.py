"""Filled and labelled contours of a grid, logarithmic where its values allow, empty where they are not finite."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.contour import QuadContourSet
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from .layout import overlaps, renderer
from .scales import log_levels, logarithms, number
from .style import COLOUR_MAP, HATCH


@dataclass(frozen=True)
class Contours:
    """Areas, lines, colour bar, and how a level is written."""

    filled: QuadContourSet
    lines: QuadContourSet
    bar: Colorbar
    write: Callable[[float], str]


def contour(axes: Axes, x: np.ndarray, y: np.ndarray, grid: np.ndarray, words: str, count: int) -> Contours:
    """Filled contours, contour lines and colour bar; drawn from log₁₀ of the values where none is negative.

    grid: (X, Y). words: name and unit of the values. count: at most so many lines.
    """
    shown, levels, logarithmic = _levels(grid, count)
    finite = shown[np.isfinite(shown)]
    edges = np.unique([finite.min(), *levels, finite.max()]) if len(finite) else np.array([0.0, 1.0])
    if len(edges) < 2:
        edges = np.array([edges[0] - 0.5, edges[0] + 0.5])
    masked = np.ma.masked_invalid(shown.T)
    axes.add_patch(
        Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor="white", edgecolor="#b0b0b0", hatch=HATCH,
                  linewidth=0, zorder=-2)
    )  # fmt: skip
    filled = axes.contourf(x, y, masked, levels=edges, cmap=COLOUR_MAP, zorder=0)
    filled.set_edgecolor("face")  # hides the hairlines that viewers show between neighbouring areas
    filled.set_linewidth(0.3)
    lines = axes.contour(x, y, masked, levels=levels, linewidths=0.6, zorder=1,
                         colors=[_readable(filled, level) for level in levels] or None)  # fmt: skip
    write = _writer(logarithmic)
    bar = axes.figure.colorbar(
        filled,
        cax=axes.inset_axes((1.03, 0, 0.045, 1)),
        spacing="proportional",
        format=FuncFormatter(lambda v, _: write(v)),
    )
    bar.set_ticks(FixedLocator(levels.tolist()))
    bar.set_label(words)
    return Contours(filled, lines, bar, write)


def _levels(grid: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """(values as drawn, contour levels in the same measure, whether both are log₁₀)."""
    (shown,), logarithmic = logarithms([grid])
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if logarithmic:
        return shown, np.log10(log_levels(10.0**low, 10.0**high, count)), True
    levels = np.asarray(MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    return shown, levels[(levels >= low) & (levels <= high)], False


def _writer(logarithmic: bool) -> Callable[[float], str]:
    return (lambda v: number(10.0**v)) if logarithmic else number


def thin_ticks(axes: Axes, bar: Colorbar) -> None:
    """Leave out the ticks of a short colour bar that would touch, those between powers of ten first."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    ticks = np.asarray(bar.get_ticks(), float)
    heights = bar.ax.transData.transform(np.stack([np.zeros_like(ticks), ticks], axis=1))[:, 1]
    kept: list[int] = []
    for i in sorted(range(len(ticks)), key=lambda i: (abs(ticks[i] - round(ticks[i])) > 1e-9, i)):
        if all(abs(heights[i] - heights[k]) >= 9.5 * figure.dpi / 72 for k in kept):
            kept.append(i)
    bar.set_ticks(FixedLocator(sorted(ticks[kept].tolist())))


def label_lines(axes: Axes, contours: Contours, taken: list[Bbox], marks: np.ndarray) -> None:
    """Write each contour's value once, where it meets no name, mark, frame or other label."""
    frame, figure = axes.get_window_extent(), axes.get_figure(root=True)
    assert figure is not None
    point = figure.dpi / 72
    pixels = axes.transData.transform(marks)
    taken = [*taken, *(Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in pixels)]
    lines = contours.lines
    for level, path in zip(np.asarray(lines.levels, float).tolist(), lines.get_paths(), strict=True):
        text = contours.write(float(level))
        half_width = 2.2 * (len(text) + 1) * point
        vertices = _long_lines(axes, path, 5 * half_width)
        best = _roomiest(axes.transData.transform(vertices), half_width, 5.0 * point, frame, taken)
        if best is None:
            continue
        before, (x, y) = len(lines.labelTexts), vertices[best]
        lines.clabel([level], manual=[(float(x), float(y))], fmt=contours.write, fontsize=7, inline_spacing=2)
        for label in lines.labelTexts[before:]:
            label.set(color=_readable(contours.filled, level))
            taken.append(label.get_window_extent(renderer(figure)).padded(2.0))


def _readable(filled: QuadContourSet, level: float) -> str:
    """Black or white, whichever stands out against the map's colour at this level."""
    colour = np.asarray(filled.cmap(np.asarray(filled.norm(np.asarray(level)))))
    return "white" if colour[:3] @ (0.2126, 0.7152, 0.0722) < 0.5 else "black"


def _long_lines(axes: Axes, path: Path, least: float) -> np.ndarray:
    """(v, 2) vertices of those parts of a contour that are at least so many pixels long."""
    parts = [np.asarray(part) for part in path.to_polygons(closed_only=False)]
    steps = [np.diff(axes.transData.transform(part), axis=0) for part in parts]
    return np.concatenate(
        [np.empty((0, 2)), *(part for part, step in zip(parts, steps, strict=True) if np.hypot(*step.T).sum() >= least)]
    )


def _roomiest(points: np.ndarray, half_width: float, half_height: float, frame: Bbox, taken: list[Bbox]) -> int | None:
    half = max(half_width, half_height)
    free = []
    for i, (x, y) in enumerate(points):
        box = Bbox.from_extents(x - half, y - half, x + half, y + half)
        inside = box.x0 > frame.x0 and box.x1 < frame.x1 and box.y0 > frame.y0 and box.y1 < frame.y1
        if inside and not overlaps(box, taken):
            free.append(i)
    if not free:
        return None
    centres = np.array([[(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2] for b in taken])
    room = [np.linalg.norm(centres - points[i], axis=1).min() for i in free]
    return free[int(np.argmax(room))]
