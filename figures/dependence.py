"""What Keskar's φ depends on: a small panel for each setting that was changed, everything else as by default."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import DependenceResult

from .groups import is_single
from .layout import legend_below, new_figure, settle, wrap
from .scales import choose_scale, limits, number, scale_axis
from .style import look, style

Panel = tuple[str, str, str]
"""Factor, space, law of A ("" where the factor is the law itself, or the space has none)."""

_FACTORS = {
    "iterations": "iterations of each climb",
    "restarts": "jittered starts",
    "dtype": "arithmetic",
    "law": "law of the columns of A",
    "dimension": "p, the columns of A",
}
_SETTINGS = {"until converged": "conv.", "gaussian": "N(0,1)"}
_LAWS = {"gaussian": "N(0,1) columns", "unit": "unit columns", "orthonormal": "orthonormal columns"}


def draw(results: Sequence[DependenceResult], *, factors: Sequence[str] | None = None, width: str = "double") -> Figure:
    """Sharpness φ of each network against each setting on a logarithmic axis, mean ± deviation over trials.

    factors: those to draw, default all. Panels of one row share their axis; each says by how much φ moves in it.
    Open markers: one L-BFGS-B climb alone.
    """
    if not is_single(results, DependenceResult):
        raise InputError("dependence needs exactly one study of φ (`python -m landscape.study_keskar`).")
    result = results[0]
    panels = _panels(result, factors)
    across = min(3 if width == "double" else 1, len(panels))
    down = -(-len(panels) // across)
    with style():
        figure = new_figure(width, 1.5 * down)
        for row in range(down):
            shown = panels[row * across : (row + 1) * across]
            for column, panel in enumerate(shown):
                axes = figure.add_subplot(down, across, row * across + column + 1)
                _curves(axes, result, panel)
                letter = f"({chr(ord('a') + row * across + column)}) " if len(panels) > 1 else ""
                words = _movement(result, _rows(result, panel))
                axes.set_title(f"{letter}{_title(result, panel)}\n{words}".strip(), size=7.5)
                _value_axis(axes, result, shown, labelled=column == 0)
        climbs = "climb" in {result.searches[i] for panel in panels for i in _rows(result, panel)}
        legend_below(figure, _entries(result, climbs), _note(result, panels))
        return settle(figure)


def _panels(result: DependenceResult, factors: Sequence[str] | None) -> list[Panel]:
    for name in factors or ():
        if name not in result.factors:
            known = ", ".join(dict.fromkeys(result.factors))
            raise InputError(f"factors: {name!r} was not changed in this study. It has {known}.")
    rows = zip(result.factors, result.spaces, result.laws, strict=True)
    return list(
        dict.fromkeys(
            (factor, space, law if factor == "dimension" else "")
            for factor, space, law in rows
            if factors is None or factor in factors
        )
    )


def _rows(result: DependenceResult, panel: Panel) -> list[int]:
    factor, space, law = panel
    return [
        i for i, row in enumerate(zip(result.factors, result.spaces, strict=True))
        if row == (factor, space) and law in ("", result.laws[i])
    ]  # fmt: skip


def _labels(result: DependenceResult) -> list[str]:
    return list(dict.fromkeys(result.labels))


def _curves(axes: Axes, result: DependenceResult, panel: Panel) -> None:
    """Settings at equal distances (counts grow by equal factors); words after counts stand apart, unconnected."""
    rows, labels = _rows(result, panel), _labels(result)
    ticks = list(dict.fromkeys(result.settings[i] for i in rows))
    counts = [tick for tick in ticks if tick.isdigit()]
    gap = 0.6 if counts else 0.0
    places = {tick: k + gap * (tick not in counts) for k, tick in enumerate(ticks)}
    for index, label in enumerate(labels):
        for search in ("climb", "whole"):
            chosen = [i for i in rows if result.labels[i] == label and result.searches[i] == search]
            for part in ([i for i in chosen if result.settings[i] in counts],
                         [i for i in chosen if result.settings[i] not in counts]):  # fmt: skip
                if not part:
                    continue
                shift = 0.12 * (index - (len(labels) - 1) / 2)
                x = np.array([places[result.settings[i]] + shift for i in part])
                _series(axes, result, part, x, index, search)
    axes.set_xticks([places[tick] for tick in ticks], [_SETTINGS.get(tick, wrap(tick, 11, 2)) for tick in ticks])
    axes.set_xlim(-0.5, max(places.values()) + 0.5 + 0.15 * (gap > 0))
    axes.set_xlabel(_FACTORS.get(panel[0], panel[0]))
    axes.grid(axis="y")


def _series(axes: Axes, result: DependenceResult, rows: list[int], x: np.ndarray, index: int, search: str) -> None:
    as_, whole = look(index), search == "whole"
    connected = len(rows) > 1 and all(result.settings[i].isdigit() for i in rows)
    means, deviations = result.sharpness[rows], np.nan_to_num(result.deviation[rows], posinf=0.0)
    axes.errorbar(
        x, np.where(np.isfinite(means), means, np.nan), deviations, color=as_.colour, marker=as_.marker,
        linestyle=as_.line if connected else "none", linewidth=1.2 if whole else 0.7, elinewidth=0.8,
        markerfacecolor=as_.colour if whole else "white", markeredgewidth=0.8, zorder=4 if whole else 3,
        gid=f"{result.labels[rows[0]]}, {search}",
    )  # fmt: skip


def _title(result: DependenceResult, panel: Panel) -> str:
    _, space, law = panel
    if space == "full":
        return "full space"
    if law:
        return f"subspace of {_LAWS.get(law, law)}"
    return f"subspace, p = {result.spec.dimension}"


def _movement(result: DependenceResult, rows: list[int]) -> str:
    """Largest over smallest φ among the settings, of the network where that is largest."""
    ratios = []
    for label in _labels(result):
        means = np.array([
            result.sharpness[i] for i in rows if result.labels[i] == label and result.searches[i] == "whole"
        ])  # fmt: skip
        if len(means) and np.isfinite(means).all() and (means > 0).all():
            ratios.append(means.max() / means.min())
    if not ratios:
        return ""
    change = max(ratios) - 1
    if change >= 1:
        return f"moves φ by up to a factor {number(float(f'{max(ratios):.2g}'))}"
    return f"moves φ by up to {100 * change:.2g} %" if change >= 1e-4 else "moves φ by less than 0.01 %"


def _value_axis(axes: Axes, result: DependenceResult, panels: Sequence[Panel], labelled: bool) -> None:
    rows = [i for panel in panels for i in _rows(result, panel)]
    means, deviations = result.sharpness[rows], np.nan_to_num(result.deviation[rows], posinf=0.0)
    ends = np.concatenate([means, means + deviations, np.where(means > deviations, means - deviations, means)])
    scale = choose_scale(means[np.isfinite(means)])
    low, high, threshold = limits(ends, scale, 0.1)
    scale_axis(axes.yaxis, low, high, scale, threshold, most=5)
    axes.tick_params(axis="y", labelleft=labelled)
    if labelled:
        axes.set_ylabel("sharpness φ (%)")


def _entries(result: DependenceResult, climbs: bool) -> list[tuple[Line2D, str]]:
    entries = []
    for index, label in enumerate(_labels(result)):
        as_ = look(index)
        kept = {"color": as_.colour, "linestyle": as_.line, "marker": as_.marker, "markeredgewidth": 0.8}
        entries.append((Line2D([], [], **kept), label))
        if climbs:
            alone = Line2D([], [], **{**kept, "markerfacecolor": "white", "linewidth": 0.7})
            entries.append((alone, f"one L-BFGS-B climb alone, {label}"))
    return entries


def _note(result: DependenceResult, panels: Sequence[Panel]) -> str:
    trials = result.spec.trials
    rows = [i for panel in panels for i in _rows(result, panel)]
    words = [f"ε = {result.spec.epsilons[0]:g}" + (f", mean ± s.d. of {trials} trials" if trials > 1 else "")]
    if any(result.settings[i] == "until converged" for i in rows):
        words.append("conv.: climbed until converged")
    climbs = any(result.searches[i] == "climb" for i in rows)
    words += ["titles: of the filled markers"] if climbs else []
    return "; ".join(words)
