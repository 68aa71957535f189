"""Loss and accuracy on the way from one checkpoint to another, after Keskar et al. 2017, Figures 2 and 3."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError, illegal
from landscape.results import SurfaceResult

from .along import LOSS, curves, draw_curves, entries, line_axis, loss_axis
from .coordinates import is_line
from .groups import common_start
from .layout import legend_below, new_figure, settle
from .scales import scale_axis
from .style import INK, LOOKS, VERMILLION, look, style

_ACCURACY = replace(LOOKS[1], colour=VERMILLION)


def draw(
    results: Sequence[SurfaceResult],
    *,
    names: Sequence[str] | None = None,
    spread: str = "lines",
    width: str = "single",
    scale: str = "auto",
) -> Figure:
    """Loss (left) and accuracy (right) along a line, an arc or one direction; solid train, dashed test.

    results: scans of one axis; several are seeds (of a pair of recipes, or of a random direction) on one grid, shown
    as their median and each one as a thin line (spread = lines) or their range as a band (band). Scans under
    several batch-norm policies are drawn as one loss for each policy, without accuracies. names: of the
    checkpoints. scale: of the loss; auto is log unless a loss is zero or negative. Points that are not finite leave
    a gap in the line, marked by a cross on the upper edge.
    """
    _check(results, spread)
    first = results[0]
    with style():
        figure = new_figure(width, 2.35)
        axes = figure.add_subplot()
        policies = _by_policy(results)
        drawn = _one_policy(axes, results, spread) if len(policies) == 1 else _policies(axes, policies, spread)
        losses = [rows.ravel() for rows in curves(results, "loss").values()]
        loss_axis(axes, np.concatenate(losses), scale, LOSS.colour if len(policies) == 1 else INK)
        line_axis(axes, first, names or _end_names(results))
        legend_below(figure, drawn, _note(results, spread))
        return settle(figure)


def _one_policy(axes: Axes, results: Sequence[SurfaceResult], spread: str) -> list[tuple[Line2D, str]]:
    found = curves(results, "loss")
    draw_curves(axes, results[0].x, found, LOSS, spread)
    legend = entries(found, LOSS, "loss")
    accuracies = curves(results, "accuracy")
    if accuracies:
        right = axes.twinx()
        draw_curves(right, results[0].x, accuracies, _ACCURACY, spread)
        _accuracy_axis(right, accuracies)
        legend += entries(accuracies, _ACCURACY, "accuracy")
    return legend


def _policies(axes: Axes, policies: dict[str, list[SurfaceResult]], spread: str) -> list[tuple[Line2D, str]]:
    """The losses under each batch-norm policy in a look of its own."""
    legend = []
    for number, (policy, results) in enumerate(policies.items()):
        found = curves(results, "loss")
        draw_curves(axes, results[0].x, found, look(number), spread)
        legend += entries(found, look(number), f"loss, {policy}")
    return legend


def _by_policy(results: Sequence[SurfaceResult]) -> dict[str, list[SurfaceResult]]:
    found: dict[str, list[SurfaceResult]] = {}
    for result in results:
        found.setdefault(result.spec.batch_norm, []).append(result)
    return found


def _check(results: Sequence[SurfaceResult], spread: str) -> None:
    if not results or not all(is_line(result) for result in results):
        raise InputError("parametric needs scans of one axis (`landscape surface line`). Leave the other results out.")
    if spread not in ("lines", "band"):
        raise illegal("spread", spread, "lines or band", "")
    first = results[0]
    for other in results[1:]:
        alike = type(other.spec) is type(first.spec) and _path(other) == _path(first)
        if not alike or not np.array_equal(other.x, first.x):
            raise InputError("these scans differ in their α or their path. Draw them apart, or scan again alike.")


def _path(result: SurfaceResult) -> object:
    """What the axis is: the path between checkpoints, or the kind of direction."""
    return getattr(result.spec, "path", None) or result.spec.to_dict()["axes"]


def _accuracy_axis(axes: Axes, found: dict[str, np.ndarray]) -> None:
    finite = np.concatenate([rows[np.isfinite(rows)] for rows in found.values()])
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 100.0)
    room = max(0.05 * (high - low), 0.2)
    scale_axis(axes.yaxis, max(low - room, -2.0), min(high + room, 102.0), "linear")
    axes.set_ylabel("accuracy (%)", color=_ACCURACY.colour)
    axes.tick_params(axis="y", which="both", colors=_ACCURACY.colour)


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


def _note(results: Sequence[SurfaceResult], spread: str) -> str:
    parts = []
    seeds = {len(group) for group in _by_policy(results).values()}
    if seeds != {1}:
        thin = "thin lines: each" if spread == "lines" else "band: range"
        count = " or ".join(map(str, sorted(seeds)))
        parts.append(f"median of {count} seeds ({thin})")
    if len(_by_policy(results)) == 1 and results[0].conditions.get("has_batch_norm"):
        parts.append(f"batch-norm statistics {results[0].spec.batch_norm}")
    lost = sum(int(np.isnan(result.train_loss).sum()) for result in results if not result.complete)
    if lost:
        parts.append(f"incomplete: {lost} of {sum(len(r.x) for r in results)} points not evaluated")
    return "; ".join(parts)
