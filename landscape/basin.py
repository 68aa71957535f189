"""How wide, how large and how separate are the basins that a scan of the loss shows?"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.basin_result import BasinResult
from landscape.basin_spec import BasinSpec
from landscape.errors import InputError, illegal
from landscape.methods.basin import Basin, Grid, basin
from landscape.methods.merge_tree import MergeTree, descend, merge_tree
from landscape.methods.sublevel import components
from landscape.surface_result import SurfaceResult

LOWEST = "lowest point"
"""The label of the lowest grid point."""


def measure(surface: SurfaceResult, spec: BasinSpec) -> BasinResult:
    """Shapes of the basins around the marks of a scan and around its lowest point, its minima and their passes.

    A basin at level t is the component of {f ≤ t} that holds the grid point next to the mark, f being
    `surface.grid(spec.quantity)`, interpolated linearly; t is f at that grid point plus an increase or times a factor.
    Values that are not finite are walls; cells not evaluated are unknown (see `BasinResult`).
    Raises `InputError` when no value is finite, coordinates do not increase, or the quantity is an accuracy.
    """
    began = time.perf_counter()
    grid = _grid(surface, spec.quantity)
    labels, points, offsets, outside = _points(surface, grid)
    tree = merge_tree(grid.heights, grid.edges, points)
    bases = grid.heights[points]
    levels = _levels(bases, spec)
    basins = [
        [basin(grid, point, level) if np.isfinite(level) else None for level in row]
        for point, row in zip(points, levels.tolist(), strict=True)
    ]
    return BasinResult(
        spec=spec, labels=labels, points=grid.points[points], offsets=offsets, bases=bases, levels=levels,
        **_shapes(basins, len(grid.coordinates)), **_tree(grid, tree),
        branches=np.array([_branch(grid, tree, point) for point in points]), passes=tree.passes,
        walls=int((np.isinf(grid.heights) & grid.known.ravel()).sum()), unknown=int((~grid.known).sum()),
        cells=grid.known.size, outside=outside, conditions=surface.conditions, provenance=surface.provenance,
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def _grid(surface: SurfaceResult, quantity: str) -> Grid:
    if quantity.endswith("accuracy"):
        raise illegal("quantity", quantity, "a loss, or another number that is low in a basin", "Use test loss.")
    values = surface.grid(quantity)
    if any(len(axis) < 2 or not (np.diff(axis) > 0).all() for axis in surface.coordinates):
        raise InputError("the scan's coordinates do not increase along every axis. Scan two points or more on each.")
    grid = Grid(surface.coordinates, values.astype(float), surface.known)
    if not np.isfinite(grid.heights).any():
        raise InputError(f"{quantity} is finite nowhere in this scan: there is no basin. Choose another quantity.")
    return grid


def _points(surface: SurfaceResult, grid: Grid) -> tuple[tuple[str, ...], list[int], np.ndarray, tuple[str, ...]]:
    """(labels, grid points, distances from the marks) of what is measured, and the labels of marks outside."""
    labels, points, offsets, outside = [], [], [], []
    for label, mark in zip(surface.labels, surface.marks, strict=False):
        point = grid.nearest(mark)
        if point is None or not np.isfinite(grid.heights[point]):
            outside.append(label)
            continue
        labels.append(label)
        points.append(point)
        offsets.append(float(np.linalg.norm(grid.points[point] - mark)))
    lowest = int(grid.heights.argmin())
    if lowest not in points:
        labels, points, offsets = [*labels, LOWEST], [*points, lowest], [*offsets, 0.0]
    return tuple(labels), points, np.array(offsets), tuple(outside)


def _levels(bases: np.ndarray, spec: BasinSpec) -> np.ndarray:
    """(m, L): above every base; no factor raises a base that is not positive."""
    added = bases[:, None] + np.array(spec.increases)
    scaled = np.where(bases[:, None] > 0, bases[:, None] * np.array(spec.factors), np.nan)
    return np.concatenate([added, scaled], axis=1)


def _shapes(basins: list[list[Basin | None]], size: int) -> dict[str, Any]:
    """The arrays of a result that hold a number for each point and level, NaN (or no) where there is no level."""
    nan = float("nan")

    def table(read: Callable[[Basin], Any], missing: Any) -> np.ndarray:
        return np.array([[missing if one is None else read(one) for one in row] for row in basins])

    return {
        "reach": table(lambda b: b.reach, np.full((size, 2), nan)),
        "reach_open": table(lambda b: b.reach_open, np.zeros((size, 2), bool)),
        "volumes": table(lambda b: b.moments.volume, nan),
        "open": table(lambda b: b.open, False),
        "deviations": table(lambda b: b.moments.deviations, np.full(size, nan)),
        "shares": table(lambda b: b.share, nan),
        "components": table(lambda b: b.components, 0),
    }


def _tree(grid: Grid, tree: MergeTree) -> dict[str, Any]:
    saddles = np.where(tree.saddles[:, None] >= 0, grid.points[tree.saddles], np.nan)
    return {
        "births": tree.births, "deaths": tree.deaths, "minima": grid.points[tree.minima], "saddles": saddles,
        "parents": tree.parents,
    }  # fmt: skip


def _branch(grid: Grid, tree: MergeTree, point: int) -> int:
    """The branch of the minimum below a grid point; of a plateau's many lowest points the tree knows one."""
    bottom = descend(grid.heights, grid.edges, point)
    labels = components(grid.heights, grid.edges, float(grid.heights[bottom]))[1]
    return int(np.flatnonzero(labels[tree.minima] == labels[bottom])[0])
