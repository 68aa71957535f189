"""m-SAM: disjoint shards of a batch, each with its own ascent along its own gradient."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from landscape.training.outcome import Average
from landscape.training.passes import pieces
from landscape.training.prepare import Training
from landscape.training.shard_stack import sharpness_aware_stack, stackable

SharpnessAware = Callable[[Training, Tensor, Tensor, int, Average], None]


def shard_mean(
    training: Training, inputs: Tensor, targets: Tensor, count: int, average: Average, alone: SharpnessAware
) -> None:
    """Leave Σ_s (n_s/count)·∇f_s(w + ε̂_s) in the parameters' `.grad`, f_s the mean loss of shard s with its n_s terms.

    Shards are `spec.sam_shard` consecutive examples, all of them without; the last has the rest (Foret et al. 2021,
    arXiv 2010.01412, section 4.1, m-sharpness). alone(training, inputs, targets, n_s, average) leaves one shard's
    gradient in `.grad`. Where the model allows it, shards of one size are evaluated as one batched program, up to
    rounding with the same result; all but the first, which shows what parameters the loss depends on.
    """
    total: list[Tensor | None] = [None] * len(training.parameters)

    def add(gradients: list[Tensor | None], weight: float) -> None:
        for i, g in enumerate(gradients):
            if g is not None:
                before = total[i]
                total[i] = g * weight if before is None else before.add_(g * weight)

    def one_by_one(shards: list[tuple[Tensor, Tensor]]) -> None:
        for x, y in shards:
            alone(training, x, y, terms(training, y), average)
            add([p.grad for p in training.parameters], terms(training, y) / count)

    for shards in _groups(training, inputs, targets):
        if len(shards) > 1:
            counts = [terms(training, y) for _, y in shards]
            found = sharpness_aware_stack(training, shards, counts, average)
            if found is not None:
                weights = [n / count for n in counts]
                add([_weighted(g, weights) if t is not None else None for g, t in zip(found, total, strict=True)], 1.0)
                continue
        one_by_one(shards)
    for p, g in zip(training.parameters, total, strict=True):
        p.grad = g


def terms(training: Training, targets: Tensor) -> int:
    """By how many terms the loss of these examples is divided."""
    return max(training.loss.count(targets), 1)


def _groups(training: Training, inputs: Tensor, targets: Tensor) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The shards in order, in lists of those that are evaluated together."""
    shards = list(pieces(training, inputs, targets, training.spec.sam_shard))
    together = stackable(training, len(shards[0][1]))
    yield shards[:1]
    group: list[tuple[Tensor, Tensor]] = []
    for shard in shards[1:]:
        if group and (len(group) >= together or len(shard[1]) != len(group[0][1])):
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


def _weighted(stack: Tensor, weights: list[float]) -> Tensor:
    return torch.einsum("s...,s->...", stack, stack.new_tensor(weights))
