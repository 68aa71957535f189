"""What moves while the function stays: the change of every measure under every kind of transformation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import AuditResult

from .eigenvalues import subscripted
from .groups import is_single
from .layout import legend_below, new_figure, settle, wrap
from .style import FAINT, look, style

_ROW = 0.155
_FLOOR = 1e-17
_APART = 0.14
"""Rows between the kinds of one number, so that none hides another."""

_KINDS = {
    "relu-layer": "layers rescaled", "relu": "units rescaled", "batch-norm": "batch norm rescaled",
    "permutation": "units permuted",
}  # fmt: skip


def draw(results: Sequence[AuditResult], *, measures: Sequence[str] | None = None, width: str = "single") -> Figure:
    """Relative change of each number, on a logarithmic axis; filled where the number must not move, else hollow.

    A change of zero stands at the left edge. measures: names of the numbers to draw, default all.
    """
    if not is_single(results, AuditResult):
        raise InputError("audit needs exactly one audit (`landscape sharpness --audit`).")
    result = results[0]
    for name in measures or ():
        if name not in result.names:
            raise InputError(f"measures: {name!r} is not in this audit. It has {', '.join(result.names)}.")
    rows = [i for i, name in enumerate(result.names) if measures is None or name in measures]
    with style():
        figure = new_figure(width, 0.55 + _ROW * len(rows))
        axes = figure.add_subplot()
        entries = _points(axes, result, rows)
        axes.set_xscale("log")
        axes.set_xlim(_FLOOR / 3, 10 * max(1.0, float(np.nanmax(_finite(result.changes[rows]), initial=1.0))))
        axes.set_xticks([1e-16, 1e-8, 1e-2, 1e2], ["10⁻¹⁶", "10⁻⁸", "1 %", "×100"])
        axes.set_xticks([], minor=True)
        axes.axvline(0.01, color=FAINT, linewidth=0.8, zorder=1)
        axes.set_yticks(range(len(rows)), [wrap(subscripted(result.names[i]), 40, 1) for i in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.set_xlabel("relative change")
        note = "filled: must not move by its definition; at the left edge: did not move" + (
            f"; {len(result.broken)} BROKEN" if result.broken else ""
        )
        legend_below(figure, entries, note)
        return settle(figure)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _points(axes: Axes, result: AuditResult, rows: list[int]) -> list[tuple[Line2D, str]]:
    entries = []
    for k, kind in enumerate(result.kinds):
        places = np.arange(len(rows)) + _APART * (k - (len(result.kinds) - 1) / 2)
        changes = np.clip(np.nan_to_num(result.changes[rows, k], posinf=np.nan), _FLOOR, None)
        claimed = result.claims[rows, k]
        shape = {"linestyle": "none", "marker": look(k).marker, "color": look(k).colour, "markersize": 3.4}
        for chosen, face in ((claimed, look(k).colour), (~claimed, "white")):
            axes.plot(changes[chosen], places[chosen], markerfacecolor=face, zorder=3 + k, gid=kind, **shape)
        entries.append((Line2D([], [], markerfacecolor="white", **shape), _KINDS.get(kind, kind)))
    return entries
