"""Which measures order checkpoints as they generalise: Kendall's τ of each, with its interval, ranked."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import CorrelationResult

from .eigenvalues import subscripted
from .groups import is_single
from .layout import legend_below, new_figure, settle, wrap
from .style import FAINT, INK, look, style

_ROW = 0.155
_GAPS = {"error": "generalisation gap of the error", "loss": "generalisation gap of the loss"}


def draw(
    results: Sequence[CorrelationResult],
    *,
    measures: Sequence[str] | None = None,
    limit: int | None = None,
    width: str = "single",
) -> Figure:
    """Kendall τ of each measure with the generalisation gap, largest on top, with its bootstrap interval.

    A hollow diamond is Ψ, the mean τ over runs that differ in one hyper-parameter alone, where settings are known.
    measures: those to draw, default all with a τ; limit: the most rows, those of largest |τ|.
    """
    if not is_single(results, CorrelationResult):
        raise InputError("correlation needs exactly one correlation (`landscape compare --correlate`).")
    result = results[0]
    rows = _chosen(result, measures, limit)
    with style():
        figure = new_figure(width, 0.55 + _ROW * len(rows))
        axes = figure.add_subplot()
        entries = _points(axes, result, rows)
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
        names = [wrap(subscripted(result.measures[i]), 40 if width == "single" else 60, 1) for i in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-1.04, 1.04)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−½", "0", "½", "1"])
        axes.grid(axis="x")
        axes.set_xlabel("Kendall τ")
        checkpoints, share = int(result.counts[rows].max()), f"{100 * result.spec.confidence:g} %"
        note = f"τ with the {_GAPS[result.spec.gap]}; {checkpoints} checkpoints, {share} bootstrap intervals"
        legend_below(figure, entries, note)
        return settle(figure)


def _chosen(result: CorrelationResult, measures: Sequence[str] | None, limit: int | None) -> np.ndarray:
    for name in measures or ():
        if name not in result.measures:
            raise InputError(f"measures: {name!r} is not in this correlation. It has {', '.join(result.measures)}.")
    wanted = np.array([measures is None or name in measures for name in result.measures])
    rows = np.flatnonzero(wanted & np.isfinite(result.taus))
    if not len(rows):
        raise InputError("no measure of this correlation has a τ: each is constant, or the gap is.")
    rows = rows[np.argsort(-np.abs(result.taus[rows]), kind="stable")][:limit]
    return rows[np.argsort(-result.taus[rows], kind="stable")]


def _points(axes: Axes, result: CorrelationResult, rows: np.ndarray) -> list[tuple[Line2D, str]]:
    places = np.arange(len(rows))
    taus, lows, highs = result.taus[rows], result.lows[rows], result.highs[rows]
    sure = (lows > 0) | (highs < 0)
    colour = look(0).colour
    axes.hlines(places, lows, highs, color=INK, linewidth=0.9, zorder=3)
    for chosen, face in ((sure, colour), (~sure, "white")):
        axes.plot(
            taus[chosen], places[chosen], linestyle="none", marker="o", color=colour, markerfacecolor=face,
            markersize=4.2, zorder=5,
        )  # fmt: skip
    handle = {"linestyle": "none", "marker": "o", "color": colour, "markersize": 4.2}
    entries = [(Line2D([], [], markerfacecolor=colour, **handle), "τ, interval without 0")]
    if not sure.all():
        entries.append((Line2D([], [], markerfacecolor="white", **handle), "τ, interval with 0"))
    granulated = result.granulated[rows]
    if np.isfinite(granulated).any():
        diamond = {
            "linestyle": "none", "marker": "D", "color": look(3).colour, "markerfacecolor": "none", "markersize": 4.6,
        }  # fmt: skip
        axes.plot(granulated, places, zorder=4, gid="granulated", **diamond)
        entries.append((Line2D([], [], **diamond), "Ψ, one hyper-parameter at a time"))
    return entries
