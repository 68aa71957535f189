"""Loss and error along the paths between minima: lines, aligned and recalibrated lines, curves; and their barriers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError, illegal
from landscape.results import PathResult

from .layout import cross_out, legend_below, new_figure, settle, wrap
from .scales import limits, number, scale_axis
from .style import Look, look, style

_PATHS = (
    "raw", "recalibrated", "aligned", "aligned, recalibrated", "curve", "running statistics",
    "aligned, running statistics",
)  # fmt: skip
_WORDS = {"raw": "straight line", "curve": "trained curve"}
_COLUMNS = 3
_MARKERS = 7
_SPLITS = {"train": "training", "test": "test"}


def draw(
    results: Sequence[PathResult],
    *,
    names: Sequence[str] | None = None,
    split: str = "train",
    scale: str = "auto",
    width: str | None = None,
) -> Figure:
    """Loss (above) and error (below) along the paths between minima, a column for each pair, barriers marked.

    results: one for each pair; their axes are the same. names: of the pairs. split: train or test data. scale: of the
    loss; auto is log where losses span more than a factor of 30, otherwise linear. A vertical mark goes from the
    straight line between a path's ends to its highest point above it; the number beside the path's marker is its
    height. Points that are not finite are crosses on the upper edge. width: single for one pair, otherwise double.
    """
    _check(results, names, split)
    quantities = [q for q in (f"{split} loss", f"{split} error") if all(q in r.quantities for r in results)]
    with style():
        figure, panels = _panels(len(results), quantities, width)
        for number_of_pair, (result, axes) in enumerate(zip(results, panels, strict=True)):
            title = names[number_of_pair] if names else "{} → {}".format(*result.labels)
            axes[0].set_title(wrap(title, 30 if len(results) > 1 else 44))
            for one, quantity in zip(axes, quantities, strict=True):
                _draw_paths(one, result, quantity)
                _list_heights(one, result, quantity)
        for quantity, axes in zip(quantities, zip(*panels, strict=True), strict=True):
            _scale(axes, results, quantity, scale)
        legend_below(figure, _entries(results), f"{_SPLITS[split]} data; vertical marks and numbers: barriers")
        return settle(figure)


def _panels(pairs: int, quantities: Sequence[str], width: str | None) -> tuple[Figure, list[list[Axes]]]:
    """A figure with so many columns of panels, at most three side by side; for each pair its panels from the top."""
    columns, height = min(pairs, _COLUMNS), len(quantities)
    rows = height * -(-pairs // columns)
    figure = new_figure(width or ("single" if pairs == 1 else "double"), 0.3 + 1.75 * rows)
    grid = figure.add_gridspec(rows, columns)
    panels = []
    for pair in range(pairs):
        block, column = divmod(pair, columns)
        axes = [figure.add_subplot(grid[height * block + row, column]) for row in range(height)]
        for one, quantity in zip(axes, quantities, strict=True):
            one.tick_params(labelleft=column == 0, labelbottom=one is axes[-1])
            if column == 0:
                one.set_ylabel(quantity + (" (%)" if quantity.endswith("error") else ""))
        axes[-1].set_xlabel("position t on the path")
        panels.append(axes)
    return figure, panels


def _check(results: Sequence[PathResult], names: Sequence[str] | None, split: str) -> None:
    if not results or not all(isinstance(result, PathResult) for result in results):
        raise InputError("barriers needs paths (`landscape path barrier`). Leave the other results out.")
    if split not in _SPLITS:
        raise illegal("split", split, "train or test", "")
    if not all(f"{split} loss" in result.quantities for result in results):
        raise illegal("split", split, "one that all results have", "Draw split=train, or measure with test data.")
    if names is not None and len(names) != len(results):
        raise InputError(f"names: {len(names)} given for {len(results)} pairs. Give one name for each.")


def _values(result: PathResult, path: int, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """t and the values as drawn: errors in percent."""
    t, values = result.along(path, quantity)
    return t, 100 * values if quantity.endswith("error") else values


def _look(name: str) -> Look:
    return look(_PATHS.index(name))


def _draw_paths(axes: Axes, result: PathResult, quantity: str) -> None:
    for path, name in enumerate(result.paths):
        (t, values), as_ = _values(result, path, quantity), _look(name)
        every = max(len(t) // _MARKERS, 1)
        finite = np.isfinite(values)
        axes.plot(
            t, np.where(finite, values, np.nan), color=as_.colour, linestyle=as_.line, marker=as_.marker,
            markersize=2.8, markevery=(path * every // len(result.paths), every), gid=f"path-{name}", zorder=3,
        )  # fmt: skip
        cross_out(axes, t[~finite], as_.colour)
        if (mark := _mark(result, path, quantity)) is not None:
            place, low, high = mark
            axes.plot([place, place], [low, high], color=as_.colour, linewidth=0.6, marker="_", markersize=5, zorder=4)
    axes.grid(axis="y")
    scale_axis(axes.xaxis, -0.03, 1.03, "linear", most=5)


def _mark(result: PathResult, path: int, quantity: str) -> tuple[float, float, float] | None:
    """Where a barrier stands, and from where to where it reaches; None for one that is 0 or infinite."""
    column = result.QUANTITIES.index(quantity)
    height, place = result.barriers[path, column], result.barrier_t[path, column]
    if not 0 < height < np.inf:
        return None
    values = _values(result, path, quantity)[1]
    chord = float((1 - place) * values[0] + place * values[-1])
    return float(place), chord, chord + float(height) * (100 if quantity.endswith("error") else 1)


def _scale(panels: Sequence[Axes], results: Sequence[PathResult], quantity: str, scale: str) -> None:
    """One scale for all panels of a quantity."""
    values = np.concatenate([_values(r, k, quantity)[1] for r in results for k in range(len(r.paths))])
    finite = values[np.isfinite(values)]
    if quantity.endswith("error"):
        scale = "linear"
    elif scale == "auto":
        scale = "log" if len(finite) and finite.min() > 0 and finite.max() > 30 * finite.min() else "linear"
    low, high, threshold = limits(values, scale, margin=0.1)
    for axes in panels:
        scale_axis(axes.yaxis, low, high, scale, threshold)


def _list_heights(axes: Axes, result: PathResult, quantity: str) -> None:
    """The height of each path's barrier beside its marker, in a corner that is free."""
    scale, unit = (100, " %") if quantity.endswith("error") else (1, "")
    heights = [scale * height for height in result.barriers[:, result.QUANTITIES.index(quantity)]]
    axes.legend(
        [_handle(name, line="none") for name in result.paths],
        [number(float(f"{height:.2g}")) + unit for height in heights],
        loc="best", handlelength=1.0, handletextpad=0.3, labelspacing=0.25, borderaxespad=0.5,
        frameon=True, facecolor="white", edgecolor="none", framealpha=0.8,
    )  # fmt: skip


def _entries(results: Sequence[PathResult]) -> list[tuple[Line2D, str]]:
    """Each path once, in a fixed order."""
    there = {name for result in results for name in result.paths}
    return [(_handle(name, _look(name).line), _WORDS.get(name, name)) for name in _PATHS if name in there]


def _handle(name: str, line: Any) -> Line2D:
    as_ = _look(name)
    return Line2D([], [], color=as_.colour, linestyle=line, marker=as_.marker, markersize=2.8)
