"""What a loss is as a function of the model's outputs alone: first and second derivatives, and a distribution.

A loss that sums terms s·(−log p(y_i | o_i)) has, with respect to the outputs o, the gradient of each term and
the curvature H_L = s·E_{y∼p}[∇log p ∇log pᵀ]: both in closed form, row by row, without a matrix of outputs by
outputs. Sources: Schraudolph 2002 (Gauss-Newton products); Martens 2020 (arXiv 1412.1193), sections 5 and 9.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from landscape import seeds
from landscape.batches import IGNORED

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Likelihood:
    """Derivatives of the summed loss with respect to the outputs o; every tensor has the shape of o.

    gradient(o, targets): ∂(Σ_i loss_i)/∂o. curvature(o, targets, u): H_L u, positive semi-definite.
    score(o, drawn): r, with E[r rᵀ] = H_L over `drawn` from the predictive distribution. draw(o, targets,
    generator): such targets, in the form `score` takes; ignored targets stay ignored. within(x): the sum of
    x over the outputs of each term, in a shape that broadcasts against o.
    """

    gradient: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    draw: Callable[[Tensor, Tensor, torch.Generator], Tensor]
    within: Callable[[Tensor], Tensor]


def categorical(axis: int, smoothing: float = 0.0, shifted: bool = False) -> Likelihood:
    """Softmax over `axis` of logits; log-probabilities are logits too, because log-softmax leaves them as they are.

    H_L u = p⊙u − p(p·u), whatever the label smoothing, which only moves the gradient p − q. shifted: the
    output at position t belongs to the target at t + 1 (causal language models, positions on the second axis).
    """
    aligned = next_tokens if shifted else _same
    return Likelihood(
        gradient=lambda o, y: _softmax_residual(o, aligned(y), axis, smoothing),
        curvature=lambda o, y, u: _softmax_curvature(o, aligned(y), u, axis),
        score=lambda o, y: _softmax_residual(o, y, axis, 0.0),
        draw=lambda o, y, generator: _draw_classes(o, aligned(y), axis, generator),
        within=lambda x: x.sum(axis, keepdim=True),
    )


def gaussian() -> Likelihood:
    """Σ (o − t)²/k over the k outputs of each example: H_L = 2/k, and p is normal with variance ½ in NLL/k."""

    def gradient(o: Tensor, t: Tensor) -> Tensor:
        return (o - t.to(o.dtype).reshape(o.shape)) * (2 / _outputs_each(o))

    def score(o: Tensor, noise: Tensor) -> Tensor:
        return noise.to(o.dtype) * (2 / _outputs_each(o)) ** 0.5

    def draw(o: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        return seeds.gaussian(generator, 1, o.double().reshape(-1))[0].view(o.shape)

    return Likelihood(gradient, lambda o, t, u: u * (2 / _outputs_each(o)), score, draw, _within_example)


def unit_gaussian() -> Likelihood:
    """½ Σ_i (o_i − [i = y])² over the classes on the second axis: H_L = 1, and p is normal with variance 1."""

    def draw(o: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return seeds.gaussian(generator, 1, o.double().reshape(-1))[0].view(o.shape)

    return Likelihood(
        gradient=lambda o, y: o - one_hot(o, y),
        curvature=lambda o, y, u: u,
        score=lambda o, noise: noise.to(o.dtype),
        draw=draw,
        within=lambda x: x.sum(1, keepdim=True),
    )


def one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """[i = y] like the outputs, whose classes are on the second axis."""
    return torch.zeros_like(outputs).scatter(1, targets.unsqueeze(1), 1.0)


def bernoulli() -> Likelihood:
    """Independent binary labels from logits, their cross-entropies averaged over the k labels of each example."""

    def gradient(o: Tensor, y: Tensor) -> Tensor:
        return (o.sigmoid() - y.to(o.dtype).reshape(o.shape)) / _outputs_each(o)

    def curvature(o: Tensor, y: Tensor, u: Tensor) -> Tensor:
        return o.sigmoid() * (-o).sigmoid() * u / _outputs_each(o)

    def score(o: Tensor, y: Tensor) -> Tensor:
        return (o.sigmoid() - y.to(o.dtype)) / _outputs_each(o) ** 0.5

    def draw(o: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return (_unit_uniform(o.double(), generator) < o.double().sigmoid()).to(o.dtype)

    return Likelihood(gradient, curvature, score, draw, _within_example)


def next_tokens(labels: Tensor) -> Tensor:
    """(B, T) labels as the targets of a causal model's outputs: moved one to the left, nothing for the last."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def _same(targets: Tensor) -> Tensor:
    return targets


def _softmax_residual(o: Tensor, y: Tensor, axis: int, smoothing: float) -> Tensor:
    kept = (y != IGNORED).unsqueeze(axis)
    one = torch.ones_like(kept, dtype=o.dtype)
    index = torch.where(y == IGNORED, 0, y).unsqueeze(axis)
    residual = (o.softmax(axis) - smoothing / o.shape[axis]).scatter_add(axis, index, (smoothing - 1) * one)
    return torch.where(kept, residual, 0)


def _softmax_curvature(o: Tensor, y: Tensor, u: Tensor, axis: int) -> Tensor:
    p = o.softmax(axis)
    product = p * u
    return torch.where((y != IGNORED).unsqueeze(axis), product - p * product.sum(axis, keepdim=True), 0)


def _draw_classes(o: Tensor, y: Tensor, axis: int, generator: torch.Generator) -> Tensor:
    """One class per term by inversion of the distribution function, in float64, a chunk of terms at a time."""
    logits = o.movedim(axis, -1).reshape(-1, o.shape[axis])
    u = _unit_uniform(logits[:, :1].double(), generator)
    rows = max(1, _CHUNK // logits.shape[1])
    pieces = [
        (part.double().softmax(1).cumsum(1) < v).sum(1)
        for part, v in zip(logits.split(rows), u.split(rows), strict=True)
    ]
    drawn = torch.cat(pieces).clamp_(max=logits.shape[1] - 1).view(y.shape)
    return torch.where(y == IGNORED, IGNORED, drawn)


def _unit_uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return (seeds.uniform(generator, 1, like.reshape(-1))[0].view(like.shape) + 1) / 2


def _outputs_each(o: Tensor) -> int:
    return max(o[0].numel(), 1) if len(o) else 1


def _within_example(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1).view(-1, *(1,) * (x.dim() - 1)) if x.dim() > 1 else x
