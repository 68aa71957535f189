"""GSAM: the gradient at the ascended point, less the part of the plain gradient that it does not see."""

from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.methods.inner import inner
from landscape.training.sam import dense_gradient, norm


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
    device = ascended[0].device
    along = torch.stack([inner(g.reshape(-1), a.reshape(-1)).to(device) for g, a in zip(first, ascended, strict=True)])
    square = norm(ascended).square()
    share = torch.where(square > 0, along.sum() / square, torch.zeros_like(square))
    for (p, _), a, g in zip(moving, ascended, first, strict=True):  # g_p − α(g − s·g_p) = (1 + α·s)·g_p − α·g
        p.grad = a.mul_((1 + alpha * share).to(a)).add_(g, alpha=-alpha)
