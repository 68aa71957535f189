"""A Krylov space whose part of the trace is known exactly, so that probes are needed for the rest only.

With orthonormal rows Q from k Lanczos steps, T = Q A Qᵀ and P = I − QᵀQ,

    tr A = tr T + tr P A P,

and the few large eigenvalues that make Hutchinson's estimator vary are in T. Chen & Hallman 2022, "Krylov-aware
stochastic trace estimation"; Meyer et al. 2021 for the splitting.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec, Vector
from landscape.methods.basis import Basis
from landscape.methods.inner import combinations, products

FEWEST = 5
"""Steps before it is asked whether more are worth it."""

_CONVERGED = 1e-2
"""A Ritz value with a residual below this times the largest |θ| is one eigenvalue, not a piece of the bulk."""


@dataclass(frozen=True)
class Deflation:
    """A Qᵀ = Qᵀ T + r e_kᵀ with orthonormal rows Q (k, n), T (k, k) in float64, remainder r (n,); matvecs: k."""

    basis: Float[Tensor, "k n"]
    compressed: np.ndarray
    remainder: Vector
    matvecs: int

    @property
    def trace(self) -> float:
        """tr T, which no probe touches."""
        return float(np.trace(self.compressed))

    def project(self, v: Vector) -> Vector:
        """P v, the part orthogonal to the Krylov space; twice, as rounding of one pass is left behind."""
        for _ in range(2 if len(self.basis) else 0):
            v = v - products(self.basis, v).to(v.dtype) @ self.basis
        return v

    def diagonal(self) -> Vector:
        """The diagonal of A − P A P, which adds up to tr T: Σ_k Q_kj (TQ)_kj + 2 Q_kj r_j, the last for the last k."""
        total = torch.zeros_like(self.remainder, dtype=torch.float64)
        if len(self.basis):
            image = torch.empty_like(self.basis)
            combinations(torch.from_numpy(self.compressed).to(image.device), self.basis, out=image)
            for q, tq in zip(self.basis, image, strict=True):
                total += q.double() * tq.double()
            total += 2 * self.basis[-1].double() * self.remainder.double()
        return total


def no_deflation(like: Vector) -> Deflation:
    """Of dimension zero: P is the identity."""
    return Deflation(like.new_empty(0, like.numel()), np.zeros((0, 0)), torch.zeros_like(like), 0)


def deflate(matvec: Matvec, start: Vector, tolerance: float, most: int, budget: int) -> Deflation:
    """Lanczos from `start` (n,) for as many steps as save more probes than they cost, `FEWEST` ≤ k ≤ `most`.

    m probes leave the variance 2‖PAP‖²/m. A standard error of tolerance·|tr A| takes 2‖PAP‖²/(tolerance·tr A)² of
    them, so that a step is worth its product while it lowers ‖PAP‖² by more than (tolerance·tr A)²/2; and, where
    the `budget` of products will not do, by more than ‖PAP‖² over the products left. ‖PAP‖² = ‖A‖² − ‖T‖² − 2‖r‖²;
    ‖A‖² and tr A are guessed by quadrature from the start vector, which no estimate uses again, so that this
    choice biases nothing. Raises `InputError` for a product that is not finite.
    """
    most = min(most, start.numel(), budget)
    if most < 1:
        return no_deflation(start)
    basis = Basis(start, most + 1)
    basis.inject(start)
    captured = [0.0]
    matvecs = 0
    while matvecs < most and basis.pending:
        basis.expand(matvec, basis.pending[0])
        matvecs += 1
        if matvecs < FEWEST:
            continue
        T, beta = _lanczos(basis)
        if beta == 0:
            break
        captured = _captured(T)
        gain = (captured[-1] + 2 * beta**2 - captured[-3] - 2 * T[-2, -3] ** 2) / 2
        squares, trace = _moments(T, beta, start.numel())
        rest = max(squares - captured[-1] - 2 * beta**2, 0.0)
        if gain < max((tolerance * trace) ** 2 / 2, rest / max(budget - matvecs, 1)):
            break
    T, beta = _lanczos(basis)
    k = len(T)
    remainder = basis.rows[k] * beta if beta else torch.zeros_like(start)
    return Deflation(basis.rows.first(k).tensor, T, remainder, matvecs)


def _lanczos(basis: Basis) -> tuple[np.ndarray, float]:
    """T (k, k) and ‖r‖."""
    H = basis.coefficients()
    k = len(basis.expanded)
    T = H[:k, :k]
    return (T + T.T) / 2, float(H[k, k - 1]) if len(H) > k else 0.0


def _captured(T: np.ndarray) -> list[float]:
    """‖T_j‖² for the leading blocks j = 1 … k."""
    diagonal, off = np.square(np.diag(T)), np.square(np.diag(T, 1))
    return list(np.cumsum(diagonal) + 2 * np.r_[0.0, np.cumsum(off)])


def _moments(T: np.ndarray, beta: float, n: int) -> tuple[float, float]:
    """Rough ‖A‖² and tr A: a converged Ritz value counts once, any other n times its weight in the start vector."""
    values, vectors = np.linalg.eigh(T)
    converged = beta * np.abs(vectors[-1]) <= _CONVERGED * np.abs(values).max()
    weights = np.where(converged, 1.0, n * np.square(vectors[0]))
    return float(weights @ values**2), float(weights @ values)
