"""Filled and labelled contours of a grid, logarithmic where its values allow, empty where they are not finite."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from .layout import overlaps, renderer
from .scales import log_levels, logarithms, number
from .style import COLOUR_MAP, SIGNED_MAP


@dataclass(frozen=True)
class Shades:
    """Levels and colours of one quantity, the same in all panels of a figure; log₁₀ of its values where logarithmic."""

    levels: np.ndarray
    edges: np.ndarray
    logarithmic: bool
    colours: Colormap
    norm: Normalize

    def write(self, level: float) -> str:
        """A level as the value it stands for."""
        return number(10.0**level) if self.logarithmic else number(level)

    def ink(self, level: float) -> str:
        """Black or white, whichever stands out against the map's colour at this level."""
        colour = np.asarray(self.colours(np.asarray(self.norm(np.asarray(level)))))
        return "white" if colour[:3] @ (0.2126, 0.7152, 0.0722) < 0.5 else "black"


def shade(grids: Sequence[np.ndarray], count: int) -> tuple[list[np.ndarray], Shades]:
    """(values as drawn, their levels and colours): log₁₀ where none is negative, a map centred on 0 for both signs.

    count: at most so many levels. Values that are not finite are NaN.
    """
    shown, logarithmic = logarithms(grids)
    finite = np.concatenate([values[np.isfinite(values)] for values in shown])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if logarithmic:
        levels = np.log10(log_levels(10.0**low, 10.0**high, count))
    else:
        levels = np.asarray(MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
        levels = levels[(levels >= low) & (levels <= high)]
    edges = np.unique([low, *levels, high])
    if len(edges) < 2:
        edges = np.array([edges[0] - 0.5, edges[0] + 0.5])
    signed = not logarithmic and low < 0 < high
    reach = max(-low, high)
    norm = Normalize(-reach, reach) if signed else Normalize(edges[0], edges[-1])
    return shown, Shades(levels, edges, logarithmic, colormaps[SIGNED_MAP if signed else COLOUR_MAP], norm)


def fill(
    axes: Axes, x: np.ndarray, y: np.ndarray, shown: np.ndarray, shades: Shades
) -> tuple[QuadContourSet, QuadContourSet]:
    """(areas, lines): filled contours and their lines, dashed below zero; shown: (X, Y) from `shade`."""
    masked = np.ma.masked_invalid(shown.T)
    filled = axes.contourf(x, y, masked, levels=shades.edges, cmap=shades.colours, norm=shades.norm, zorder=0)
    filled.set_edgecolor("face")  # hides the hairlines that viewers show between neighbouring areas
    filled.set_linewidth(0.3)
    lines = axes.contour(
        x, y, masked, levels=shades.levels, linewidths=0.6, zorder=1,
        colors=[shades.ink(level) for level in shades.levels] or None,
        linestyles=["--" if level < 0 and not shades.logarithmic else "-" for level in shades.levels] or None,
    )  # fmt: skip
    return filled, lines


def colour_bar(axes: Axes, filled: ScalarMappable, shades: Shades, words: str) -> Colorbar:
    """A bar beside the axes with a tick at every level. words: name and unit of the values."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(
        filled,
        cax=axes.inset_axes((1.03, 0, 0.045, 1)),
        spacing="proportional",
        format=FuncFormatter(lambda v, _: shades.write(v)),
    )
    bar.set_ticks(FixedLocator(shades.levels.tolist()))
    bar.set_label(words)
    return bar


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


def label_lines(axes: Axes, lines: QuadContourSet, shades: Shades, taken: list[Bbox], marks: np.ndarray) -> None:
    """Write each contour's value once, where it meets no name, mark (m, 2), frame or other label."""
    frame, figure = axes.get_window_extent(), axes.get_figure(root=True)
    assert figure is not None
    point = figure.dpi / 72
    pixels = axes.transData.transform(marks)
    taken = [*taken, *(Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in pixels)]
    for level, path in zip(np.asarray(lines.levels, float).tolist(), lines.get_paths(), strict=True):
        text = shades.write(float(level))
        half_width = 2.2 * (len(text) + 1) * point
        vertices = _long_lines(axes, path, 5 * half_width)
        best = _roomiest(axes.transData.transform(vertices), half_width, 5.0 * point, frame, taken)
        if best is None:
            continue
        before, (x, y) = len(lines.labelTexts), vertices[best]
        space = 5 if text.startswith("−") else 2  # a dash of the line would lengthen the sign
        lines.clabel([level], manual=[(float(x), float(y))], fmt=shades.write, fontsize=7, inline_spacing=space)
        for label in lines.labelTexts[before:]:
            label.set(color=shades.ink(level))
            taken.append(label.get_window_extent(renderer(figure)).padded(2.0))


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
