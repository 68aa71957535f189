"""A sharp and a flat minimum side by side in three dimensions, after Foret et al. 2021, Figure 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from landscape.errors import InputError
from landscape.results import SurfaceResult
from landscape.spec import LineSpec

from .coordinates import axis_names
from .layout import settle, wrap
from .quantities import values_of
from .scales import limits, log_levels, logarithms, number
from .style import COLOUR_MAP, WIDTHS, style

_HEIGHT = 3.0


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    cap: float | None = None,
    elevation: float = 24.0,
    azimuth: float = -58.0,
) -> Figure:
    """One or two plane scans as 3-D surfaces with a common height scale, colours and view; logarithmic height.

    quantity: train loss, test loss, train error or test error. names: titles. cap: heights above it are drawn
    at the cap, and the figure says so; default none. Cells with a corner that is not finite are left open.
    elevation, azimuth: of the eye, in degrees.
    """
    _check(results)
    grids, words = zip(*(values_of(result, quantity) for result in results), strict=True)
    titles = list(names or [result.labels[0] for result in results])
    if len(titles) != len(results):
        raise InputError(f"names: {len(titles)} given for {len(results)} surfaces. Give one name for each.")
    with style():
        heights, logarithmic, clipped = _heights(grids, cap)
        bottom, top = _range(heights)
        width = WIDTHS["double"] if len(results) == 2 else WIDTHS["single"]
        titles = [wrap(title, 48 // len(results) + 12, 2) for title in titles]
        notes = _notes(grids, clipped, cap, int(17 * width))
        head = 0.13 * max(title.count("\n") for title in titles)
        foot = 0.12 * (notes.count("\n") + 1) + 0.08 if notes else 0.0
        figure = Figure(figsize=(width, _HEIGHT + head + foot))
        colours = Normalize(bottom, top)
        for number_, (result, height) in enumerate(zip(results, heights, strict=True)):
            axes = _axes(figure, number_, len(results), foot)
            axes.view_init(elevation, azimuth)
            _surface(axes, result, height, colours)
            _dress(axes, result, words[0], (bottom, top), logarithmic)
            axes.set_title(titles[number_], y=1.0)
        figure.text(0.5, 0.05 / figure.get_figheight(), notes, ha="center", va="bottom", size=7)
        return settle(figure)


def _check(results: Sequence[SurfaceResult]) -> None:
    planes = [isinstance(r, SurfaceResult) and not isinstance(r.spec, LineSpec) for r in results]
    if not 1 <= len(results) <= 2 or not all(planes):
        raise InputError("surface_pair needs one or two plane scans (`landscape surface random`).")


def _heights(grids: Sequence[np.ndarray], cap: float | None) -> tuple[list[np.ndarray], bool, int]:
    """Heights as drawn (log₁₀ where no value is negative, NaN where not finite), and how many met the cap."""
    if cap is None:
        return *logarithms(grids), 0
    clipped = sum(int((grid[np.isfinite(grid)] > cap).sum()) for grid in grids)
    return *logarithms([np.where(np.isfinite(grid), np.minimum(grid, cap), np.nan) for grid in grids]), clipped


def _range(heights: Sequence[np.ndarray]) -> tuple[float, float]:
    bottom, top, _ = limits(np.concatenate([height.ravel() for height in heights]), "linear", margin=0.02)
    return bottom, top


def _axes(figure: Figure, number_: int, count: int, foot: float) -> Axes3D:
    """Three-dimensional axes beside each other, above `foot` inches of notes."""
    height = figure.get_figheight()
    left, width = (0.0, 0.9) if count == 1 else (0.495 * number_, 0.465)
    rectangle = (left, (0.2 + foot) / height, width, (_HEIGHT - 0.3) / height)
    axes: Any = figure.add_axes(rectangle, projection="3d")
    axes.set_proj_type("persp", focal_length=1.6)
    axes.set_box_aspect((1, 1, 0.72), zoom=1.0)
    return axes


def _surface(axes: Axes3D, result: SurfaceResult, height: np.ndarray, colours: Normalize) -> None:
    """One quadrilateral per cell of the grid whose four corners are finite, coloured by their mean height."""
    x, y = np.meshgrid(result.x, result.y, indexing="ij")
    points = np.stack([x, y, height], axis=-1)
    cells = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    cells = cells[np.isfinite(cells).all(axis=(1, 2))]
    faces = colormaps[COLOUR_MAP](colours(cells[..., 2].mean(axis=1)))
    edges = faces * [0.72, 0.72, 0.72, 1.0]
    axes.add_collection3d(
        Poly3DCollection(cells, facecolors=faces, edgecolors=edges, linewidths=0.25, gid="surface"), autolim=False
    )


def _dress(axes: Any, result: SurfaceResult, words: str, heights: tuple[float, float], logarithmic: bool) -> None:
    axes.set_xlim(float(result.x.min()), float(result.x.max()))
    axes.set_ylim(float(result.y.min()), float(result.y.max()))
    axes.set_zlim(*heights)
    first, second = axis_names(result)
    axes.set_xlabel(first, labelpad=-5)
    axes.set_ylabel(second, labelpad=-5)
    axes.set_zlabel(words, labelpad=0)
    if logarithmic:
        ticks = np.log10(log_levels(10 ** heights[0], 10 ** heights[1], 6))
        axes.zaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.zaxis.set_major_formatter(FuncFormatter(lambda v, _: number(10.0**v if logarithmic else v)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
        axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10], prune="both"))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.96, 0.96, 0.96, 1.0))
        axis._axinfo["grid"].update(color="#d5d5d5", linewidth=0.4)
    axes.tick_params(axis="both", pad=-2)
    axes.tick_params(axis="z", pad=1)


def _notes(grids: Sequence[np.ndarray], clipped: int, cap: float | None, characters: int) -> str:
    notes = []
    if clipped and cap is not None:
        notes.append(f"{clipped} points above {number(cap)} drawn at {number(cap)}")
    lost = sum(int((~np.isfinite(grid)).sum()) for grid in grids)
    if lost:
        notes.append(f"{lost} points not finite or not evaluated: gaps")
    return wrap("; ".join(notes), characters, 3) if notes else ""
