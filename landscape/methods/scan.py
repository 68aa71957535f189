"""A function on an affine slice of parameter space: the points origin + Σ c_i·d_i for a grid of coordinates c."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from landscape.aliases import Vector

Index = tuple[int, ...]

Function = Callable[[Sequence[Vector], Sequence[Index]], Sequence[Sequence[float]]]
"""(points, their cells) ↦ the values at each of them."""


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
    function: Function,
    origin: Vector,
    directions: Float[Tensor, "axes n"],
    coordinates: Float[np.ndarray, "*grid axes"],
    values: Float[np.ndarray, "*grid outputs"],
    done: Bool[np.ndarray, "*grid"],
    after: Callable[[], None] | None = None,
    at_once: int = 1,
) -> Callable[[Iterable[Index]], None]:
    """visit(cells): values[cell] = function at origin + Σ c_i·d_i with c = coordinates[cell], for those not done.

    `function` gets `at_once` points at a time, and fewer at the end. They are always formed in the same memory, which
    it must not keep. `values` and `done` are filled in place. `after` is called after each evaluation. Whatever the
    function returns is stored, NaN and Inf included.
    """
    memory = origin.new_empty(min(at_once, done.size), len(origin))
    rows = list(memory)

    def visit(cells: Iterable[Index]) -> None:
        left = [cell for cell in cells if not done[cell]]
        for first in range(0, len(left), len(rows)):
            group = left[first : first + len(rows)]
            if len(group) == 1:
                displaced(origin, directions, coordinates[group[0]].tolist(), out=rows[0])
            else:
                where = np.stack([coordinates[cell] for cell in group])
                _displaced_rows(origin, directions, where, memory[: len(group)])
            for cell, row in zip(group, function(rows[: len(group)], group), strict=True):
                values[cell], done[cell] = row, True
            if after is not None:
                after()

    return visit


def _displaced_rows(
    origin: Vector,
    directions: Float[Tensor, "axes n"],
    coordinates: Float[np.ndarray, "k axes"],
    out: Float[Tensor, "k n"],
) -> None:
    c = torch.from_numpy(coordinates).to(origin.device, origin.dtype)
    out.copy_(origin.expand_as(out))
    for i, direction in enumerate(directions):
        out.addcmul_(c[:, i : i + 1], direction)


def scan(
    function: Function,
    origin: Vector,
    directions: Float[Tensor, "axes n"],
    coordinates: Float[np.ndarray, "*grid axes"],
    *,
    outputs: int = 1,
    values: Float[np.ndarray, "*grid outputs"] | None = None,
    done: Bool[np.ndarray, "*grid"] | None = None,
    after: Callable[[], None] | None = None,
    at_once: int = 1,
) -> Float[np.ndarray, "*grid outputs"]:
    """values[i, j, …, :] = function at origin + Σ c_i·d_i, at every cell (i, j, …) of the grid; see `visitor`.

    A scan is continued by giving `values` and `done`; otherwise there are `outputs` values at each cell.
    """
    cells = coordinates.shape[:-1]
    done = np.zeros(cells, dtype=bool) if done is None else done
    values = np.full((*cells, outputs), np.nan) if values is None else values
    visitor(function, origin, directions, coordinates, values, done, after, at_once)(np.ndindex(cells))
    return values
