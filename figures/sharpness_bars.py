"""ε-sharpness of several checkpoints as bars with error bars and the single seeds as dots."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from landscape.errors import InputError
from landscape.results import ComparisonResult, SharpnessResult

from .groups import (
    SHARPNESS,
    Group,
    chosen_columns,
    from_comparison,
    from_results,
    is_single,
    unit_of,
)
from .layout import legend_below, new_figure, settle, wrap
from .scales import choose_scale, number, scale_axis
from .style import INK, look, style


def draw(
    results: Sequence[SharpnessResult | ComparisonResult],
    *,
    names: Sequence[str] | None = None,
    width: str | None = None,
    scale: str = "auto",
) -> Figure:
    """Sharpness by space and ε, one bar per label: mean ± standard deviation over seeds, seeds as dots.

    results: one comparison with columns that begin with `sharpness`, or sharpness results of one spec; names:
    one per sharpness result, equal names being seeds. A single seed's bar is its own deviation over trials.
    scale: auto (log when the positive values span more than a factor of 20), log or linear.
    """
    groups, ticks, unit, error_words = _read(results, names)
    with style():
        count = len(groups) * len(ticks)
        figure = new_figure(width or ("single" if count <= 14 and len(ticks) <= 4 else "double"), 2.3)
        axes = figure.add_subplot()
        base = _value_axis(axes, groups, scale)
        _bars(axes, groups, base)
        room = int(figure.get_size_inches()[0] * 14 / len(ticks))
        axes.set_xticks(
            range(len(ticks)), ["\n".join(wrap(row, room, 3) for row in tick.split("\n")) for tick in ticks]
        )
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.55, len(ticks) - 0.45)
        axes.set_ylabel(f"sharpness ({unit})" if unit else "sharpness")
        entries = [
            (Patch(facecolor=look(i).colour, edgecolor="white", hatch=look(i).hatch, linewidth=0), group.name)
            for i, group in enumerate(groups)
        ]
        dot = Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            markersize=2.6,
            markerfacecolor="white",
            color=INK,
            markeredgewidth=0.7,
        )
        seeds = max(len(group.values) for group in groups)
        note = f"mean ± s.d. of {seeds} seeds" if seeds > 1 else error_words
        legend_below(figure, [*entries, (dot, "single seed")] if seeds > 1 else entries, note)
        return settle(figure)


def _read(results: Sequence, names: Sequence[str] | None) -> tuple[list[Group], list[str], str, str]:
    if is_single(results, ComparisonResult):
        columns = chosen_columns(results[0], SHARPNESS)
        if not columns:
            raise InputError("this comparison has no sharpness columns. Compare again with --sharpness.")
        split = [unit_of(results[0].columns[i]) for i in columns]
        units = {unit for _, unit in split}
        if len(units) > 1:
            raise InputError(
                f"the sharpness columns have different units ({', '.join(sorted(units))}). Compare them apart."
            )
        ticks = [_tick(name.strip()[len("sharpness") :].strip()) for name, _ in split]
        return from_comparison(results[0], columns), ticks, units.pop(), "± measurement error"
    if not results or not all(isinstance(result, SharpnessResult) for result in results):
        raise InputError("sharpness_bars needs sharpness results, or one comparison. Leave the other results out.")
    spec = results[0].spec
    if any(result.spec.spaces != spec.spaces or result.spec.epsilons != spec.epsilons for result in results):
        raise InputError("these sharpness results differ in their spaces or ε. Measure them alike, or draw them apart.")
    ticks = [
        f"{_SPACES[space]}\nε = {number(epsilon, small=1e-2)}" for space in spec.spaces for epsilon in spec.epsilons
    ]
    groups = from_results(
        results, names, lambda r: (r.sharpness.ravel(), r.deviation.ravel(), np.ones(r.sharpness.size, bool))
    )
    return groups, ticks, "%", f"mean ± s.d. of {spec.trials} trials" if spec.trials > 1 else ""


_SPACES = {"full": "full space", "subspace": "subspace"}


def _tick(words: str) -> str:
    """`full ε=0.001` as two lines, `full space` and `ε = 0.001`; other words as they are."""
    space, sign, epsilon = words.replace(" = ", "=").partition("ε=")
    try:
        return (
            f"{_SPACES.get(space.strip(), space.strip())}\nε = {number(float(epsilon), small=1e-2)}"
            if sign
            else words or "sharpness"
        )
    except ValueError:
        return words


def _value_axis(axes: Axes, groups: Sequence[Group], scale: str) -> float:
    """Scale and limits; returns where the bars stand: zero, or the lower edge of a logarithmic axis."""
    values = np.concatenate([group.values.ravel() for group in groups])
    means = np.concatenate([group.mean for group in groups])
    spread = np.nan_to_num(np.concatenate([group.deviation for group in groups]), nan=0.0)
    tops = np.concatenate([values, means + spread])
    finite, positive = values[np.isfinite(values)], values[np.isfinite(values) & (values > 0)]
    wide = len(positive) == len(finite) > 0 and positive.max() > 20 * positive.min()
    chosen = ("log" if wide else "linear") if scale == "auto" else choose_scale(values, scale)
    top = float(np.nanmax(tops[np.isfinite(tops)], initial=0.0)) or 1.0
    bottom = min(0.0, float(np.min(finite, initial=0.0)))
    if chosen == "log":
        bottom = 10.0 ** np.floor(np.log10(positive.min() / 1.5))
    high = top * (top / bottom) ** 0.05 if chosen == "log" else top * 1.06
    threshold = 10.0 ** np.floor(np.log10(positive.min())) if chosen == "symlog" and len(positive) else 1.0
    scale_axis(axes.yaxis, bottom, high, chosen, threshold)
    axes.grid(axis="y")
    return bottom if chosen == "log" else 0.0


def _bars(axes: Axes, groups: Sequence[Group], base: float) -> None:
    slot = 0.82 / len(groups)
    for i, group in enumerate(groups):
        places = np.arange(group.values.shape[1]) + (i - (len(groups) - 1) / 2) * slot
        means = np.where(np.isfinite(group.mean), group.mean, np.nan)
        axes.bar(
            places, means - base, 0.9 * slot, bottom=base, color=look(i).colour, hatch=look(i).hatch,
            edgecolor="white", linewidth=0, zorder=2,
        )  # fmt: skip
        repeated = len(group.values) > 1
        axes.errorbar(
            places + 0.22 * slot * repeated, means,
            np.where(np.isfinite(group.deviation), group.deviation, np.nan),
            fmt="none", ecolor=INK, elinewidth=0.8, zorder=4,
        )  # fmt: skip
        if repeated:
            offsets = np.linspace(-0.36, -0.04, len(group.values)) * slot
            for offset, row in zip(offsets, group.values, strict=True):
                axes.plot(
                    places + offset, row, linestyle="none", marker="o", markersize=2.2, markerfacecolor="white",
                    color=INK, markeredgewidth=0.6, zorder=5, gid="seed",
                )  # fmt: skip
        for place, mean in zip(places, group.mean, strict=True):
            if not np.isfinite(mean):
                axes.annotate(
                    "n/a" if np.isnan(mean) else "∞", (place, 0), (0, 2),
                    xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="center", size=7, rotation=90,
                )  # fmt: skip
