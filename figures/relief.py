"""One quantity over a plane as a surface in space: cut at a ceiling, open where a corner of a cell is no number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from mpl_toolkits.mplot3d.proj3d import proj_transform

from landscape.errors import illegal
from landscape.results import SurfaceResult

from .coordinates import axis_names
from .layout import renderer, settle, wrap
from .scales import limits, log_levels, logarithms, number
from .style import COLOUR_MAP

_BOX = (1.0, 1.0, 0.72)
_LIGHT = np.array([-0.45, -0.25, 0.86])
CUT = "#c4c4c4"
CUT_EDGE = "#707070"


def space(figure: Figure, rectangle: tuple[float, float, float, float], elevation: float, azimuth: float) -> Any:
    """Three-dimensional axes in a rectangle of the figure, seen from above the horizon by so many degrees."""
    axes: Any = figure.add_axes(rectangle, projection="3d")
    axes.set_proj_type("persp", focal_length=1.6)
    axes.set_box_aspect(_BOX, zoom=1.0)
    axes.view_init(elevation, azimuth)
    return axes


def fill_room(figure: Figure, axes: Any, foot: float) -> Figure:
    """Scale and move the axes so that box, ticks and names just fill the figure above `foot`, a share of its height."""
    room = np.array([[0.03, foot + 0.005], [0.98, 0.99]])
    for _ in range(4):
        settle(figure)
        place = np.array(axes.get_position().get_points())
        used = figure.transFigure.inverted().transform(_occupied(figure, axes))
        middle = place.mean(axis=0)
        factor = float(np.clip((np.ptp(room, axis=0) / np.ptp(used, axis=0)).min(), 0.6, 1.5))
        shift = room.mean(axis=0) - (middle + factor * (used.mean(axis=0) - middle))
        (left, bottom), (right, top) = middle + factor * (place - middle) + shift
        axes.set_position((left, bottom, right - left, top - bottom))
    return settle(figure)


def _occupied(figure: Figure, axes: Any) -> np.ndarray:
    """(2, 2) lower left and upper right pixel of everything that belongs to the axes."""
    ends = np.stack(np.meshgrid(axes.get_xlim(), axes.get_ylim(), axes.get_zlim()), axis=-1).reshape(-1, 3)
    x, y, _ = proj_transform(ends[:, 0], ends[:, 1], ends[:, 2], axes.get_proj())
    boxes = [axis.get_tightbbox(renderer(figure)).get_points() for axis in (axes.xaxis, axes.yaxis, axes.zaxis)]
    points = np.concatenate([axes.transData.transform(np.stack([x, y], axis=1)), *boxes])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def heights_of(
    grids: Sequence[np.ndarray], ceiling: float | None, scale: str = "auto"
) -> tuple[list[np.ndarray], bool, float]:
    """(heights, whether they are log₁₀ of the values, the ceiling's height): NaN where a value is not finite.

    scale: auto is log when no value is negative. Raises `InputError` for a scale that is unknown or cannot show the
    values, and for a ceiling that lies below everything.
    """
    if scale not in ("auto", "log", "linear"):
        raise illegal("scale", scale, "auto, log or linear", "")
    heights, logarithmic = logarithms(grids)
    if scale == "linear":
        heights, logarithmic = [np.where(np.isfinite(grid), grid, np.nan) for grid in grids], False
    elif scale == "log" and not logarithmic:
        raise illegal("scale", scale, "one that can show values that are not positive", "Use linear.")
    if ceiling is None:
        return heights, logarithmic, np.inf
    lowest = min((float(grid[np.isfinite(grid)].min()) for grid in grids if np.isfinite(grid).any()), default=0.0)
    if ceiling <= max(lowest, 0.0 if logarithmic else -np.inf):
        legal = f"above the lowest value, {number(lowest)}"
        raise illegal("ceiling", ceiling, legal, "Raise it, or leave it out.")
    return heights, logarithmic, float(np.log10(ceiling)) if logarithmic else ceiling


def span(heights: Sequence[np.ndarray], ceiling: float) -> tuple[float, float]:
    """Lowest and highest of what is drawn of some heights, with a little room."""
    drawn = np.minimum(np.concatenate([height.ravel() for height in heights]), ceiling)
    return limits(drawn, "linear", margin=0.02)[:2]


def sheet(
    axes: Axes3D, result: SurfaceResult, height: np.ndarray, colours: Normalize, ceiling: float, light: float = 0.0
) -> None:
    """One polygon per cell of the grid whose four corners are finite, coloured by their mean height.

    What is above the ceiling is cut off there, the flat top grey and crossed. light: 0 to 1, how much the slope
    of a cell darkens it.
    """
    x, y = np.meshgrid(result.x, result.y, indexing="ij")
    points = np.stack([x, y, height], axis=-1)
    cells = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    cells = cells[np.isfinite(cells).all(axis=(1, 2))]
    pieces = [cut(cell, ceiling) for cell in cells]
    shown = [k for k, (below, _) in enumerate(pieces) if len(below)]
    means = np.array([pieces[k][0][:, 2].mean() for k in shown])
    faces = colormaps[COLOUR_MAP](colours(means))
    faces[:, :3] *= (1 - light + light * _brightness(cells[shown], axes))[:, None]
    tops = [top for _, above in pieces for top in above]
    polygons = [pieces[k][0] for k in shown] + tops
    axes.add_collection3d(
        Poly3DCollection(
            polygons, facecolors=[*faces, *[CUT] * len(tops)],
            edgecolors=[*(faces * [0.72, 0.72, 0.72, 1.0]), *[CUT_EDGE] * len(tops)], linewidths=0.25, gid="surface",
        ),
        autolim=False,
    )  # fmt: skip


def cut(cell: np.ndarray, ceiling: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """(what of a polygon (k, 3) is below the ceiling, the flat pieces that close it at the ceiling).

    Edges are straight, so that neighbouring cells meet. A whole quadrilateral above comes in two triangles.
    """
    over = cell[:, 2] > ceiling
    if not over.any():
        return cell, []
    if over.all():
        flat = cell * [1, 1, 0] + [0, 0, ceiling]
        return cell[:0], [flat[[0, 1, 2]], flat[[0, 2, 3]]]
    below, above = [], []
    for here, there in zip(cell, np.roll(cell, -1, axis=0), strict=True):
        (above if here[2] > ceiling else below).append(here)
        if (here[2] > ceiling) != (there[2] > ceiling):
            crossing = here + (ceiling - here[2]) / (there[2] - here[2]) * (there - here)
            below.append(crossing)
            above.append(crossing)
    return np.array(below), [np.array(above) * [1, 1, 0] + [0, 0, ceiling]]


def _brightness(cells: np.ndarray, axes: Any) -> np.ndarray:
    """(c,) cosine between each cell's normal, in the box that is drawn, and the light; 0 where it faces away."""
    sides = [np.ptp(ends) for ends in (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())]
    scaled = cells / np.array(sides) * _BOX
    normals = np.cross(scaled[:, 2] - scaled[:, 0], scaled[:, 3] - scaled[:, 1])
    return np.clip(normals @ _LIGHT / (np.linalg.norm(normals, axis=1) * np.linalg.norm(_LIGHT)), 0, 1)


def dress(
    axes: Any, result: SurfaceResult, words: str, heights: tuple[float, float], logarithmic: bool, floor: float
) -> np.ndarray:
    """Limits, names and few, round ticks; the box stands on the floor. Returns the heights that have a tick."""
    axes.set_xlim(float(result.x.min()), float(result.x.max()))
    axes.set_ylim(float(result.y.min()), float(result.y.max()))
    axes.set_zlim(floor, heights[1])
    first, second = (wrap(name, 36, 1) for name in axis_names(result))
    axes.set_xlabel(first, labelpad=-5)
    axes.set_ylabel(second, labelpad=-5)
    axes.set_zlabel(words, labelpad=0)
    ticks = _ticks(heights, logarithmic)
    axes.zaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.zaxis.set_major_formatter(FuncFormatter(lambda v, _: number(10.0**v if logarithmic else v)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
        axis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10], prune="both"))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.96, 0.96, 0.96, 1.0))
        axis._axinfo["grid"].update(color="#d5d5d5", linewidth=0.4)
    axes.tick_params(axis="both", pad=-2)
    longest = max((len(words) for words in axes.zaxis.get_major_formatter().format_ticks(ticks)), default=0)
    axes.zaxis.labelpad = max(0, longest - 5)  # ticks' words are centred: long ones would meet the axis and its name
    axes.tick_params(axis="z", pad=1 + max(0, longest - 5))
    return ticks


def _ticks(heights: tuple[float, float], logarithmic: bool) -> np.ndarray:
    if logarithmic:
        return np.log10(log_levels(10 ** heights[0], 10 ** heights[1], 6))
    ticks = np.asarray(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(*heights))
    return ticks[(ticks >= heights[0]) & (ticks <= heights[1])]


def cut_note(grids: Sequence[np.ndarray], ceiling: float | None) -> str:
    """How many points are above the ceiling, and that they are cut; nothing when none is."""
    above = 0 if ceiling is None else sum(int((grid[np.isfinite(grid)] > ceiling).sum()) for grid in grids)
    return f"{above} points above {number(ceiling)} cut off there (grey)" if above and ceiling is not None else ""
