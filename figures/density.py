"""The whole Hessian spectrum: its density along a linear axis, and eigenvalues per decade along a logarithmic one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from landscape.errors import InputError, illegal
from landscape.results import DensityResult

from .groups import result_names
from .layout import legend_below, new_figure, settle
from .scales import limits, number, scale_axis, symlog_ticks
from .style import FAINT, INK, look, style

VIEWS = ("both", "linear", "symlog")

DECADES = 0.1
"""Standard deviation of the Gaussian in the logarithmic view, in decades."""

_ALONE = 1.5
"""A resolved eigenvalue is marked where the density is at most so many times what it gives by itself."""


def draw(
    results: Sequence[DensityResult],
    *,
    names: Sequence[str] | None = None,
    view: str = "both",
    width: str | None = None,
) -> Figure:
    """Spectral density with ± standard error: linear in λ, and symmetric-logarithmic as eigenvalues per decade.

    results: density results; names: one each. view: both, linear or symlog. Eigenvalues that are resolved
    and stand alone are marked. width: single or double column.
    """
    if not results or not all(isinstance(result, DensityResult) for result in results):
        raise InputError("density needs density results (`landscape density`). Leave the other results out.")
    if view not in VIEWS:
        raise illegal("view", view, f"one of {', '.join(VIEWS)}", "")
    labels = result_names(results, names)
    with style():
        figure = new_figure(width or ("double" if view == "both" else "single"), 2.4)
        panels = np.atleast_1d(figure.subplots(1, 2 if view == "both" else 1))
        notes, marked = [], False
        if view != "symlog":
            marked |= _linear(panels[0], results)
            notes.append(f"{number(float(f'{_width(results):.2g}'))} in λ" + (" (left)" if view == "both" else ""))
        if view != "linear":
            marked |= _logarithmic(panels[-1], results)
            notes.append(f"{DECADES:g} decades" + (" (right)" if view == "both" else ""))
        band = Patch(facecolor=FAINT, alpha=0.4), "± standard error over probes"
        mark = Line2D([], [], color=FAINT, marker="o", markersize=2.6, linewidth=0.7), "one eigenvalue, resolved"
        curves = [
            (Line2D([], [], color=look(i).colour, linestyle=look(i).line), label) for i, label in enumerate(labels)
        ]
        nodes = Line2D([], [], linestyle="none", marker="|", markersize=7, color=FAINT), "quadrature nodes"
        entries = [*curves, band] + [mark] * marked + [nodes] * (view != "linear")
        legend_below(figure, entries, f"smoothed with a Gaussian, standard deviation {', '.join(notes)}")
        return settle(figure)


@dataclass(frozen=True)
class _Curve:
    """x, height and error on a grid; marks: (x, height) of resolved eigenvalues that stand alone; one: their height."""

    x: np.ndarray
    height: np.ndarray
    error: np.ndarray
    marks: np.ndarray
    one: float


Function = Callable[[np.ndarray], np.ndarray]


def _curve(result: DensityResult, width: float, factor: float, forward: Function, backward: Function) -> _Curve:
    """`factor` times the density over u = forward(λ), on a grid that misses no peak."""
    spectrum = result.spectrum
    points = forward(np.concatenate([spectrum.eigenvalues, spectrum.nodes]))
    near = (points[:, None] + width * np.arange(-4, 4.5, 0.5)).ravel()
    u = np.unique(np.concatenate([np.linspace(near.min(), near.max(), 600), near]))
    height, error = spectrum.density(u, width, forward)
    one = 1 / (result.size * width * (2 * np.pi) ** 0.5)
    at = forward(spectrum.eigenvalues)
    tops = spectrum.density(at, width, forward)[0] if len(at) else at
    alone = tops <= _ALONE * one
    marks = np.stack([spectrum.eigenvalues[alone], factor * tops[alone]], 1)
    return _Curve(backward(u), factor * height, factor * error, marks, factor * one)


def _width(results: Sequence[DensityResult]) -> float:
    """One width for all, so that an eigenvalue is as high in one curve as in another."""
    return max(result.width for result in results)


def _linear(axes: Axes, results: Sequence[DensityResult]) -> bool:
    """Draw the left view; returns whether an eigenvalue is marked."""
    same: Function = lambda x: x  # noqa: E731
    curves = [_curve(result, _width(results), 1.0, same, same) for result in results]
    _plot(axes, curves)
    low, high, _ = limits(np.concatenate([curve.x for curve in curves]), "linear", 0.0)
    scale_axis(axes.xaxis, low, high, "linear")
    axes.set(xlabel="Hessian eigenvalue λ", ylabel="spectral density (per unit of λ)")
    return any(len(curve.marks) for curve in curves)


def _logarithmic(axes: Axes, results: Sequence[DensityResult]) -> bool:
    """Draw the right view; returns whether an eigenvalue is marked."""
    linear = min(map(linear_width, results))
    width = DECADES * np.log(10)

    def forward(x: np.ndarray) -> np.ndarray:
        return np.arcsinh(x / linear)

    def backward(u: np.ndarray) -> np.ndarray:
        return linear * np.sinh(u)

    curves = [_curve(result, width, result.size * np.log(10), forward, backward) for result in results]
    _plot(axes, curves)
    for i, result in enumerate(results):
        axes.plot(
            result.nodes, np.zeros(len(result.nodes)), linestyle="none", marker="|", markersize=7, color=look(i).colour,
            markeredgewidth=0.5, transform=axes.get_xaxis_transform(), gid="nodes",
        )  # fmt: skip
    ends = np.concatenate([curve.x for curve in curves])
    low, high = float(ends.min()), float(ends.max())
    axes.set_xscale("asinh", linear_width=linear)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(symlog_ticks(low, high, 3 * linear, 8).tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set(xlabel="Hessian eigenvalue λ (symmetric logarithm)", ylabel="eigenvalues per decade of λ")
    return any(len(curve.marks) for curve in curves)


def linear_width(result: DensityResult) -> float:
    """|λ| below which the symmetric logarithm turns linear: half the room between the nodes around zero.

    What lies nearer to zero, the quadrature does not tell apart. Between 1e-6 and 1e-2 of max|λ|.
    """
    low, high = result.spectrum.range
    scale = max(abs(low), abs(high)) or 1.0
    nodes = result.nodes
    nearest = int(np.abs(nodes).argmin()) if len(nodes) else 0
    around = nodes[max(nearest - 1, 0) : nearest + 2]
    room = np.ptp(around) / 2 if len(around) > 1 else 0.0
    return float(np.clip(room, 1e-6 * scale, 1e-2 * scale))


def _plot(axes: Axes, curves: Sequence[_Curve]) -> None:
    floor = 0.3 * min(curve.one for curve in curves)
    for i, curve in enumerate(curves):
        as_ = look(i)
        low = np.maximum(curve.height - curve.error, floor / 10)
        axes.fill_between(curve.x, low, curve.height + curve.error, color=as_.colour, alpha=0.25, linewidth=0)
        axes.plot(curve.x, np.maximum(curve.height, floor / 10), color=as_.colour, linestyle=as_.line, gid="density")
        if len(curve.marks):
            axes.vlines(curve.marks[:, 0], floor, curve.marks[:, 1], color=as_.colour, linewidth=0.7)
            axes.plot(*curve.marks.T, linestyle="none", marker=as_.marker, color=as_.colour, markersize=2.6, gid="one")
    tops = np.concatenate([curve.height + curve.error for curve in curves])
    scale_axis(axes.yaxis, floor, float(tops.max()) * 2, "log")
    axes.grid(axis="y")
    axes.axvline(0, color=INK, linewidth=0.4, zorder=0)
