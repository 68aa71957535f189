"""Exact diagonal blocks of the Hessian, one parameter tensor at a time."""

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods.lanczos import require_finite
from landscape.problem import Problem
from landscape.products.several import AT_ONCE


def exact_block(problem: Problem, name: str, weights: Vector | None = None, limit: int = 10000) -> Float[Tensor, "m m"]:
    """The diagonal block of ∇²f(w) that belongs to the parameter `name`, by a product for each of its m entries.

    Raises `InputError` when the problem has no parameter of this name, or when it has more than `limit` entries.
    """
    w = problem.weights if weights is None else weights
    start, size = place(problem, name, limit)
    matvec, block = problem.hessian(w, many=True), w.new_empty(size, size)
    for row in range(0, size, AT_ONCE):
        entries = torch.arange(row, min(row + AT_ONCE, size), device=w.device)
        units = w.new_zeros(len(entries), len(w)).scatter_(1, start + entries[:, None], 1.0)
        block[entries] = matvec.rows(units)[:, start : start + size]
    require_finite(block.diagonal().double().cpu().numpy())
    return (block + block.T) / 2


def place(problem: Problem, name: str, limit: int) -> tuple[int, int]:
    """Where the parameter `name` begins in the flat vector, and how many entries it has; `InputError` as above."""
    start = 0
    views = problem.named(problem.weights)
    for key, view in views.items():
        if key == name:
            if view.numel() > limit:
                raise illegal(
                    "exact", name, f"a parameter of at most {limit} entries (this one has {view.numel()})",
                    f"Raise exact_limit to spend {view.numel()} products on it, or use by_layer for an estimate.",
                )  # fmt: skip
            return start, view.numel()
        start += view.numel()
    raise illegal("exact", name, f"one of the model's parameters ({', '.join(views)})", "See `landscape inspect`.")
