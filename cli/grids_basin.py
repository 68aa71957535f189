"""The table of basins: a row for each point and height, lower bounds marked."""

import numpy as np

from landscape.results import BasinResult

from .cells import Cell, Grid, Number

_VOLUMES = {1: "width", 2: "area", 3: "volume"}


def basin(result: BasinResult) -> Grid:
    """The table that is shown of basins; `>` marks a lower bound."""
    rows = tuple(_row(result, i, j) for i in range(len(result.labels)) for j in range(len(result.spec.rises)))
    axes = "xyz"[: result.dimension]
    if result.dimension == 1:
        shape = ("asymmetry",)
    else:
        shape = (*(f"width {x}" for x in axes), *(f"asymmetry {x}" for x in axes), "radius", "anisotropy")
    headings = ("", "height", "level", _VOLUMES[result.dimension], *shape, "% of scan", "components")
    return Grid(f"Basins of the {result.spec.quantity}", headings, rows)


def _row(result: BasinResult, i: int, j: int) -> tuple[Cell, ...]:
    shape: list[Cell] = [Number(value, form="+.2f") for value in result.asymmetry[i, j]]
    if result.dimension > 1:
        unmet = result.reach_open[i, j].any(axis=-1)
        widths = [_bound(width, end) for width, end in zip(result.widths[i, j], unmet, strict=True)]
        radius = _bound(result.radii[i, j], result.open[i, j])
        shape = [*widths, *shape, radius, Number(result.anisotropy[i, j])]
    return (
        result.labels[i] if j == 0 else "",
        result.spec.rises[j],
        Number(result.levels[i, j]),
        _bound(result.volumes[i, j], result.open[i, j]),
        *shape,
        Number(100 * result.shares[i, j], form=".3g"),
        Number(int(result.components[i, j]), form="d"),
    )


def _bound(value: float, lower: bool | np.bool_) -> Cell:
    return f"> {Number(value)}" if lower else Number(value)
