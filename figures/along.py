"""Values along a line of weights: curves of train and test, gaps marked, the axis and the checkpoints on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import SurfaceResult

from .coordinates import axis_names
from .layout import cross_out, wrap
from .scales import choose_scale, limits, scale_axis
from .style import INK, LOOKS, Look

LOSS = LOOKS[0]
DASHES: dict[str, Any] = {"train": "-", "test": (0, (4, 1.6))}


def curves(results: Sequence[SurfaceResult], word: str) -> dict[str, np.ndarray]:
    """{`train`: (seeds, X), `test`: …}; accuracies in percent; a split that some result lacks is left out."""
    factor = 100.0 if word == "accuracy" else 1.0
    found = {}
    for split in ("train", "test"):
        rows = [getattr(result, f"{split}_{word}") for result in results]
        if all(row.size for row in rows) and not (word == "accuracy" and all(np.isnan(row).all() for row in rows)):
            found[split] = factor * np.stack(rows)
    return found


def draw_curves(
    axes: Axes,
    x: np.ndarray,
    found: dict[str, np.ndarray],
    as_: Look,
    spread: str = "lines",
    dashes: dict[str, Any] = DASHES,
) -> None:
    """The median of each split's rows with every row (lines) or their range (band); points that are lost get a cross.

    found: of `curves`. dashes: line style by split. Crosses stand on the upper edge.
    """
    for split, rows in found.items():
        open_marker = "white" if split == "test" else as_.colour
        with np.errstate(invalid="ignore"):
            middle = np.median(rows, axis=0)
        if len(rows) > 1 and spread == "lines":
            for row in rows:
                axes.plot(x, row, color=as_.colour, linestyle=dashes[split], linewidth=0.5, alpha=0.55)
        elif len(rows) > 1:
            axes.fill_between(x, rows.min(axis=0), rows.max(axis=0), color=as_.colour, alpha=0.18, linewidth=0)
        axes.plot(
            x, middle, color=as_.colour, linestyle=dashes[split], marker=as_.marker, markersize=2.6,
            markerfacecolor=open_marker, markeredgewidth=0.7, zorder=3, gid=f"{split}-middle",
        )  # fmt: skip
        cross_out(axes, x[~np.isfinite(rows).all(axis=0)], as_.colour)


def entries(
    found: dict[str, np.ndarray], as_: Look, words: str, dashes: dict[str, Any] = DASHES
) -> list[tuple[Line2D, str]]:
    """The legend of some curves: `train loss`, `test loss`."""
    return [
        (
            Line2D([], [], color=as_.colour, linestyle=dashes[split], marker=as_.marker, markersize=2.6,
                   markerfacecolor="white" if split == "test" else as_.colour, markeredgewidth=0.7),
            f"{split} {words}".strip(),
        )
        for split in found
    ]  # fmt: skip


def loss_axis(axes: Axes, values: np.ndarray, scale: str, colour: str = LOSS.colour) -> None:
    """The left axis: scale, limits, name and colour for these losses."""
    chosen = choose_scale(values, scale)
    bottom, top, threshold = limits(values, chosen)
    scale_axis(axes.yaxis, bottom, top, chosen, threshold)
    axes.set_ylabel("loss", color=colour)
    axes.tick_params(axis="y", which="both", colors=colour)
    axes.grid(axis="y")


def line_axis(axes: Axes, result: SurfaceResult, names: Sequence[str]) -> None:
    """The coordinate's axis; at each checkpoint on it a dotted vertical and, above the axes, its name.

    The names of two ends lean away from each other. Raises `InputError` when there are not as many names as ends.
    """
    x, places = result.x, result.marks[:, 0]
    axes.set_xlabel(wrap(axis_names(result)[0], 52, 2))
    room = 0.02 * float(np.ptp(x))
    scale_axis(axes.xaxis, float(x.min()) - room, float(x.max()) + room, "linear", most=7)
    if len(names) != len(places):
        raise InputError(f"names: {len(names)} given for {len(places)} ends. Give one name for each.")
    lean = ("right", "left") if len(places) == 2 else ("center",) * len(places)
    for side, place, name in zip(lean, places, names, strict=True):
        if not x.min() <= place <= x.max():
            continue
        axes.axvline(float(place), color=INK, linestyle=(0, (1, 1.5)), linewidth=0.8, zorder=1)
        axes.annotate(
            wrap(name, max(44 // len(places), 6)), (float(place), 1.0), (0, 4),
            xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            ha=side, va="baseline", size=7, linespacing=1.05, annotation_clip=False,
        )  # fmt: skip
