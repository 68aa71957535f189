"""GSAM: the gradient at the ascended point, less the part of the plain gradient that it does not see."""

from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.training import foreach
from landscape.training.sam import dense_gradient


@torch.no_grad()
def subtract_orthogonal(parameters: Sequence[Tensor], plain: Sequence[Tensor | None], alpha: float) -> None:
    """Replace the gradients g_p at the ascended point by g_p − α·g_⊥, with g_⊥ = g − (⟨g, g_p⟩/‖g_p‖²)·g_p.

    `plain` is g, the gradients at w, aligned with the parameters; g_⊥ is its part orthogonal to g_p over all parameters
    together (Zhuang et al. 2022, arXiv 2203.08065, section 4.2 and algorithm 1). Where g_p = 0 all of g is
    orthogonal. α = 0 changes no bit. Parameters without one of the two gradients count as if it were zero.
    """
    if alpha == 0:
        return
    moving = [(p, g) for p, g in zip(parameters, plain, strict=True) if p.grad is not None or g is not None]
    if not moving:
        return
    ascended = [dense_gradient(p) if p.grad is not None else torch.zeros_like(p) for p, _ in moving]
    first = [torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g for p, g in moving]
    along, square = _inner(first, ascended), _inner(ascended, ascended)
    share = torch.where(square > 0, along / square, torch.zeros_like(square))
    # g_p − α(g − s·g_p) = (1 + α·s)·g_p − α·g
    for (p, _), a, g in zip(moving, ascended, first, strict=True):
        p.grad = torch.add(a * (1 + alpha * share).to(a), g, alpha=-alpha)


def _inner(x: list[Tensor], y: list[Tensor]) -> Tensor:
    """⟨x, y⟩ over all tensors, by sums of products: torch's own inner product of many float32 numbers is inaccurate."""
    products = [t.sum().to(x[0].device) for t in foreach.multiply(x, y)]
    return torch.stack(products).sum()
