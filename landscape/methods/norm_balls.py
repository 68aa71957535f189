"""Balls ‖u‖_p ≤ ρ for p = 2 and ∞: projections, steepest directions and what a linear function gains in them.

All take rows at once, u of shape (*rows, n), and decide with `torch.where`, so that nothing waits for Python.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.errors import illegal

Points = Float[Tensor, "*rows n"]
Numbers = Float[Tensor, "*rows"]

_AT_BOUNDARY = 1 - 1e-6


@dataclass(frozen=True)
class EuclideanBall:
    """‖u‖₂ ≤ ρ."""

    radius: float

    def project(self, u: Points) -> Points:
        """The nearest point of the ball."""
        length = lengths(u)
        factor = torch.where(length > self.radius, self.radius / length, 1.0)
        return u * factor.to(u.dtype)[..., None]

    def direction(self, g: Points) -> Points:
        """argmax gᵀd over ‖d‖₂ ≤ 1: g/‖g‖₂, and 0 where g = 0."""
        length = lengths(g)
        factor = torch.where(length > 0, 1 / length, 0.0)
        return _scaled(g, factor)

    def corner(self, g: Points, otherwise: Points) -> Points:
        """argmax gᵀu over the ball: ρ·g/‖g‖₂, and `otherwise` where g = 0."""
        return torch.where((g != 0).any(-1, keepdim=True), self.radius * self.direction(g), otherwise)

    def gain(self, g: Points) -> Numbers:
        """max gᵀu over the ball: ρ‖g‖₂, in float64."""
        return self.radius * lengths(g)

    def reduced(self, u: Points, g: Points) -> Points:
        """g without what points out of the ball: g − μu with the multiplier μ = gᵀu/ρ² ≥ 0 at the boundary."""
        multiplier = inner_products(g, u) / self.radius**2
        held = (lengths(u) >= self.radius * _AT_BOUNDARY) & (multiplier > 0)
        return g - u * torch.where(held, multiplier, 0.0).to(u.dtype)[..., None]

    def length(self, u: Points) -> Numbers:
        """‖u‖₂, in float64."""
        return lengths(u)

    def to_boundary(self, u: Points) -> Points:
        """The point of the boundary on the ray through u; 0 stays."""
        return self.radius * self.direction(u)


@dataclass(frozen=True)
class MaximumBall:
    """‖u‖∞ ≤ ρ, a box."""

    radius: float

    def project(self, u: Points) -> Points:
        """The nearest point of the ball."""
        return u.clamp(-self.radius, self.radius)

    def direction(self, g: Points) -> Points:
        """argmax gᵀd over ‖d‖∞ ≤ 1: sign(g)."""
        return g.sign()

    def corner(self, g: Points, otherwise: Points) -> Points:
        """argmax gᵀu over the ball: ρ·sign(g), and `otherwise` in coordinates where g = 0."""
        return torch.where(g != 0, self.radius * g.sign(), otherwise)

    def gain(self, g: Points) -> Numbers:
        """max gᵀu over the ball: ρ‖g‖₁, in float64."""
        return self.radius * g.abs().sum(-1, dtype=torch.float64)

    def reduced(self, u: Points, g: Points) -> Points:
        """g without the coordinates that it holds at a bound."""
        return torch.where((u.abs() >= self.radius * _AT_BOUNDARY) & (g * u > 0), 0, g)

    def length(self, u: Points) -> Numbers:
        """‖u‖∞, in float64."""
        return torch.linalg.vector_norm(u, float("inf"), dim=-1).double()

    def to_boundary(self, u: Points) -> Points:
        """The corner of the signs of u; coordinates of 0 stay."""
        return self.radius * u.sign()


Ball = EuclideanBall | MaximumBall


def ball(norm: str, radius: float) -> Ball:
    """The ball of the norm called "l2" or "linf"."""
    if norm not in ("l2", "linf"):
        raise illegal("norm", norm, "l2 or linf", "p = 2 and ∞ are the norms of worst-case sharpness.")
    return EuclideanBall(radius) if norm == "l2" else MaximumBall(radius)


def lengths(x: Points) -> Numbers:
    """‖x‖₂ of each row in float64; squares neither overflow nor vanish."""
    peak = torch.linalg.vector_norm(x, float("inf"), dim=-1, keepdim=True)
    scaled = x / torch.where((peak > 0) & peak.isfinite(), peak, 1)
    return torch.linalg.vector_norm(scaled, dim=-1, dtype=torch.float64) * peak[..., 0].double()


def inner_products(x: Points, y: Points) -> Numbers:
    """⟨x, y⟩ of each pair of rows, summed in float64."""
    return (x * y).sum(-1, dtype=torch.float64)


def _scaled(x: Points, factor: Numbers) -> Points:
    """Factor·x, which is of ordinary size though the factor may be beyond the type of x."""
    peak = torch.linalg.vector_norm(x, float("inf"), dim=-1, keepdim=True)
    peak = torch.where(peak > 0, peak, 1)
    return (x / peak) * (factor[..., None] * peak.double()).to(x.dtype)
