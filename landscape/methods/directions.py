"""Axes of a loss surface: the plane through three points, rescaled random directions, coordinates on them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector


@dataclass(frozen=True, eq=False)
class Plane:
    """directions: orthonormal rows u, v. marks: (3, 2) coordinates of the three points, the first at (0, 0)."""

    directions: Float[Tensor, "2 n"]
    marks: Float[np.ndarray, "3 2"]


def plane_through(first: Vector, second: Vector, third: Vector) -> Plane:
    """Axes u = (w₁−w₀)/‖·‖ and v = the part of w₂−w₀ orthogonal to u, normalised; origin w₀.

    Formed in float64 and orthogonalised twice, then given in the dtype of `first`. v points towards w₂, so
    that w₂ has a positive second coordinate. Raises `ValueError` where the points do not span a plane:
    when w₁−w₀ is at the level of rounding, or the angle between w₁−w₀ and w₂−w₀ is below 1e-6 or at it.
    """
    origin = first.double()
    u, v = second.double() - origin, third.double() - origin
    sizes = torch.stack([torch.linalg.vector_norm(w.double()) for w in (first, second, third)])
    width, reach = torch.linalg.vector_norm(u), torch.linalg.vector_norm(v)
    u /= width
    along = u @ v
    v -= along * u
    correction = u @ v
    v -= correction * u
    height = torch.linalg.vector_norm(v)
    v /= height
    size, x1, x2, y2, reach = torch.stack([sizes.max(), width, along + correction, height, reach]).tolist()
    rounding = 4 * torch.finfo(first.dtype).eps * size
    if not (x1 > rounding and y2 > max(rounding, 1e-6 * reach)):
        raise ValueError("the three points do not span a plane")
    return Plane(torch.stack([u, v]).to(first.dtype), np.array([[0.0, 0.0], [x1, 0.0], [x2, y2]]))


def normalised(
    direction: Mapping[str, Tensor], weights: Mapping[str, Tensor], how: str, zero: Collection[str] = ()
) -> Vector:
    """A random direction on the scale of the weights, flattened; both are given as named parameters.

    "filter": each slice along the first index of a parameter becomes d_i·‖w_i‖/(‖d_i‖ + 1e-10); parameters with
    fewer than two axes are rescaled whole. "layer": the same with whole parameters in place of slices. "weight":
    each entry becomes d_i·w_i. "none": the direction as it is. Parameters named in `zero` get 0. Li et al. 2018,
    section 4, and for "weight" its code.
    """
    return torch.cat([
        (torch.zeros_like(w) if name in zero else _rescaled(direction[name], w, how)).reshape(-1)
        for name, w in weights.items()
    ])  # fmt: skip


def _rescaled(d: Tensor, w: Tensor, how: str) -> Tensor:
    if how == "none":
        return d
    if how == "weight":
        return d * w
    slices = len(d) if how == "filter" and d.dim() > 1 else 1
    rows, own = d.reshape(slices, -1), w.reshape(slices, -1)
    drawn, wanted = (torch.linalg.vector_norm(t, dim=1, keepdim=True, dtype=torch.float64) for t in (rows, own))
    return rows * (wanted / (drawn + 1e-10)).to(rows.dtype)


def symmetric_axis(radius: float, count: int) -> Float[np.ndarray, " count"]:
    """`count` equally spaced coordinates from −radius to radius; exactly 0 in the middle when count is odd."""
    return radius * (2.0 * np.arange(count) - (count - 1)) / (count - 1)


def axis_through(landmark: float, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
    """`count` equally spaced coordinates that cover [low, high], where low ≤ 0 ≤ high and 0 < landmark ≤ high.

    0 is always one of them, `landmark` too when the count allows; the range is a little wider than asked to
    make that so. Two coordinates that cannot cover both sides of 0 are 0 and `high`.
    """
    for parts in range(count - 1, 0, -1):
        step = landmark / parts
        left, right = _intervals(-low, step), _intervals(high, step)
        spare = count - 1 - left - right
        if spare >= 0:
            return step * (np.arange(count) - (left + spare // 2.0))
    step, left = min((max(_step(-low, k), _step(high, count - 1 - k)), k) for k in range(count))
    if math.isinf(step):
        step, left = high / (count - 1), 0
    return step * (np.arange(count) - float(left))


def axis_covering(low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
    """`count` equally spaced coordinates that cover [low, high], where low ≤ 0 ≤ high, and 0 among them."""
    if high >= -low:
        return axis_through(high, low, high, count)
    return -axis_through(-low, -high, -low, count)[::-1]


def polyline_weights(alpha: Float[np.ndarray, " points"], count: int) -> Float[np.ndarray, "points count"]:
    """Weights of `count` corners at α: at the k-th corner for α = k, linear between, the end segments prolonged."""
    segment = np.clip(np.floor(alpha), 0, count - 2).astype(int)
    weights, rows = np.zeros((len(alpha), count)), np.arange(len(alpha))
    weights[rows, segment] = 1 - (alpha - segment)
    weights[rows, segment + 1] = alpha - segment
    return weights


def _intervals(length: float, step: float) -> int:
    return math.ceil(length / step - 1e-9)


def _step(length: float, intervals: int) -> float:
    return length / intervals if intervals else (math.inf if length > 0 else 0.0)


def affine_weights(
    marks: Float[np.ndarray, "points axes"], coordinates: Float[np.ndarray, "*grid axes"]
) -> Float[np.ndarray, "*grid points"]:
    """Weights s with Σ s_k = 1 and Σ s_k·marks_k = coordinates, for every cell of a grid.

    The points are the corners of a simplex of that dimension, or a single point, whose weight is 1.
    """
    grid = coordinates.shape[:-1]
    if len(marks) == 1:
        return np.ones((*grid, 1))
    system = np.vstack([np.ones(len(marks)), marks.T])
    right = np.concatenate([np.ones((*grid, 1)), coordinates], axis=-1)
    return np.linalg.solve(system, right.reshape(-1, len(marks)).T).T.reshape(*grid, len(marks))
