"""Logit normalisation: outputs z as (z − z̄)/max(‖z − z̄‖₂, 1e-10) along the axis of the classes.

It takes away what a network gains by larger outputs alone, so that networks trained to different losses compare:
Andriushchenko et al. 2023 (arXiv 2302.07011), section 3.
"""

from dataclasses import replace

import torch
from torch import Tensor

from landscape.errors import UndefinedError
from landscape.losses import Loss
from landscape.problem import Problem

_SMALLEST = 1e-10

SUFFIX = ", logits normalised"
"""Added to the name of a number that is measured so."""


def normalised(outputs: Tensor, axis: int) -> Tensor:
    """(z − z̄)/max(‖z − z̄‖₂, 1e-10) along `axis`, of the shape of z."""
    centred = outputs - outputs.mean(axis, keepdim=True)
    return centred / torch.linalg.vector_norm(centred, dim=axis, keepdim=True).clamp(min=_SMALLEST)


def with_normalised_logits(problem: Problem) -> Problem:
    """The problem of the normalised outputs, the same in all else; `UndefinedError` without an axis of classes.

    The scale is part of the loss, so the model is what it was; accuracy is the same, for the order of logits is.
    """
    loss = problem.loss
    if not isinstance(loss, Loss) or loss.class_axis is None:
        name = getattr(loss, "name", type(loss).__name__)
        raise UndefinedError(
            f"logit_normalisation needs a loss of class logits, and the loss {name} has no axis of classes. "
            "Use cross_entropy, token_cross_entropy or causal_lm, or leave logit_normalisation off."
        )
    axis, total = loss.class_axis, loss.total

    def of_normalised(outputs: Tensor, targets: Tensor) -> Tensor:
        return total(normalised(outputs, axis), targets)

    return problem.with_loss(replace(loss, total=of_normalised, likelihood=None))
