"""Lanczos tridiagonalisation with full reorthogonalisation, in blocks and twice.

Paige 1972; Parlett, The Symmetric Eigenvalue Problem (1980), ch. 13; "twice is enough": section 6-9.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec, Vector
from landscape.errors import InputError, illegal
from landscape.methods.inner import combinations, norm
from landscape.methods.rows import Rows


@dataclass(frozen=True)
class Tridiagonal:
    """A Q = Q T + r e_kᵀ with orthonormal columns of Q, stored as the rows of `basis` (k, n).

    T has `diagonal` (k,) and `offdiagonal` (k-1,), float64 on the CPU. remainder: r (n,), zero after a
    breakdown, when the basis spans an invariant subspace and k may be less than what was asked.
    """

    diagonal: np.ndarray
    offdiagonal: np.ndarray
    basis: Float[Tensor, "k n"]
    remainder: Vector

    def matrix(self) -> np.ndarray:
        """T as a dense (k, k) array."""
        return np.diag(self.diagonal) + np.diag(self.offdiagonal, 1) + np.diag(self.offdiagonal, -1)


@dataclass(frozen=True)
class Ritz:
    """Ritz values (k,) ascending, Ritz vectors (k, n) as orthonormal rows, residual norms ‖Av − θv‖ (k,)."""

    values: np.ndarray
    vectors: Float[Tensor, "k n"]
    residuals: np.ndarray


def orthogonalise(
    rows: Float[Tensor, "k n"] | Rows, w: Vector
) -> tuple[Float[Tensor, " k"], Vector, Float[Tensor, ""]]:
    """Split w = Σ c_i·row_i + u with u ⟂ rows: returns c (float64), u and ‖u‖.

    Block Gram-Schmidt, twice: one matrix product finds all coefficients, the second pass removes what
    rounding left behind in the first.
    """
    held = rows if isinstance(rows, Rows) else Rows((rows,), w[:0], True)
    first = held.products(w)
    w = held.without(first, w)
    second = held.products(w)
    w = held.without(second, w)
    return first + second, w, norm(w)


def require_finite(*coefficients: np.ndarray) -> None:
    """Raise `InputError` when a product has put a NaN or an infinity into the coefficients."""
    if not all(np.isfinite(c).all() for c in coefficients):
        raise InputError(
            "a matrix-vector product is not finite (NaN or infinity). Check the weights and the data; try float64."
        )


def breakdown(like: Vector) -> float:
    """A remainder shorter than this times the operator's scale is rounding: √n·eps, at most 32·eps.

    The cap is needed in float32: with 1e7 parameters √n·eps would be 4e-4 of the largest eigenvalue, and a
    network's bulk would be taken for an invariant subspace.
    """
    return min(like.numel() ** 0.5, 32.0) * torch.finfo(like.dtype).eps


def unit_or_zero(w: Vector, length: Float[Tensor, ""], floor: Tensor) -> tuple[Tensor, Vector]:
    """(‖w‖, w/‖w‖), or zeros where ‖w‖ ≤ floor; without waiting for the device."""
    alive = length > floor
    factor = torch.where(alive, 1 / length, torch.zeros_like(length))
    return torch.where(alive, length, torch.zeros_like(length)), w * factor.to(w.dtype)


def tridiagonalise(matvec: Matvec, start: Vector, steps: int) -> Tridiagonal:
    """`steps` steps of Lanczos from `start` (n,): A Q = Q T + r e_kᵀ.

    matvec: v ↦ Av with A symmetric. Stops early at a breakdown, β ≤ √n·eps·‖A‖. Raises `InputError` when
    the start is zero, or the start or a product is not finite.
    """
    steps = min(steps, start.numel())
    basis = start.new_zeros(steps, start.numel())
    length = norm(start)
    if not 0 < length.item() < float("inf"):
        raise illegal("norm of the start vector", length.item(), "positive and finite", "Draw another one.")
    basis[0] = start * (1 / length).to(start.dtype)
    diagonal = torch.zeros(steps, dtype=torch.float64, device=start.device)
    lengths = torch.zeros_like(diagonal)
    scale = torch.zeros_like(length)
    remainder = torch.zeros_like(start)
    for k in range(steps):
        coefficients, w, length = orthogonalise(basis[: k + 1], matvec(basis[k]))
        scale = torch.maximum(scale, torch.linalg.vector_norm(torch.cat([coefficients, length[None]])))
        lengths[k], unit = unit_or_zero(w, length, breakdown(start) * scale)
        diagonal[k] = coefficients[k]
        if k + 1 < steps:
            basis[k + 1] = unit
        remainder = unit * lengths[k].to(unit.dtype)
    alphas, betas = torch.stack([diagonal, lengths]).cpu().numpy()
    require_finite(alphas, betas)
    dead = np.flatnonzero(betas == 0)
    k = int(dead[0]) + 1 if len(dead) else steps
    return Tridiagonal(alphas[:k], betas[: k - 1], basis[:k], remainder if k == steps else torch.zeros_like(start))


def ritz_pairs(tridiagonal: Tridiagonal) -> Ritz:
    """Eigenpairs (θ, Qy) of A on the Krylov space, from T y = θ y; residual norms ‖r‖·|y_k|."""
    values, coordinates = np.linalg.eigh(tridiagonal.matrix())
    basis = tridiagonal.basis
    vectors = torch.empty_like(basis)
    combinations(torch.from_numpy(coordinates.T.copy()).to(basis.device), basis, out=vectors)
    return Ritz(values, vectors, norm(tridiagonal.remainder).item() * np.abs(coordinates[-1]))
