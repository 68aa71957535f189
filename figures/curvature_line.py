"""Loss and curvature along a line: where the largest and the smallest Hessian eigenvalue rise and fall."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.results import SurfaceResult

from .along import LOSS, curves, draw_curves, entries, line_axis, loss_axis
from .coordinates import default_names, is_line
from .layout import legend_below, new_figure, settle
from .quantities import LARGEST, SMALLEST, interpolation_note
from .scales import choose_scale, limits, scale_axis
from .style import INK, look, style

_NAMES = {LARGEST: "λ₁", SMALLEST: "λₘᵢₙ"}
_LOOKS = {LARGEST: look(3), SMALLEST: look(2)}


def draw(
    results: Sequence[SurfaceResult],
    *,
    names: Sequence[str] | None = None,
    width: str = "single",
    scale: str = "auto",
    eigenvalue_scale: str = "linear",
) -> Figure:
    """Loss (left) and Hessian eigenvalues λ₁, λₘᵢₙ (right) along one line scan with curvatures.

    names: of the checkpoints on the line. scale: of the loss; auto is log unless a loss is zero or negative.
    eigenvalue_scale: linear, log, symlog, or auto (log, symlog where some are not positive). Points that are not
    finite leave a gap, marked by a cross on the upper edge.
    """
    result = _only(results)
    names = default_names(result, names)
    with style():
        figure = new_figure(width, 2.35)
        axes = figure.add_subplot()
        found = curves([result], "loss")
        draw_curves(axes, result.x, found, LOSS)
        loss_axis(axes, np.concatenate([rows.ravel() for rows in found.values()]), scale)
        legend = [*entries(found, LOSS, "loss"), *_eigenvalues(axes.twinx(), result, eigenvalue_scale)]
        line_axis(axes, result, names)
        legend_below(figure, legend, interpolation_note(result))
        return settle(figure)


def _only(results: Sequence[SurfaceResult]) -> SurfaceResult:
    if len(results) != 1 or not is_line(results[0]):
        raise InputError("curvature_line needs exactly one scan of one axis. Leave the other results out.")
    if LARGEST not in results[0].extra_names:
        raise InputError("this scan holds no largest eigenvalue. Scan again with --curvature largest or both.")
    return results[0]


def _eigenvalues(axes: Axes, result: SurfaceResult, scale: str) -> list:
    legend, drawn = [], []
    for name, as_ in _LOOKS.items():
        if name in result.extra_names:
            rows = {_NAMES[name]: result.grid(name)[None]}
            draw_curves(axes, result.x, rows, as_, dashes={_NAMES[name]: as_.line})
            legend += entries(rows, as_, "", {_NAMES[name]: as_.line})
            drawn.append(result.grid(name))
    values = np.concatenate(drawn)
    chosen = choose_scale(values, scale)
    bottom, top, threshold = limits(values, chosen)
    scale_axis(axes.yaxis, bottom, top, chosen, threshold)
    if bottom < 0 < top:
        axes.axhline(0, color=INK, linewidth=0.5, linestyle=(0, (1, 2)), zorder=1)
    axes.set_ylabel("Hessian eigenvalue")
    return legend
