"""Inner products, accurate in float32 at any length: the one place where they are taken.

A float32 sum over n terms loses up to n·eps. So each product is taken over pieces of the vectors, and the
pieces are summed in float64: 2e7 terms come out right to 1e-7, at the speed of the plain product.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector

_PIECE = 1 << 14
_PIECES = 512


def products(rows: Float[Tensor, "k n"], v: Vector) -> Float[Tensor, " k"]:
    """⟨q_i, v⟩ for each row q_i, in float64 on the rows' device."""
    width = max(_PIECE, -(-v.numel() // _PIECES))
    if v.numel() <= width:
        return (rows @ v).double()
    pieces = zip(rows.split(width, 1), v.split(width), strict=True)
    return torch.stack([q @ x for q, x in pieces]).double().sum(0)


def inner(x: Vector, y: Vector) -> Float[Tensor, ""]:
    """⟨x, y⟩ in float64, on the vectors' device."""
    return products(x[None], y)[0]


def norm(x: Vector) -> Float[Tensor, ""]:
    """‖x‖₂ in float64, on the vector's device; squares neither overflow nor vanish.

    Squares of float32 are far inside the range of float64; a vector in float64 is scaled first.
    """
    if x.dtype != torch.float64:
        return torch.linalg.vector_norm(x, dtype=torch.float64)
    peak = torch.linalg.vector_norm(x, float("inf"))
    scaled = x / torch.where(peak > 0, peak, torch.ones_like(peak))
    return inner(scaled, scaled).sqrt() * peak


def combinations(coefficients: Float[Tensor, "m k"], rows: Float[Tensor, "k n"], out: Tensor) -> None:
    """out ← coefficients @ rows, rounded once; `out` (m, n) may be the first rows of `rows` itself.

    Taken in float64 by blocks of columns, so that it needs little memory and that a reduced precision of
    float32 matrix products (TF32) does not spoil the rows' orthogonality. A block stays in a processor's cache.
    """
    width = max(1, (1 << 16 if rows.is_cpu else 1 << 22) // max(1, len(rows)))
    factor = coefficients.double()
    for start in range(0, rows.shape[1], width):
        columns = slice(start, start + width)
        out[:, columns] = (factor @ rows[:, columns].double()).to(out.dtype)
