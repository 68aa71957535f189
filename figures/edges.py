"""Several trainings at their edges of stability: λ₁ by step, beside 2/η for gradient descent and SAM's own edge."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import TrackResult

from .groups import result_names
from .layout import legend_below, new_figure, settle
from .scales import choose_scale, limits, scale_axis
from .style import INK, look, style

_EDGE = {"color": INK, "linewidth": 0.8, "linestyle": (0, (1, 1.4))}
_MOST_MARKERS = 16
_REACH = 1.3
"""Edges up to so many times the largest eigenvalue are inside the frame."""


def draw(
    results: Sequence[TrackResult], *, names: Sequence[str] | None = None, width: str = "double", scale: str = "auto"
) -> Figure:
    """λ₁ of each series by step with its edge (dotted): on the left without SAM, on the right with.

    Edges: 2/η, or what the base optimiser's is (Cohen et al. 2021), and with SAM that at ‖∇f‖ (Long & Bartlett 2024).
    names: of the series. scale of λ₁: auto (linear; log where it spans decades), linear, log or symlog, shared by the
    panels. An edge is drawn where it is known and inside the frame of the eigenvalues.
    """
    if not results or not all(isinstance(result, TrackResult) for result in results):
        raise InputError("edges needs series of checkpoints (`landscape track`), one or more.")
    named = list(zip(result_names(results, names), results, strict=True))
    panels = [("without SAM", [one for one in named if not _by_sam(one[1])])]
    panels += [("SAM", [one for one in named if _by_sam(one[1])])]
    panels = [(title, shown) for title, shown in panels if shown]
    values = _shown(results)
    chosen = choose_scale(values, _wanted(values, scale))
    bottom, top, threshold = limits(values, chosen)
    with style():
        figure = new_figure(width, 2.6)
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        entries: list[tuple[Line2D, str]] = []
        for axes, (title, shown) in zip(row, panels, strict=True):
            scale_axis(axes.yaxis, min(bottom, 0.0) if chosen == "linear" else bottom, top, chosen, threshold)
            for name, result in shown:
                entries.append((_series(axes, result, len(entries)), name))
            _steps(axes, [result for _, result in shown])
            axes.set_title(title)
            axes.grid(axis="y")
        row[0].set_ylabel("largest Hessian eigenvalue λ₁")
        legend_below(figure, [*entries, (Line2D([], [], **_EDGE), "edge of stability")])
        return settle(figure)


def _by_sam(result: TrackResult) -> bool:
    return bool(np.isfinite(result.sam_edges).any())


def _edges(result: TrackResult) -> np.ndarray:
    return result.sam_edges if _by_sam(result) else result.edges


def _shown(results: Sequence[TrackResult]) -> np.ndarray:
    """What the frame is chosen for: all eigenvalues, and the edges that are not far above them."""
    values = np.concatenate([result.eigenvalues[:, 0] for result in results])
    values = values[np.isfinite(values)]
    if not values.size:
        raise InputError("these series hold no eigenvalue to draw yet. Go on measuring them.")
    edges = np.concatenate([_edges(result) for result in results])
    return np.concatenate([values, edges[edges <= _REACH * values.max()]])


def _wanted(values: np.ndarray, scale: str) -> str:
    spread = (values > 0).all() and values.max() > 30 * values.min()
    return "linear" if scale == "auto" and not spread and (values >= 0).all() else scale


def _series(axes: Axes, result: TrackResult, number: int) -> Line2D:
    as_, t = look(number), result.axis[1]
    line = {"color": as_.colour, "linestyle": as_.line, "marker": as_.marker, "markersize": 3.0}
    every = -(-len(t) // _MOST_MARKERS)
    axes.plot(t, result.eigenvalues[:, 0], markevery=every, zorder=3, **line)
    edges = _edges(result)
    low, high = sorted(axes.get_ylim())
    inside = np.where((edges >= low) & (edges <= high), edges, np.nan)
    axes.plot(t, inside, zorder=4, **_EDGE)
    return Line2D([], [], **line)


def _steps(axes: Axes, results: Sequence[TrackResult]) -> None:
    names = {result.axis[0] for result in results}
    t = np.concatenate([result.axis[1] for result in results])
    room = 0.02 * ((t.max() - t.min()) or 1.0)
    scale_axis(axes.xaxis, t.min() - room, t.max() + room, "linear")
    axes.set_xlabel(" or ".join(sorted(names)))
