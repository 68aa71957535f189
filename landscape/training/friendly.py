"""Friendly-SAM: the ascent along what is particular to the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.training import foreach
from landscape.training.sam import dense_gradient


@torch.no_grad()
def update_mean(mean: list[Tensor], parameters: Sequence[Tensor], decay: float) -> None:
    """m_t = λ·m_{t−1} + (1−λ)·g_t in place, from m₀ = 0 (Li et al. 2024, arXiv 2403.12350, section 4.2).

    An empty `mean` is filled with zeros. A parameter without a gradient counts as one of gradient zero.
    """
    if not mean:
        mean.extend(torch.zeros_like(p) for p in parameters)
    foreach.multiply_(mean, decay)
    present = [(m, dense_gradient(p)) for m, p in zip(mean, parameters, strict=True) if p.grad is not None]
    if present:
        means, gradients = zip(*present, strict=True)
        foreach.add_(list(means), list(gradients), alpha=1 - decay)


@torch.no_grad()
def leave_out_mean(mean: Sequence[Tensor], parameters: Sequence[Tensor], sigma: float) -> None:
    """Replace the gradients by the direction of ascent g_t − σ·m_t (Li et al. 2024, arXiv 2403.12350, algorithm 1)."""
    for m, p in zip(mean, parameters, strict=True):
        if p.grad is not None:
            p.grad = torch.sub(dense_gradient(p), m, alpha=sigma)
