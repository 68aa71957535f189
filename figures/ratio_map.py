"""Where a loss surface is convex: |λ_min / λ_max| over a plane, after Li et al. 2018, section 6."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from landscape.errors import InputError, illegal
from landscape.results import SurfaceResult

from .contours import label_lines, shade, thin_ticks
from .coordinates import aspect_of, default_names, only_plane
from .holes import counted, hatch
from .layout import fit, legend_below, name_points, new_figure, renderer, settle
from .plane import frame, mark
from .quantities import LARGEST, SMALLEST, interpolation_note, missing, values_of
from .scales import log_levels, number
from .style import COLOUR_MAP, INK, style

_CONCAVE = "λₘₐₓ ≤ 0"
_WORDS = "|λₘᵢₙ / λₘₐₓ|"


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    scale: str = "auto",
    width: str = "single",
    levels: int = 8,
) -> Figure:
    """Heat map of |λ_min/λ_max| over a plane scan with curvatures, and contour lines of the loss over it.

    Near 0 the Hessian has next to no negative curvature; 1 means that both ends are as large (Li et al. 2018,
    section 6). Where λ_max ≤ 0 the ratio has no such meaning: hatched, as are points without a number.
    quantity, levels: of the contour lines, as of the recipe plane. names: of the marked checkpoints. scale: of the
    colours, linear or log (zeros take the lowest colour); auto is linear where no ratio is above 1.
    """
    result = only_plane(results, "ratio_map")
    ratio, kinds = ratio_of(result)
    values, words = values_of(result, quantity)
    names = default_names(result, names)
    with style():
        figure = new_figure(width, 3.0)
        axes = figure.add_subplot()
        bar = _heat(axes, result, ratio, scale)
        (shown,), shades = shade([values], levels)
        lines = axes.contour(
            result.x, result.y, np.ma.masked_invalid(shown.T), levels=shades.levels, colors=INK, linewidths=0.7,
            linestyles="-", zorder=1,
        )  # fmt: skip
        lines.set_path_effects([withStroke(linewidth=1.8, foreground="white")])
        frame(axes, result, names)
        entries: list[tuple[Any, str]] = [(Line2D([], [], color=INK, linewidth=0.7), f"contours: {words}")]
        legend_below(
            figure, [*entries, *counted(hatch(axes, result.x, result.y, kinds), kinds)], interpolation_note(result)
        )
        mark(axes, result.marks)
        fit(figure, [[axes]], aspect_of(result) or 0.8)
        thin_ticks(axes, bar)
        taken = [text.get_window_extent(renderer(figure)) for text in name_points(axes, result.marks, names)]
        label_lines(axes, lines, shades, taken, result.marks)
        for label in lines.labelTexts:
            label.set(color=INK, path_effects=[withStroke(linewidth=1.8, foreground="white")])
        return settle(figure)


def ratio_of(result: SurfaceResult) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(|λ_min/λ_max|, NaN where it means nothing; why it does not: {reason: cells}).

    Raises `InputError` for a scan without both eigenvalues.
    """
    if not {LARGEST, SMALLEST} <= set(result.extra_names):
        raise InputError("this scan holds no smallest and largest eigenvalue. Scan again with --curvature both.")
    smallest, largest = result.grid(SMALLEST), result.grid(LARGEST)
    kinds = missing(result, smallest + largest)
    concave = largest <= 0
    ratio = np.full(result.shape, np.nan)
    known = np.isfinite(smallest) & np.isfinite(largest) & ~concave
    ratio[known] = np.abs(smallest[known] / largest[known])
    return ratio, {**kinds, **({_CONCAVE: concave} if concave.any() else {})}


def _heat(axes: Axes, result: SurfaceResult, ratio: np.ndarray, scale: str) -> Any:
    """One coloured cell for each point, and the bar."""
    known = ratio[np.isfinite(ratio)]
    high = float(known.max(initial=0.0)) or 1.0
    if scale == "auto" or (scale == "log" and not (known > 0).any()):
        scale = "linear" if high <= 1 else "log"
    if scale == "linear":
        low = 0.0
        norm, ticks = Normalize(low, high), MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    elif scale == "log":
        low = float(known[known > 0].min(initial=high))
        high = max(high, 1.01 * low)
        norm, ticks = LogNorm(low, high), log_levels(low, high, 6)
    else:
        raise illegal("scale", scale, "auto, linear or log", "")
    shown = np.ma.masked_invalid(np.maximum(ratio, low).T)
    cells = axes.pcolormesh(
        result.x, result.y, shown, shading="nearest", cmap=colormaps[COLOUR_MAP], norm=norm, zorder=-1,
        edgecolors="face", linewidth=0.2,
    )  # fmt: skip
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(cells, cax=axes.inset_axes((1.03, 0, 0.045, 1)), format=FuncFormatter(lambda v, _: number(v)))
    bar.minorticks_off()
    bar.set_ticks(FixedLocator([tick for tick in np.asarray(ticks).tolist() if tick <= high * (1 + 1e-9)]))
    bar.set_label(_WORDS)
    return bar
