"""One quantity over a plane in three dimensions, with its contours on the floor and the minima above them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.interpolate import RegularGridInterpolator

from landscape.results import SurfaceResult

from .coordinates import default_names, only_plane
from .layout import legend_below, new_figure
from .quantities import interpolation_note, missing, values_of
from .relief import CUT, CUT_EDGE, cut_note, dress, fill_room, heights_of, sheet, space, span
from .style import INK, LOOKS, WIDTHS, style
from .trajectory import ends

_ASPECT = 0.86
_DEPTH = 0.36  # room between the surface and the floor, in heights of the surface
_LIGHT = 0.35


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    scale: str = "auto",
    ceiling: float | None = None,
    elevation: float = 27.0,
    azimuth: float = -58.0,
    width: str = "single",
) -> Figure:
    """One plane scan as a 3-D surface, cut at a ceiling, its contours on the floor, minima with drop lines.

    quantity: train loss, test loss, train error, test error, or any other that the scan holds. names: of the
    marked checkpoints. scale: of the height; auto is logarithmic when no value is negative, linear otherwise.
    ceiling: the surface is cut off above it, a grey flat top, and the figure says so; default none. Contours are at
    the ticks of the height. Cells with a corner that is not finite are left open. elevation, azimuth: of the eye.
    """
    result = only_plane(results, "surface_3d")
    grid, words = values_of(result, quantity)
    names = default_names(result, names)
    with style():
        (height,), logarithmic, top = heights_of([grid], ceiling, scale)
        low, high = span([height], top)
        floor = low - _DEPTH * (high - low)
        figure = new_figure(width, _ASPECT * WIDTHS["single"])
        drawn = figure.get_figheight()
        legend_below(figure, _entries(result, names, cut_note([grid], ceiling)), _note(result, grid))
        figure.set_layout_engine("none")
        foot = 1 - drawn / figure.get_figheight()
        axes = space(figure, (0, foot, 1, 1 - foot), elevation, azimuth)
        axes.computed_zorder = False
        ticks = dress(axes, result, words, (low, high), logarithmic, floor)
        _contours(axes, result, height, ticks, floor)
        sheet(axes, result, height, Normalize(low, high), top, _LIGHT)
        _drop(axes, result, np.minimum(height, top), floor)
        return fill_room(figure, axes, foot)


def _contours(axes: Any, result: SurfaceResult, height: np.ndarray, levels: np.ndarray, floor: float) -> None:
    """Lines on the floor where the surface has these heights."""
    x, y = np.meshgrid(result.x, result.y, indexing="ij")
    finite = height[np.isfinite(height)]
    inside = [level for level in levels if finite.size and finite.min() < level < finite.max()]
    if inside:
        axes.contour(
            x,
            y,
            np.ma.masked_invalid(height),
            levels=inside,
            offset=floor,
            colors=INK,
            linewidths=0.6,
            linestyles="-",
            zorder=1,
        )


def _drop(axes: Any, result: SurfaceResult, height: np.ndarray, floor: float) -> None:
    """Marks and the training on the surface and, joined to them by drop lines, on the floor."""
    above = RegularGridInterpolator((result.x, result.y), height, bounds_error=False)
    if len(result.trajectory):
        x, y = result.trajectory.T
        axes.plot(x, y, np.full(len(x), floor), color=INK, linewidth=0.8, marker="o", markersize=1.4, zorder=1.5)
        axes.plot(x, y, above(result.trajectory), color="white", linewidth=2.2, zorder=3)
        axes.plot(x, y, above(result.trajectory), color=INK, linewidth=1.0, marker="o", markersize=1.8, zorder=3.1)
    for place, z, as_ in zip(result.marks, above(result.marks), LOOKS, strict=False):
        axes.plot(
            *place[:, None].repeat(2, 1), [floor, z], color=INK, linewidth=0.8, linestyle=(0, (2, 1.4)), zorder=3.2
        )
        for bottom, size in ((floor, 3.6), (z, 5.0)):
            axes.plot(
                *place[:, None], [bottom], marker=as_.marker, markersize=size, markerfacecolor="white",
                markeredgecolor="black", markeredgewidth=0.9, linestyle="none", zorder=3.3,
            )  # fmt: skip


def _entries(result: SurfaceResult, names: Sequence[str], cut: str) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = [
        (Line2D([], [], marker=as_.marker, linestyle="none", color="black", markerfacecolor="white"), name)
        for name, as_ in zip(names, LOOKS, strict=False)
    ]
    if len(result.trajectory):
        first, last = ends(result.trajectory_labels)
        found.append((Line2D([], [], color=INK, marker="o", markersize=1.8), f"training, {first} to {last}"))
    if cut:
        found.append((Patch(facecolor=CUT, edgecolor=CUT_EDGE, linewidth=0.4), cut))
    return found


def _note(result: SurfaceResult, grid: np.ndarray) -> str:
    gaps = [f"{int(cells.sum())} of {cells.size} points {why}" for why, cells in missing(result, grid).items()]
    return "; ".join(filter(None, [interpolation_note(result), ", ".join(gaps) + ": gaps" if gaps else ""]))
