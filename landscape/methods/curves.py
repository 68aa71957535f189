"""Curves in parameter space through control points: Bézier curves and polygonal chains."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.methods.inner import products

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def coefficients(kind: str, t: float, count: int) -> tuple[float, ...]:
    """The weights c_k(t), k = 0 … count − 1, of the control points in B(t) = Σ c_k(t)·p_k; they add up to 1.

    bezier: C(m, k)·t^k·(1−t)^(m−k) with m = count − 1; two points make a straight line, three the quadratic curve of
    Garipov et al. 2018 (arXiv 1802.10026, section 3.2). chain: straight from point to point, each leg in an equal
    share of t (the same section). At t = 0 and t = 1 one weight is 1 and the others are 0, exactly.
    """
    last = count - 1
    if kind == "bezier":
        return tuple(comb(last, k) * t**k * (1 - t) ** (last - k) for k in range(count))
    return tuple(max(0.0, 1.0 - abs(t * last - k)) for k in range(count))


def combination(weights: Sequence[float], points: Sequence[Tensor]) -> Tensor:
    """Σ c_k·p_k over the weights that are not 0: with a single weight 1 that point, bit for bit."""
    total = None
    for weight, point in zip(weights, points, strict=True):
        if weight:
            total = weight * point if total is None else torch.add(total, point, alpha=weight)
    return torch.zeros_like(points[0]) if total is None else total


@dataclass(frozen=True, eq=False)
class Curve:
    """t ↦ B(t), 0 ≤ t ≤ 1, from the first of its control points (rows) to the last. kind: as in `coefficients`."""

    kind: str
    points: Float[Tensor, "points n"]

    def at(self, t: float) -> Vector:
        """B(t); at t = 0 and t = 1 the ends bit for bit."""
        return combination(coefficients(self.kind, t, len(self.points)), tuple(self.points))

    def length(self) -> float:
        """∫₀¹ ‖B′(t)‖₂ dt, taken in float64 from the inner products of the legs p_{k+1} − p_k.

        B′ = m·Σ c_k·(p_{k+1} − p_k) with the Bézier weights c of one degree less, integrated by 64-point Gauss-Legendre
        quadrature; a chain's length is the sum of its legs'.
        """
        legs = self.points[1:].double() - self.points[:-1].double()
        gram = torch.stack([products(legs, leg) for leg in legs]).cpu().numpy()
        if self.kind == "chain":
            return float(np.sqrt(gram.diagonal()).sum())
        c = len(legs) * np.array([coefficients("bezier", (1 + x) / 2, len(legs)) for x in _NODES])
        speeds = np.sqrt(np.maximum(np.einsum("tj,jk,tk->t", c, gram, c), 0.0))
        return float(_WEIGHTS @ speeds / 2)
