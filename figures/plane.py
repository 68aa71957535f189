"""The loss on a plane, with the minima at their true coordinates: filled, labelled, logarithmic contours."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landscape.errors import InputError, illegal
from landscape.results import SurfaceResult
from landscape.spec import AxesSpec, LineSpec, PlaneSpec

from .contours import contour, label_lines, thin_ticks
from .layout import legend_below, name_points, new_figure, renderer, settle, wrap
from .scales import scale_axis
from .style import FAINT, HATCH, LOOKS, style

QUANTITIES = ("train loss", "test loss", "train error", "test error")


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    width: str = "single",
    levels: int = 10,
) -> Figure:
    """Contours of one loss or error on a plane through checkpoints (or a random one), minima marked and named.

    quantity: train loss, test loss, train error or test error (errors in %). names: of the marked checkpoints.
    levels: at most so many contour lines, at round numbers; logarithmic, and interpolated as logarithms, when no
    value is negative (zeros share the lowest colour), linear otherwise. Cells that are not finite stay
    empty and hatched.
    """
    result = _only(results)
    grid, words = values_of(result, quantity)
    names = list(names or result.labels)
    if len(names) != len(result.marks):
        raise InputError(f"names: {len(names)} given for {len(result.marks)} checkpoints. Give one name for each.")
    with style():
        figure = new_figure(width, 3.0)
        axes = figure.add_subplot()
        contours = contour(axes, result.x, result.y, grid, words, levels)
        _frame(axes, result, names)
        entries = []
        if not np.isfinite(grid).all():
            entries = [(Patch(facecolor="white", edgecolor=FAINT, hatch=HATCH), _missing_words(result, grid))]
            legend_below(figure, entries)
        for mark, as_ in zip(result.marks, LOOKS, strict=False):
            axes.plot(
                *mark, linestyle="none", marker=as_.marker, markersize=5.5, markerfacecolor="white",
                markeredgecolor="black", markeredgewidth=1.0, zorder=7, gid="mark", clip_on=False,
            )  # fmt: skip
        _fit(figure, axes, result)
        thin_ticks(axes, contours.bar)
        texts = name_points(axes, result.marks, names)
        label_lines(axes, contours, [t.get_window_extent(renderer(figure)) for t in texts], result.marks)
        return settle(figure)


def _only(results: Sequence[SurfaceResult]) -> SurfaceResult:
    if len(results) != 1 or not isinstance(results[0], SurfaceResult) or isinstance(results[0].spec, LineSpec):
        raise InputError("plane needs exactly one plane scan (`landscape surface plane` or `random`).")
    return results[0]


def values_of(result: SurfaceResult, quantity: str) -> tuple[np.ndarray, str]:
    """((X, Y) grid, its name with unit) of one quantity; errors are 100·(1 − accuracy).

    Raises `InputError` when there is no such quantity, or the result does not hold it.
    """
    if quantity not in QUANTITIES:
        raise illegal("quantity", quantity, f"one of {', '.join(QUANTITIES)}", "")
    split, word = quantity.split()
    grid = getattr(result, f"{split}_{'accuracy' if word == 'error' else 'loss'}")
    if not grid.size or (word == "error" and np.isnan(grid).all()):
        raise InputError(f"this scan holds no {quantity}. Choose another quantity, or scan again with {split} data.")
    return (grid, quantity) if word == "loss" else (100.0 * (1.0 - grid), f"{quantity} (%)")


def axis_names(result: SurfaceResult) -> tuple[str, str]:
    """What the two coordinates are, with their units."""
    if isinstance(result.spec, AxesSpec):
        kind = {"filter": " (filter norms)", "layer": " (layer norms)", "weight": " (weights)", "none": ""}[
            result.spec.normalisation
        ]
        return f"direction 1{kind}", f"direction 2{kind}"
    return "distance along (ℓ₂)", "distance across (ℓ₂)"


def _fit(figure: Figure, axes: Axes, result: SurfaceResult) -> None:
    """Give the figure the height that suits the plane's own aspect: neither empty margins nor a squeezed plane."""
    aspect = float(np.ptp(result.y) / np.ptp(result.x))
    for _ in range(3):
        settle(figure)
        width = figure.get_figwidth()
        used, frame = axes.get_tightbbox(renderer(figure)), axes.get_window_extent()
        assert used is not None
        spare = width - used.width / figure.dpi - 0.1
        drawn = frame.height / figure.dpi
        wanted = float(np.clip(aspect * (frame.width / figure.dpi + spare), 0.4, 1.4 * width))
        rest = max(used.height / figure.dpi - drawn, 0.3) + sum(
            legend.get_window_extent(renderer(figure)).height / figure.dpi + 0.06 for legend in figure.legends
        )
        figure.set_size_inches(width, wanted + rest + 0.1)
    settle(figure)


def _frame(axes: Axes, result: SurfaceResult, names: Sequence[str]) -> None:
    first, second = axis_names(result)
    if isinstance(result.spec, PlaneSpec):
        first = f"distance towards {wrap(names[1], 26, 1)} (ℓ₂)"
    axes.set_aspect("equal")
    for axis, values in ((axes.xaxis, result.x), (axes.yaxis, result.y)):
        scale_axis(axis, float(values.min()), float(values.max()), "linear")
    axes.set(xlabel=first, ylabel=second)


def _missing_words(result: SurfaceResult, grid: np.ndarray) -> str:
    lost = int((~np.isfinite(grid)).sum())
    why = "NaN or ∞" if result.complete else "NaN, ∞ or not evaluated"
    return f"{lost} of {grid.size} points: {why}"
