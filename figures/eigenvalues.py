"""Hessian eigenvalues of several checkpoints side by side, each with its error bar."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import ComparisonResult, HessianResult

from .groups import (
    EIGENVALUES,
    Group,
    chosen_columns,
    ends_of,
    from_comparison,
    from_results,
    is_single,
)
from .layout import legend_below, new_figure, settle, wrap
from .scales import choose_scale, limits, scale_axis
from .style import FAINT, INK, Look, look, style


def draw(
    results: Sequence[HessianResult | ComparisonResult],
    *,
    names: Sequence[str] | None = None,
    width: str | None = None,
    scale: str = "auto",
) -> Figure:
    """Eigenvalues λₖ by checkpoint, seeds of one label side by side, with error bars.

    results: Hessian results of one end of the spectrum, or one comparison with eigenvalue columns.
    names: one per Hessian result, equal names being seeds. Bars: residual bound + sampling standard error
    (comparison: its error). Open markers have not converged. width: single or double column.
    scale: auto (log if all are positive, else symlog), log, symlog or linear.
    """
    groups, ticks, axis_label, kind = _read(results, names)
    with style():
        crowd = max(len(ticks), 1) * sum(len(group.values) for group in groups)
        figure = new_figure(width or ("single" if crowd <= 30 else "double"), 2.3)
        axes = figure.add_subplot()
        if len(ticks) == 1:
            named = points_by_group(axes, groups, 0, inches=figure.get_figwidth() - 0.6)
            axis_label = ""
        else:
            named = False
            _points_by_index(axes, groups, ticks)
        axes.set_xlabel(axis_label)
        matrices = {result.matrix for result in results if isinstance(result, HessianResult)} or {"Hessian"}
        matrix = " or ".join(sorted(matrices))
        axes.set_ylabel(f"{matrix} eigenvalue {ticks[0] if len(ticks) == 1 else 'λₖ'}")
        value_axis(axes, groups, scale)
        legend_below(figure, legend_entries(groups, named=not named, kind=kind))
        return settle(figure)


def _read(results: Sequence, names: Sequence[str] | None) -> tuple[list[Group], list[str], str, str]:
    if is_single(results, ComparisonResult):
        columns = chosen_columns(results[0], EIGENVALUES)
        if not columns:
            raise InputError("this comparison has no eigenvalue columns. Compare again with --eigenvalues 1 or more.")
        ticks = [subscripted(results[0].columns[i]) for i in columns]
        return from_comparison(results[0], columns), ticks, "eigenvalue", "sampling s.e."
    if not results or not all(isinstance(result, HessianResult) for result in results):
        raise InputError("eigenvalues needs Hessian results, or one comparison. Leave the other results out.")
    groups = from_results(results, names, _eigenvalues)
    ends, count = ends_of(results), groups[0].values.shape[1]
    ticks = [f"λ{_index(k, count, ends)}" for k in range(count)]
    labels = {
        "largest": "eigenvalue, largest first",
        "smallest": "eigenvalue, smallest first",
        "magnitude": "eigenvalue, largest magnitude first",
        "both": "eigenvalue, both ends of the spectrum",
    }
    return groups, ticks, labels[ends], "residual + sampling s.e."


def _eigenvalues(result: HessianResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    errors = result.residuals + np.nan_to_num(result.sampling_errors, nan=0.0)
    return result.eigenvalues, errors, result.converged.astype(bool)


_LOWERED = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")


def subscripted(column: str) -> str:
    """λ1 as λ₁; other names as they are."""
    return column.translate(_LOWERED) if column.startswith("λ") else column


def _index(k: int, count: int, ends: str) -> str:
    from_below = count - 1 - k if ends == "both" else k
    if ends == "smallest" or (ends == "both" and k >= count // 2):
        return "ₙ" if from_below == 0 else "ₙ₋" + str(from_below).translate(_LOWERED)
    return str(k + 1).translate(_LOWERED)


def value_axis(axes: Axes, groups: Sequence[Group], scale: str) -> None:
    """Scale and limits of the value axis that hold every point and, where the scale can show it, its bar."""
    values = np.concatenate([group.values.ravel() for group in groups])
    errors = _shown(np.concatenate([group.errors.ravel() for group in groups]))
    chosen = choose_scale(values, scale)
    low = values - errors
    if chosen == "log":
        low = np.where(low > 0, low, values / 2)
    bottom, top, threshold = limits(np.concatenate([values, low, values + errors]), chosen)
    scale_axis(axes.yaxis, bottom, top, chosen, threshold)
    axes.grid(axis="y")
    if chosen == "symlog":
        axes.axhline(0, color=INK, linewidth=0.5, zorder=1)


def _points_by_index(axes: Axes, groups: Sequence[Group], ticks: Sequence[str]) -> None:
    seeds = [len(group.values) for group in groups]
    step = 0.8 / (sum(seeds) + 0.6 * (len(groups) - 1))
    position = -0.4 + step / 2
    for number, group in enumerate(groups):
        first = position
        for values, errors, sure in zip(group.values, group.errors, group.sure, strict=True):
            _points(axes, np.arange(len(values)) + position, values, errors, sure, look(number))
            position += step
        if len(group.values) > 1:
            for k, mean in enumerate(group.mean):
                _dash(axes, k + first - step / 2, k + position - step / 2, mean, look(number))
        position += 0.6 * step
    every = -(-len(ticks) // 12)
    axes.set_xticks(range(0, len(ticks), every), ticks[::every])
    axes.set_xlim(-0.55, len(ticks) - 0.45)
    for k in range(1, len(ticks)):
        axes.axvline(k - 0.5, color="#e6e6e6", linewidth=0.5, zorder=0)


def points_by_group(axes: Axes, groups: Sequence[Group], column: int, inches: float) -> bool:
    """One column: labels along the x axis, the seeds of each as points around its place, their mean as a dash.

    inches: length of the axis. Returns whether the labels had room there; otherwise the legend has to name them.
    """
    for number, group in enumerate(groups):
        values = group.values[:, column]
        place = number + (np.arange(len(values)) - (len(values) - 1) / 2) * min(0.16, 0.6 / len(values))
        _points(axes, place, values, group.errors[:, column], group.sure[:, column], look(number))
        if len(values) > 1:
            _dash(axes, number - 0.32, number + 0.32, group.mean[column], look(number))
    characters = int(14 * inches / len(groups))
    named = characters >= 9
    axes.set_xticks(range(len(groups)) if named else [], [wrap(g.name, characters) for g in groups] if named else [])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    return named


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, errors: np.ndarray, sure: np.ndarray, as_: Look) -> None:
    axes.errorbar(x, y, _shown(errors), fmt="none", ecolor=as_.colour, elinewidth=0.8, capsize=0)
    for chosen, face in ((sure, as_.colour), (~sure, "white")):
        axes.plot(
            x[chosen], y[chosen], linestyle="none", marker=as_.marker, color=as_.colour, markerfacecolor=face,
            markersize=3.0, markeredgewidth=0.7, zorder=3,
        )  # fmt: skip


def _shown(errors: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(errors), errors, 0.0)


def _dash(axes: Axes, left: float, right: float, height: float, as_: Look) -> None:
    axes.plot([left, right], [height, height], color=as_.colour, linewidth=1.0, alpha=0.75, zorder=2)


def legend_entries(groups: Sequence[Group], named: bool, kind: str) -> list[tuple[Line2D, str]]:
    """Legend of points drawn by this module; `named` when the labels stand nowhere else, `kind` says what bars are."""
    entries = []
    if named:
        entries = [
            (Line2D([], [], linestyle="none", marker=look(i).marker, color=look(i).colour), group.name)
            for i, group in enumerate(groups)
        ]
    seeds = max(len(group.values) for group in groups)
    bars = any(np.isfinite(group.errors).any() for group in groups)
    if bars:
        entries.append((Line2D([], [], linestyle="none", marker="|", markersize=8, color=FAINT), kind))
    if seeds > 1:
        entries.append((Line2D([], [], color=FAINT, linewidth=1.0), f"mean of {seeds} seeds"))
    if not all(group.sure.all() for group in groups):
        entries.append(
            (Line2D([], [], linestyle="none", marker="o", color=FAINT, markerfacecolor="white"), "not converged")
        )
    return entries
