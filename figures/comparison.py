"""A whole comparison at a glance: one small panel per column, the seeds of each label as points."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.results import ComparisonResult

from .eigenvalues import legend_entries, points_by_group, subscripted, value_axis
from .groups import from_comparison, is_single
from .layout import legend_below, new_figure, settle, wrap
from .style import style


def draw(results: Sequence[ComparisonResult], *, columns: Sequence[str] | None = None, width: str = "double") -> Figure:
    """Every column of a comparison in its own panel: seeds as points, their mean as a dash, error bars.

    columns: names of those to draw; default all that hold a number. Raises `InputError` for an unknown column.
    """
    if not is_single(results, ComparisonResult):
        raise InputError("comparison needs exactly one comparison (`landscape compare`).")
    result = results[0]
    chosen = _chosen(result, columns)
    across = min(len(chosen), 4 if width == "double" else 2)
    down = -(-len(chosen) // across)
    with style():
        figure = new_figure(width, 1.45 * down)
        for number, column in enumerate(chosen):
            groups = from_comparison(result, [column])
            axes = figure.add_subplot(down, across, number + 1)
            points_by_group(axes, groups, 0, inches=0.0)
            axes.set_title(wrap(subscripted(result.columns[column]), 25, 2), size=7.5)
            value_axis(axes, groups, _scale(result.values[:, column]))
        legend_below(figure, legend_entries(groups, named=True, kind="measurement error"))
        return settle(figure)


def _chosen(result: ComparisonResult, columns: Sequence[str] | None) -> list[int]:
    for name in columns or ():
        if name not in result.columns:
            raise InputError(f"columns: {name!r} is not in this comparison. It has {', '.join(result.columns)}.")
    chosen = [
        i for i, name in enumerate(result.columns)
        if (columns is None or name in columns) and np.isfinite(result.values[:, i]).any()
    ]  # fmt: skip
    if not chosen:
        raise InputError("this comparison holds no number to draw. Compare again with more measurements.")
    return chosen


def _scale(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return "log" if (finite > 0).all() and finite.max() > 20 * finite.min() else "linear"
