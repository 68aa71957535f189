"""Parts of a plane without a number: hatched, each kind in its own way, and said in the legend."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from .style import FAINT

_HATCHES = {"not evaluated": "....", "NaN or not evaluated": "////", "NaN": "////", "infinite": "xxxx"}


def hatch(axes: Axes, x: np.ndarray, y: np.ndarray, kinds: dict[str, np.ndarray]) -> dict[str, Patch]:
    """Hatch all quadrilaterals of the grid that have a corner of a kind, below whatever is drawn; {why: its patch}.

    kinds: {why: (X, Y) cells}, from `quantities.missing` or a recipe's own; a later kind lies over an earlier one.
    """
    order = [why for why in _HATCHES if why in kinds] + [why for why in kinds if why not in _HATCHES]
    patches = {}
    for depth, why in enumerate(order):
        cells = kinds[why]
        how: dict[str, Any] = {"facecolor": "white", "edgecolor": FAINT, "hatch": _HATCHES.get(why, "\\\\\\\\")}
        corners = [cells[:-1, :-1], cells[1:, :-1], cells[1:, 1:], cells[:-1, 1:]]
        i, j = np.nonzero(np.logical_or.reduce(corners))
        boxes = np.stack([
            np.stack([x[i + a], y[j + b]], axis=-1) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
        ], axis=1)  # fmt: skip
        codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(boxes))
        area = Path(boxes.reshape(-1, 2), codes)
        axes.add_patch(PathPatch(area, linewidth=0, zorder=-2 + 0.1 * depth, gid=f"hole: {why}", **how))
        patches[why] = Patch(linewidth=0.6, **how)
    return patches


def counted(patches: dict[str, Patch], kinds: dict[str, np.ndarray]) -> list[tuple[Patch, str]]:
    """The legend of the hatched parts, each with its number of points."""
    return [(patches[why], f"{int(kinds[why].sum())} of {kinds[why].size} points: {why}") for why in patches]
