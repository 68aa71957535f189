"""A function on an affine slice of parameter space: the points origin + Σ c_i·d_i for a grid of coordinates c."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from landscape.aliases import Vector

Index = tuple[int, ...]


def grid(*axes: np.ndarray) -> Float[np.ndarray, "*grid axes"]:
    """Coordinates of all cells: grid(x, y)[i, j] = (x_i, y_j), whatever the lengths of x and y."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float64)


def displaced(
    origin: Vector, directions: Float[Tensor, "axes n"], coordinates: Sequence[float], out: Vector | None = None
) -> Vector:
    """origin + Σ c_i·d_i, written to `out` when it is given; with all coordinates 0 it is the origin, bit for bit."""
    point = origin.clone() if out is None else out.copy_(origin)
    for direction, coordinate in zip(directions, coordinates, strict=True):
        point.add_(direction, alpha=float(coordinate))
    return point


def visitor(
    function: Callable[[Vector, Index], Sequence[float]],
    origin: Vector,
    directions: Float[Tensor, "axes n"],
    coordinates: Float[np.ndarray, "*grid axes"],
    values: Float[np.ndarray, "*grid outputs"],
    done: Bool[np.ndarray, "*grid"],
    after: Callable[[], None] | None = None,
) -> Callable[[Index], None]:
    """visit(cell): values[cell] = function(origin + Σ c_i·d_i, cell) with c = coordinates[cell], unless it is done.

    One vector is formed per point, always in the same memory: `function` must not keep it. `values` and `done` are
    filled in place. `after` is called after each evaluation. Whatever the function returns is stored, NaN and Inf
    included.
    """
    point = torch.empty_like(origin)

    def visit(cell: Index) -> None:
        if done[cell]:
            return
        displaced(origin, directions, coordinates[cell].tolist(), out=point)
        values[cell] = function(point, cell)
        done[cell] = True
        if after is not None:
            after()

    return visit


def scan(
    function: Callable[[Vector, Index], Sequence[float]],
    origin: Vector,
    directions: Float[Tensor, "axes n"],
    coordinates: Float[np.ndarray, "*grid axes"],
    *,
    outputs: int = 1,
    values: Float[np.ndarray, "*grid outputs"] | None = None,
    done: Bool[np.ndarray, "*grid"] | None = None,
    after: Callable[[], None] | None = None,
) -> Float[np.ndarray, "*grid outputs"]:
    """values[i, j, …, :] = function(origin + Σ c_i·d_i, (i, j, …)) at every cell of the grid; see `visitor`.

    A scan is continued by giving `values` and `done`; otherwise there are `outputs` values at each cell.
    """
    cells = coordinates.shape[:-1]
    done = np.zeros(cells, dtype=bool) if done is None else done
    values = np.full((*cells, outputs), np.nan) if values is None else values
    visit = visitor(function, origin, directions, coordinates, values, done, after)
    for cell in np.ndindex(cells):
        visit(cell)
    return values
