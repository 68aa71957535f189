"""GSAM: the gradient at the ascended point, less the part of the plain gradient that it does not see."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from landscape.training.sam import dense_gradient

_PIECE = 1 << 16
"""Numbers in a piece: few enough for a product in float32, and two pieces stay in a processor's cache."""


@torch.no_grad()
def subtract_orthogonal(parameters: Sequence[Tensor], plain: Sequence[Tensor | None], alpha: float) -> None:
    """Replace the gradients g_p at the ascended point by g_p − α·g_⊥, with g_⊥ = g − (⟨g, g_p⟩/‖g_p‖²)·g_p.

    `plain` is g, the gradients at w, aligned with the parameters; g_⊥ is its part orthogonal to g_p over all parameters
    together (Zhuang et al. 2022, arXiv 2203.08065, section 4.2 and algorithm 1). Where g_p = 0 all of g is
    orthogonal. α = 0 changes no bit. Parameters without one of the two gradients count as if it were zero. The memory
    of `plain` is used up.
    """
    if alpha == 0:
        return
    moving = [(p, g) for p, g in zip(parameters, plain, strict=True) if p.grad is not None or g is not None]
    if not moving:
        return
    ascended = [dense_gradient(p) if p.grad is not None else torch.zeros_like(p) for p, _ in moving]
    first = [torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g for p, g in moving]
    along, square = _products(first, ascended)
    share = torch.where(square > 0, along / square, torch.zeros_like(square))
    for (p, _), a, g in zip(moving, ascended, first, strict=True):  # g_p − α(g − s·g_p) = (1 + α·s)·g_p − α·g
        factor = (1 + alpha * share).to(a)
        if a.is_contiguous() and g.is_contiguous():
            g.view(-1).addmv_(a.view(-1, 1), factor.view(1), beta=-alpha)  # one pass through memory
            p.grad = g
        else:
            p.grad = a.mul_(factor).sub_(g, alpha=alpha)


def _pieces(g: Tensor, a: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The same pieces of both: what is done to a piece in turn finds it in the processor's cache."""
    return zip(g.reshape(-1).split(_PIECE), a.reshape(-1).split(_PIECE), strict=True)


def _products(first: Sequence[Tensor], ascended: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """⟨g, g_p⟩ and ⟨g_p, g_p⟩ over all tensors, in float64 on the first's device."""
    found = [
        product.to(ascended[0].device)
        for g, a in zip(first, ascended, strict=True)
        for x, y in _pieces(g, a)
        for product in (torch.dot(x, y), torch.dot(y, y))
    ]
    along, square = torch.stack(found).double().view(-1, 2).sum(0)
    return along, square
