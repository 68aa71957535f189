"""A study at a glance: one number against what was varied, mean ± standard error over seeds."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError, illegal
from landscape.results import StudyResult

from .eigenvalues import subscripted
from .groups import is_single
from .layout import cross_out, legend_below, new_figure, part_ticks, settle, wrap
from .scales import SCALES, limits, number, scale_axis
from .study_lines import Line, column_of, conditions_of, lines_of, varies
from .style import FAINT, look, style

_DECADES = 20.0
"""Positive values that span more than this factor take a logarithmic axis."""


FITS = {"none": "", "log": "; grey: a + b·log₁₀ x", "power": "; grey: log₁₀ y = a + b·log₁₀ x"}
"""Laws that are fitted, and what the figure says of them."""

_TIMES = ("epoch", "step")
"""Columns along which a run moves."""


def draw(
    results: Sequence[StudyResult],
    *,
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
    below: str | None = None,
    where: str = "",
    x_scale: str = "auto",
    scale: str = "auto",
    fit: str = "none",
    fit_until: float = float("inf"),
    width: str = "single",
) -> Figure:
    """A column of a study against one of its factors, a line for each value of another: mean ± standard error.

    x: factor or column, default the first factor; of a column its mean is taken. y: column, default the first that is
    shown. below: another column, in a panel below. by: factor with a line for each value, default the second one.
    where: `factor=value,…` to choose runs by, and `at=…` where they were measured at several moments. Cells are joined
    along a factor of numbers, along epochs and steps. Small marks are the runs; a cross above is a cell without a
    finite mean.

    fit: log, y = a + b·log10 x, or power, log10 y = a + b·log10 x: least squares through the means with x up to
    fit_until, drawn grey, with b in the legend.
    """
    if fit not in FITS:
        raise illegal("fit", fit, f"one of {', '.join(FITS)}", "")
    if not is_single(results, StudyResult):
        raise InputError("study needs exactly one study's result (study.safetensors). Leave the other results out.")
    result = results[0]
    if not result.columns:
        raise InputError("this study holds no number to draw yet. Execute it first.")
    x = x if x is not None else next(iter(result.factors), None)
    if by is None and x in result.factors:
        by = next((name for name in result.factors if name != x and varies(result.settings, name, {x})), None)
    column = column_of(result, "y", y if y is not None else result.columns[result.columns_shown()[0]])
    if x is None or (x not in result.factors and x not in result.columns):
        raise illegal("x", x, f"one of {', '.join((*result.factors, *result.columns))}", "Choose one.")
    if by is not None and by not in result.factors:
        raise illegal("by", by, f"one of {', '.join(result.factors) or 'none'}", "It must be varied in the study.")
    shown = [column] if below is None else [column, column_of(result, "below", below)]
    conditions = conditions_of(result, where)
    panels = [lines_of(result, x, number, by, conditions) for number in shown]
    lines = panels[0][0]
    with style():
        figure = new_figure(width, 2.4 if below is None else 3.6)
        rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        joined = x in (*result.factors, *_TIMES) and fit == "none" and not panels[0][1]
        for axes, index, (drawn, ticks) in zip(rows, shown, panels, strict=True):
            for place, line in enumerate(drawn):
                _draw_line(axes, line, place, joined)
            room = max(4, int(18 * figure.get_figwidth() / max(len(ticks), 1)) - 2)  # characters of a word below
            words = [wrap(tick, room, 3) for tick in ticks]
            _axes(axes, drawn, words, x_scale, scale if axes is rows[0] else "auto")
            axes.set_ylabel(wrap(subscripted(result.columns[index]), 32 if below is None else 24, 2))
        rows[-1].set_xlabel(wrap(subscripted(_said(x)), 44, 2))
        slopes = [_draw_fit(rows[0], line, fit, fit_until) for line in lines] if fit != "none" else []
        legend_below(figure, _legend(lines, by, slopes, joined), _note(lines, FITS[fit]))
        settle(figure)
        if panels[0][1]:
            part_ticks(rows[-1])
        return figure


def _draw_line(axes: Axes, line: Line, number: int, joined: bool) -> None:
    as_ = look(number)
    there = np.isfinite(line.means) & np.isfinite(line.x)
    errors = np.where(np.isfinite(line.errors), line.errors, 0)
    axes.plot(
        line.seeds[:, 0], line.seeds[:, 1], linestyle="none", marker=as_.marker, markersize=1.8, color=as_.colour,
        alpha=0.45, markeredgewidth=0, zorder=2, gid="seeds",
    )  # fmt: skip
    axes.errorbar(
        line.x[there], line.means[there], errors[there], color=as_.colour, linestyle=as_.line if joined else "none",
        marker=as_.marker, markerfacecolor="white" if number % 2 else as_.colour, zorder=3,
    )  # fmt: skip
    cross_out(axes, line.x[~there & np.isfinite(line.x)], as_.colour)


def _draw_fit(axes: Axes, line: Line, law: str, until: float) -> str:
    """Draw the law's curve; returns its slope in words."""
    a, b = line.fit(law, until)
    x = np.geomspace(line.x[line.x > 0].min(), min(line.x.max(), until), 50)
    y = a + b * np.log10(x)
    axes.plot(x, 10**y if law == "power" else y, color=FAINT, linewidth=0.9, zorder=1, gid="fit")
    return f", b = {number(float(f'{b:.3g}'))}"


def _axes(axes: Axes, lines: Sequence[Line], ticks: list[str], x_scale: str, scale: str) -> None:
    x = np.concatenate([np.concatenate([line.x, line.seeds[:, 0]]) for line in lines])
    heights = [np.concatenate([line.means, line.seeds[:, 1]]) for line in lines]
    bars = [line.means + sign * np.nan_to_num(line.errors) for line in lines for sign in (-1, 1)]
    chosen = _scale(np.concatenate(heights), scale, "scale")
    values = np.concatenate(heights + bars)
    low, high, threshold = limits(values[values > 0] if chosen == "log" else values, chosen)
    scale_axis(axes.yaxis, low, high, chosen, threshold)
    axes.grid(axis="y")
    if ticks:
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.set_xticks(range(len(ticks)), ticks)
        return
    chosen = _scale(x, x_scale, "x_scale")
    low, high, threshold = limits(x, chosen)
    scale_axis(axes.xaxis, low, high, chosen, threshold)


def _scale(values: np.ndarray, asked: str, option: str) -> str:
    """Linear, or logarithmic where positive values span decades."""
    if asked not in SCALES:
        raise illegal(option, asked, f"one of {', '.join(SCALES)}", "")
    finite = values[np.isfinite(values)]
    if asked == "log" and (finite <= 0).any():
        raise illegal(option, asked, f"one that can show {finite.min():g}", "Use symlog or linear.")
    if asked != "auto":
        return asked
    return "log" if len(finite) and (finite > 0).all() and finite.max() > _DECADES * finite.min() else "linear"


def _legend(lines: Sequence[Line], by: str | None, slopes: Sequence[str], joined: bool) -> list[tuple[Any, str]]:
    """slopes: added to the lines' names, () for none. joined: whether the cells are."""
    if by is None and not slopes:
        return []
    return [
        (
            Line2D(
                [], [], color=look(k).colour, linestyle=look(k).line if joined else "none", marker=look(k).marker,
                markerfacecolor="white" if k % 2 else look(k).colour,
            ),
            (f"{_said(by)} = {line.name}" if by else "mean") + (slopes[k] if slopes else ""),
        )
        for k, line in enumerate(lines)
    ]  # fmt: skip


def _said(name: str) -> str:
    """A factor as a figure calls it: `batch size`, `label noise` for `data_args.label_noise`, `ρ`."""
    return "ρ" if name == "rho" else re.sub(r"^(model|data)_args\.", "", name).replace("_", " ")


def _note(lines: Sequence[Line], fit: str) -> str:
    bars = any(np.isfinite(line.errors).any() for line in lines)
    return ("mean ± standard error over seeds; small marks: runs" if bars else "one run each") + fit
