"""A training followed over its checkpoints: eigenvalues and edge of stability, loss, distance from the start."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import TrackResult

from .groups import is_single
from .layout import legend_below, new_figure, settle
from .scales import choose_scale, limits, number, scale_axis
from .style import FAINT, INK, Look, look, style

_EDGE = {"color": INK, "linewidth": 1.0}
_EDGE_LINE, _SAM_LINE = (0, (6, 2)), (0, (6, 1.6, 1, 1.6))
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_MOST_MARKERS = 25


def draw(results: Sequence[TrackResult], *, width: str = "double", scale: str = "auto") -> Figure:
    """λ₁ … λₖ and the edge of stability by step, the loss, and ‖w_t − w_0‖ by log t with its straight line.

    results: one series. Open markers have not converged; a faint vertical line is a checkpoint without numbers.
    width: single or double column. scale of the eigenvalues: auto (linear; log where they span decades, symlog if
    some are negative), linear, log or symlog. An edge far above λ₁ leaves the frame, unless it is the lowest one.
    """
    if not is_single(results, TrackResult):
        raise InputError("track needs exactly one series (`landscape track`). Leave the other results out.")
    result = results[0]
    if not np.isfinite(result.losses).any():
        raise InputError("this series holds no number to draw yet. Go on measuring it.")
    with style():
        figure = new_figure(width, 3.0 if width == "double" else 4.6)
        if width == "double":
            grid = figure.add_gridspec(2, 2, height_ratios=(2.4, 1), width_ratios=(1.25, 1))
            places = grid[0, 0], grid[1, 0], grid[:, 1]
        else:
            grid = figure.add_gridspec(3, 1, height_ratios=(2.2, 0.9, 1.6))
            places = grid[0, 0], grid[1, 0], grid[2, 0]
        top, middle, right = (figure.add_subplot(place) for place in places)
        entries = _eigenvalues(top, result, scale)
        _losses(middle, result)
        middle.set_xlim(top.get_xlim())
        entries += _distances(right, result)
        figure.align_ylabels([top, middle])
        legend_below(figure, entries)
        return settle(figure)


def _eigenvalues(axes: Axes, result: TrackResult, scale: str) -> list[tuple[Line2D, str]]:
    name, t = result.axis
    entries = []
    for k, (values, sure) in enumerate(zip(result.eigenvalues.T, result.converged.T, strict=True)):
        as_ = look(k)
        axes.plot(t, values, color=as_.colour, linestyle=as_.line, zorder=3)
        _markers(axes, t, values, sure.astype(bool), as_)
        handle = Line2D([], [], color=as_.colour, linestyle=as_.line, marker=as_.marker)
        entries.append((handle, f"λ{k + 1}".translate(_LOWERED)))
    chosen, (bottom, high, threshold) = _frame(result, scale)
    formula = result.edge_formula.split(",")[0]
    for edges, line, label in (
        (result.edges, _EDGE_LINE, f"edge of stability {formula}"),
        (result.sam_edges, _SAM_LINE, "edge of SAM at ‖∇f‖"),
    ):
        if np.isfinite(edges).any():
            axes.plot(t, edges, linestyle=line, zorder=3.5, **_EDGE)
            label += " (above the frame)" if np.nanmin(edges) > high else ""
            entries.append((Line2D([], [], linestyle=line, **_EDGE), label))
    scale_axis(axes.yaxis, bottom, high, chosen, threshold)
    room = 0.02 * ((t.max() - t.min()) or 1.0)
    scale_axis(axes.xaxis, t.min() - room, t.max() + room, "linear")
    axes.tick_params(axis="x", labelbottom=False)
    axes.set_ylabel("Hessian eigenvalue" if result.spec.operator == "hessian" else f"{result.spec.operator} eigenvalue")
    axes.grid(axis="y")
    missing = t[result.done & np.isnan(result.losses)]
    for place in missing:
        axes.axvline(place, color=FAINT, linewidth=0.6, linestyle=":", zorder=1)
    if len(missing):
        entries.append((Line2D([], [], color=FAINT, linewidth=0.6, linestyle=":"), f"{name} without numbers"))
    if not result.converged[np.isfinite(result.eigenvalues)].all():
        entries.append(
            (Line2D([], [], linestyle="none", marker="o", color=FAINT, markerfacecolor="white"), "not converged")
        )
    return entries


def _markers(axes: Axes, t: np.ndarray, values: np.ndarray, sure: np.ndarray, as_: Look) -> None:
    """Few enough to be told apart, but every one that has not converged."""
    every = -(-len(t) // _MOST_MARKERS)
    shown = np.arange(len(t)) % every == 0
    for chosen, face in ((sure & shown, as_.colour), (~sure & np.isfinite(values), "white")):
        axes.plot(
            t[chosen], values[chosen], linestyle="none", marker=as_.marker, color=as_.colour, markerfacecolor=face,
            markersize=3.0, markeredgewidth=0.7, zorder=4,
        )  # fmt: skip


def _frame(result: TrackResult, scale: str) -> tuple[str, tuple[float, float, float]]:
    """Scale and limits of the eigenvalues' axis: all eigenvalues, and the edges that are not far above them."""
    values = result.eigenvalues[np.isfinite(result.eigenvalues)]
    edges = np.concatenate([result.edges, result.sam_edges])
    edges = edges[np.isfinite(edges)]
    if len(edges):
        reach = 1.3 * max(values.max(), edges.min())
        values = np.concatenate([values, edges[edges <= reach]])
    spread = (values > 0).all() and values.max() > 30 * values.min()
    if scale == "auto" and not spread and (values > -0.05 * values.max()).all():
        scale = "linear"
    chosen = choose_scale(values, scale)
    bottom, high, threshold = limits(values, chosen)
    return chosen, (min(bottom, 0.0) if chosen == "linear" else bottom, high, threshold)


def _losses(axes: Axes, result: TrackResult) -> None:
    name, t = result.axis
    axes.plot(t, result.losses, color=INK, linewidth=1.0)
    finite = result.losses[np.isfinite(result.losses)]
    scale = "log" if (finite > 0).all() and finite.max() > 5 * finite.min() else "linear"
    bottom, high, _ = limits(finite, scale)
    scale_axis(axes.yaxis, bottom, high, scale, most=5)
    axes.set(xlabel=name, ylabel="loss")
    scale_axis(axes.xaxis, t.min(), t.max() if t.max() > t.min() else t.min() + 1, "linear")
    axes.grid(axis="y")


def _distances(axes: Axes, result: TrackResult) -> list[tuple[Line2D, str]]:
    name, t = result.axis
    used = np.isfinite(result.distances) & (t > 0)
    size = 2.6 if used.sum() <= _MOST_MARKERS else 1.6
    axes.plot(t[used], result.distances[used], linestyle="none", marker="o", markersize=size, color=look(0).colour)
    entries = []
    drawn = [result.distances[used]]
    if np.isfinite(result.fit_r2):
        (a, b), ends = result.fit, np.array(result.fit_range)
        drawn.append(a + b * np.log(ends))
        axes.plot(ends, drawn[-1], color=INK, linewidth=0.8, zorder=1)
        sign, low, high = "−" if b < 0 else "+", number(ends[0]), number(ends[1])
        label = f"{number(round(a, 3))} {sign} {number(round(abs(b), 3))} ln t, {name} {low} to {high}"
        entries.append((Line2D([], [], color=INK, linewidth=0.8), label))
        axes.set_title(f"straight line: R² = {result.fit_r2:.4f}", size=7.5)
    low, high, _ = limits(t[used], "log")
    scale_axis(axes.xaxis, low, high, "log")
    bottom, top, _ = limits(np.concatenate(drawn), "linear")
    scale_axis(axes.yaxis, bottom, top, "linear")
    from_start = result.origin == "the initial weights"
    axes.set(xlabel=f"{name} t", ylabel="‖wₜ − w₀‖" if from_start else "distance from the first checkpoint")
    axes.grid(axis="y")
    return entries
