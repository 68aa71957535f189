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


def scan(
    function: Callable[[Vector, Index], Sequence[float]],
    origin: Vector,
    directions: Float[Tensor, "axes n"],
    coordinates: Float[np.ndarray, "*grid axes"],
    *,
    values: Float[np.ndarray, "*grid outputs"] | None = None,
    done: Bool[np.ndarray, "*grid"] | None = None,
    after: Callable[[], None] | None = None,
) -> Float[np.ndarray, "*grid outputs"]:
    """values[i, j, …, :] = function(origin + Σ c_i·d_i, (i, j, …)) with c = coordinates[i, j, …].

    One vector is formed per point, always in the same memory: `function` must not keep it. A scan is
    continued by giving `values` and `done`, both filled in place; cells already done are not evaluated again.
    `after` is called after each evaluation. Whatever the function returns is stored, NaN and Inf included.
    """
    cells = coordinates.shape[:-1]
    done = np.zeros(cells, dtype=bool) if done is None else done
    point = torch.empty_like(origin)
    for index in np.ndindex(cells):
        if done[index]:
            continue
        displaced(origin, directions, coordinates[index].tolist(), out=point)
        outputs = np.asarray(function(point, index), dtype=np.float64)
        values = np.full((*cells, len(outputs)), np.nan) if values is None else values
        values[index] = outputs
        done[index] = True
        if after is not None:
            after()
    if values is None:
        raise ValueError("the grid has no cell left to evaluate and no values were given")
    return values
