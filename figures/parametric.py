"""Loss and accuracy on the way from one checkpoint to another, after Keskar et al. 2017, Figures 2 and 3."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError, illegal
from landscape.results import SurfaceResult
from landscape.spec import LineSpec

from .groups import common_start
from .layout import legend_below, new_figure, settle, wrap
from .scales import choose_scale, limits, scale_axis
from .style import INK, LOOKS, VERMILLION, Look, style

_LOSS, _ACCURACY = LOOKS[0], replace(LOOKS[1], colour=VERMILLION)
_DASHES = {"train": "-", "test": (0, (4, 1.6))}
_PATHS = {"line": "α   (w = (1−α) w₀ + α w₁)", "arc": "α   (w = cos(απ/2) w₀ + sin(απ/2) w₁)"}


def draw(
    results: Sequence[SurfaceResult],
    *,
    names: Sequence[str] | None = None,
    spread: str = "lines",
    width: str = "single",
    scale: str = "auto",
) -> Figure:
    """Loss (left) and accuracy (right) along the line or arc between two checkpoints; solid train, dashed test.

    results: line scans; several are seeds of one pair of recipes on one grid, shown as their median and each
    one as a thin line (spread = lines) or their range as a band (band). names: of the two ends.
    scale: of the loss; auto is log unless a loss is zero or negative. Points that are not finite leave a gap in
    the line, marked by a cross on the upper edge.
    """
    _check(results, spread)
    first = results[0]
    with style():
        figure = new_figure(width, 2.35)
        axes = figure.add_subplot()
        curves = _curves(results, "loss")
        _draw_axis(axes, first.x, curves, _LOSS, spread)
        _loss_axis(axes, curves, scale)
        entries = _entries(curves, _LOSS, "loss")
        accuracies = _curves(results, "accuracy")
        if accuracies:
            right = axes.twinx()
            _draw_axis(right, first.x, accuracies, _ACCURACY, spread)
            _accuracy_axis(right, accuracies)
            entries += _entries(accuracies, _ACCURACY, "accuracy")
        axes.set_xlabel(_PATHS[first.spec.path])  # type: ignore[union-attr]
        scale_axis(axes.xaxis, *_padded(first.x), "linear", most=7)
        _name_ends(axes, first.marks[:, 0], names or _end_names(results), first.x)
        legend_below(figure, entries, _note(results, spread))
        return settle(figure)


def _check(results: Sequence[SurfaceResult], spread: str) -> None:
    if not results or not all(isinstance(r, SurfaceResult) and isinstance(r.spec, LineSpec) for r in results):
        raise InputError("parametric needs line scans (`landscape surface line`). Leave the other results out.")
    if spread not in ("lines", "band"):
        raise illegal("spread", spread, "lines or band", "")
    first = results[0]
    for other in results[1:]:
        if other.x.shape != first.x.shape or not np.array_equal(other.x, first.x) or other.spec.path != first.spec.path:  # type: ignore[union-attr]
            raise InputError("these scans differ in their α or their path. Draw them apart, or scan again alike.")


def _curves(results: Sequence[SurfaceResult], word: str) -> dict[str, np.ndarray]:
    """{`train`: (seeds, X), `test`: …}; accuracies in percent; a split that some result lacks is left out."""
    factor = 100.0 if word == "accuracy" else 1.0
    found = {}
    for split in ("train", "test"):
        rows = [getattr(result, f"{split}_{word}") for result in results]
        if all(row.size for row in rows) and not (word == "accuracy" and all(np.isnan(row).all() for row in rows)):
            found[split] = factor * np.stack(rows)
    return found


def _draw_axis(axes: Axes, x: np.ndarray, curves: dict[str, np.ndarray], as_: Look, spread: str) -> None:
    for split, rows in curves.items():
        open_marker = "white" if split == "test" else as_.colour
        with np.errstate(invalid="ignore"):
            middle = np.median(rows, axis=0)
        if len(rows) > 1 and spread == "lines":
            for row in rows:
                axes.plot(x, row, color=as_.colour, linestyle=_DASHES[split], linewidth=0.5, alpha=0.55)
        elif len(rows) > 1:
            axes.fill_between(x, rows.min(axis=0), rows.max(axis=0), color=as_.colour, alpha=0.18, linewidth=0)
        axes.plot(
            x, middle, color=as_.colour, linestyle=_DASHES[split], marker=as_.marker, markersize=2.6,
            markerfacecolor=open_marker, markeredgewidth=0.7, zorder=3, gid=f"{split}-middle",
        )  # fmt: skip
        lost = ~np.isfinite(rows).all(axis=0)
        if lost.any():
            axes.plot(
                x[lost], np.ones(lost.sum()), linestyle="none", marker="x", color=as_.colour, markersize=3.6,
                transform=axes.get_xaxis_transform(), clip_on=False, zorder=5,
            )  # fmt: skip


def _loss_axis(axes: Axes, curves: dict[str, np.ndarray], scale: str) -> None:
    values = np.concatenate([rows.ravel() for rows in curves.values()])
    chosen = choose_scale(values, scale)
    bottom, top, threshold = limits(values, chosen)
    scale_axis(axes.yaxis, bottom, top, chosen, threshold)
    axes.set_ylabel("loss", color=_LOSS.colour)
    axes.tick_params(axis="y", which="both", colors=_LOSS.colour)
    axes.grid(axis="y")


def _accuracy_axis(axes: Axes, curves: dict[str, np.ndarray]) -> None:
    finite = np.concatenate([rows[np.isfinite(rows)] for rows in curves.values()])
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 100.0)
    room = max(0.05 * (high - low), 0.2)
    scale_axis(axes.yaxis, max(low - room, -2.0), min(high + room, 102.0), "linear")
    axes.set_ylabel("accuracy (%)", color=_ACCURACY.colour)
    axes.tick_params(axis="y", which="both", colors=_ACCURACY.colour)


def _padded(x: np.ndarray) -> tuple[float, float]:
    room = 0.02 * float(x.max() - x.min())
    return float(x.min()) - room, float(x.max()) + room


def _name_ends(axes: Axes, places: np.ndarray, names: Sequence[str], x: np.ndarray) -> None:
    """A dotted vertical and, above the axes, the name of each end; the names lean away from each other."""
    if len(names) != len(places):
        raise InputError(f"names: {len(names)} given for {len(places)} ends. Give one name for each.")
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        if not x.min() <= place <= x.max():
            continue
        axes.axvline(float(place), color=INK, linestyle=(0, (1, 1.5)), linewidth=0.8, zorder=1)
        axes.annotate(
            wrap(name, 22), (float(place), 1.0), (0, 4),
            xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            ha="right" if number == 0 else "left", va="baseline", size=7, linespacing=1.05, annotation_clip=False,
        )  # fmt: skip


def _end_names(results: Sequence[SurfaceResult]) -> list[str]:
    """The labels of the ends; over several seeds, what their labels have in common."""
    names = []
    for labels in zip(*(result.labels for result in results), strict=True):
        shared = common_start(labels).rstrip(" -_/.,=(")
        shared = shared if len(set(labels)) == 1 else shared.removesuffix("seed").rstrip(" -_/.,=(")
        if not shared:
            raise InputError(f"these scans join different checkpoints ({', '.join(labels)}). Draw them apart.")
        names.append(shared)
    return names


def _entries(curves: dict[str, np.ndarray], as_: Look, word: str) -> list[tuple[Line2D, str]]:
    return [
        (
            Line2D([], [], color=as_.colour, linestyle=_DASHES[split], marker=as_.marker, markersize=2.6,
                   markerfacecolor="white" if split == "test" else as_.colour, markeredgewidth=0.7),
            f"{split} {word}",
        )
        for split in curves
    ]  # fmt: skip


def _note(results: Sequence[SurfaceResult], spread: str) -> str:
    parts = []
    if len(results) > 1:
        thin = "thin lines: each" if spread == "lines" else "band: range"
        parts.append(f"median of {len(results)} seeds ({thin})")
    lost = sum(int(np.isnan(result.train_loss).sum()) for result in results if not result.complete)
    if lost:
        parts.append(f"incomplete: {lost} of {sum(len(r.x) for r in results)} points not evaluated")
    return "; ".join(parts)
