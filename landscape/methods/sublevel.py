"""Exact volumes and moments of {f ≤ t} for a function that is linear on every simplex of a triangulation."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Moments:
    """∫ 1, ∫ x and ∫ xxᵀ over a set: volume, first (d,) and second (d, d)."""

    volume: float
    first: Float[np.ndarray, " d"]
    second: Float[np.ndarray, "d d"]

    @property
    def deviations(self) -> Float[np.ndarray, " d"]:
        """Standard deviations of a uniform point of the set along its principal axes, largest first; NaN if empty."""
        if not self.volume > 0:
            return np.full(len(self.first), np.nan)
        mean = self.first / self.volume
        covariance = self.second / self.volume - np.outer(mean, mean)
        return np.sqrt(np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0))


def moments(
    points: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"], corners: Int[np.ndarray, "s d+1"], level: float
) -> Moments:
    """Moments of the part of some simplices where the linear interpolant of `values` is at most `level`.

    Where a corner is +∞ the interpolant exceeds every level in all of the simplex but one face: it adds nothing.
    Moments of a simplex with corners v_i are V, V·v̄ and V/((d+1)(d+2))·(Σ v_i v_iᵀ + (d+1)² v̄v̄ᵀ).
    """
    size = points.shape[1]
    corners = corners[np.isfinite(values[corners]).all(axis=1)]
    centre = points.mean(axis=0)  # moments about a point inside lose no digits to the distance from the origin
    volume, first, second = 0.0, np.zeros(size), np.zeros((size, size))
    for piece in _pieces(points - centre, values, corners, level):
        volumes = np.abs(np.linalg.det(piece[:, 1:] - piece[:, :1])) / factorial(size)
        sums = piece.sum(axis=1)
        volume += float(volumes.sum())
        first += volumes @ sums / (size + 1)
        stacked = np.concatenate([piece, sums[:, None]], axis=1)
        weighted = (stacked * volumes[:, None, None]).reshape(-1, size)
        second += weighted.T @ stacked.reshape(-1, size) / ((size + 1) * (size + 2))
    shifted = second + np.outer(first, centre) + np.outer(centre, first) + volume * np.outer(centre, centre)
    return Moments(volume, first + volume * centre, shifted)


def _pieces(
    points: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"], corners: Int[np.ndarray, "s d+1"], level: float
) -> Iterator[Float[np.ndarray, "p d+1 d"]]:
    """Simplices that make up {f ≤ level}, by how many corners of theirs lie below.

    With k corners b_i below and m above, the part below is bounded like a product of simplices with k and m + 1
    corners: (i, 0) is b_i itself, (i, j) where the edge from b_i to the j-th corner above crosses the level. Every
    monotone path from (0, 0) to (k − 1, m) gives one simplex (the staircase triangulation).
    """
    order = np.argsort(values[corners], axis=1, kind="stable")
    corners = np.take_along_axis(corners, order, axis=1)
    below = (values[corners] <= level).sum(axis=1)
    count = corners.shape[1]
    for k in range(1, count + 1):
        chosen = corners[below == k]
        at, heights = points[chosen], values[chosen]
        for path in _paths(k, count - k):
            yield np.stack([_corner(at, heights, i, k - 1 + j if j else i, level) for i, j in path], axis=1)


def _corner(
    at: Float[np.ndarray, "s c d"], heights: Float[np.ndarray, "s c"], low: int, high: int, level: float
) -> Float[np.ndarray, "s d"]:
    """Where the edge between two corners crosses the level; the corner itself when they are one."""
    if low == high:
        return at[:, low]
    share = (level - heights[:, low]) / (heights[:, high] - heights[:, low])
    return at[:, low] + share[:, None] * (at[:, high] - at[:, low])


def _paths(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    """Monotone lattice paths from (0, 0) to (rows − 1, columns)."""
    steps = rows - 1 + columns
    for down in combinations(range(steps), rows - 1):
        path = [(0, 0)]
        for step in range(steps):
            i, j = path[-1]
            path.append((i + 1, j) if step in down else (i, j + 1))
        yield path


def components(
    values: Float[np.ndarray, " n"], edges: Int[np.ndarray, "e 2"], level: float
) -> tuple[int, Int[np.ndarray, " n"]]:
    """(number of components of {f ≤ level}, label of every grid point, −1 above the level)."""
    below: Bool[np.ndarray, " n"] = values <= level
    kept = edges[below[edges].all(axis=1)]
    graph = coo_array((np.ones(len(kept), bool), (kept[:, 0], kept[:, 1])), shape=(len(values),) * 2)
    labels = connected_components(graph, directed=False)[1]
    _, renumbered = np.unique(labels[below], return_inverse=True)
    found = np.full(len(values), -1)
    found[below] = renumbered
    return int(renumbered.max(initial=-1)) + 1, found
