"""The triangulation of a rectangular grid on which areas, components and merge trees agree with each other.

Freudenthal's (Kuhn's): a cell with lowest corner c is cut into the d! simplices c, c + e_π(1), c + e_π(1) + e_π(2), …
for all permutations π of the axes. Neighbours of a grid point are therefore those that differ by a vector of zeros
and ones, or its negative: 2 on a line, 6 in a plane (one of the two diagonals), 14 in space. Source: Freudenthal 1942,
"Simplizialzerlegungen von beschränkter Flachheit".
"""

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from jaxtyping import Float, Int


def vertices(coordinates: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, "n d"]:
    """The grid points in the order of a raveled grid, from the coordinates of each axis."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*coordinates, indexing="ij")], axis=1)


def edges(shape: Sequence[int]) -> Int[np.ndarray, "e 2"]:
    """All pairs of neighbours, as indices into the raveled grid."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    steps = [step for step in product((0, 1), repeat=len(shape)) if any(step)]
    return np.concatenate([_pairs(index, step) for step in steps])


def _pairs(index: Int[np.ndarray, "..."], step: Sequence[int]) -> Int[np.ndarray, "e 2"]:
    lower = index[tuple(slice(None, -1) if s else slice(None) for s in step)]
    upper = index[tuple(slice(1, None) if s else slice(None) for s in step)]
    return np.stack([lower.ravel(), upper.ravel()], axis=1)


def simplices(shape: Sequence[int]) -> Int[np.ndarray, "s corners"]:
    """The corners of all simplices, as indices into the raveled grid."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    corner = index[(slice(None, -1),) * len(shape)].ravel()
    strides = [int(np.prod(shape[k + 1 :])) for k in range(len(shape))]
    paths = [np.cumsum([0, *(strides[k] for k in order)]) for order in permutations(range(len(shape)))]
    return (corner[:, None, None] + np.stack(paths)).reshape(-1, len(shape) + 1)
