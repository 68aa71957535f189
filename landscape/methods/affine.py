"""The random subspace x + Az of Keskar et al. 2017: A's columns, A⁺x, and f restricted to it.

A (n, p) is stored once, as rows: `rows[j]` is column j of A. Products stream over blocks of coordinates.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods.inner import combinations, products
from landscape.methods.lockstep import EvaluateSeveral

Function = Callable[[Tensor], tuple[float, Tensor]]
_BLOCK = 1 << 16


def columns(draws: Float[Tensor, "p n"], law: str) -> Float[Tensor, "p n"]:
    """A's columns from N(0,1) draws: `gaussian` as they are, `unit` scaled to length 1, `orthonormal`.

    Gaussian columns have length about √n, so that |Az| reaches about ε√(pn) in ℓ2 norm in a box of half-width
    ε; unit and orthonormal columns cap it near ε√p. Orthonormal columns are Gram-Schmidt of the draws,
    hence uniformly distributed. Raises `InputError` for more orthonormal columns than coordinates.
    """
    if law == "gaussian":
        return draws
    if law == "unit":
        return draws / _gram(draws).diagonal().sqrt().to(draws.dtype)[:, None]
    if law != "orthonormal":
        raise illegal("law", law, "one of gaussian, unit, orthonormal", "See SharpnessSpec.")
    p, n = draws.shape
    if p > n:
        raise illegal("dimension", p, f"at most the {n} parameters for orthonormal columns", "Take a smaller one.")
    if n <= 4 * p:  # the Gram matrix may be nearly singular; the matrix itself is small
        q, r = torch.linalg.qr(draws.T.double())
        return (q * r.diagonal().sign()).T.to(draws.dtype).contiguous()
    rows = draws.clone()
    for _ in range(2):  # once leaves errors of eps·cond², twice of eps
        identity = torch.eye(p, dtype=torch.float64, device=draws.device)
        inverse = torch.linalg.solve_triangular(torch.linalg.cholesky(_gram(rows)), identity, upper=False)
        combinations(inverse, rows, rows)
    return rows


def pseudo_inverse(rows: Float[Tensor, "p n"], x: Vector) -> Float[Tensor, " p"]:
    """A⁺x in float64: the shortest least-squares solution of Az ≈ x.

    For n ≫ p by the normal equations with two steps of refinement on the residual x − Az (Björck,
    "Numerical Methods for Least Squares Problems", section 6.6); otherwise by singular values.
    """
    p, n = rows.shape
    if n <= 4 * p:
        return torch.linalg.pinv(rows.T.double()) @ x.double()
    factor = torch.linalg.cholesky(_gram(rows))
    solution = torch.zeros(p, dtype=torch.float64, device=x.device)
    for _ in range(3):
        projected = torch.zeros_like(solution)
        for part, values in zip(rows.split(_BLOCK, 1), x.split(_BLOCK), strict=True):
            wide = part.double()
            projected += wide @ (values.double() - solution @ wide)
        solution = solution + torch.cholesky_solve(projected[:, None], factor)[:, 0]
    return solution


def restricted(value_and_gradient: Function, x: Vector, rows: Float[Tensor, "p n"]) -> Function:
    """z ↦ f(x + Az) with its gradient Aᵀ∇f(x + Az)."""

    def function(z: Tensor) -> tuple[float, Tensor]:
        value, gradient = value_and_gradient(torch.addmv(x, rows.T, z))
        return value, products(rows, gradient).to(z.dtype)

    return function


def restricted_at_several(several: EvaluateSeveral, x: Vector, rows: Float[Tensor, "p n"]) -> EvaluateSeveral:
    """`restricted` at several z (k, p) at once, from f and its gradient at several weights."""

    def function(z: Float[Tensor, "k p"]) -> tuple[Sequence[float], Float[Tensor, "k p"]]:
        values, gradients = several(torch.addmm(x, z, rows))
        return values, torch.stack([products(rows, gradient) for gradient in gradients]).to(z.dtype)

    return function


def _gram(rows: Float[Tensor, "p n"]) -> Float[Tensor, "p p"]:
    """AᵀA, summed in float64."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for part in rows.split(_BLOCK, 1):
        wide = part.double()
        total += wide @ wide.T
    return total
