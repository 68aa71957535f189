"""Batch-norm layers of a model, and their statistics at other weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.aliases import Batch
from landscape.batches import first_rows, rows_of


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All batch-norm layers of any dimension."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm)]


def with_statistics(model: nn.Module) -> list[_BatchNorm]:
    """Batch-norm layers that keep running statistics."""
    return [m for m in batch_norms(model) if m.running_mean is not None]


def normalise_by_batch(model: nn.Module) -> None:
    """Let the batch-norm layers, and nothing else, take the statistics of each batch and leave their own alone."""
    for module in batch_norms(model):
        module.train()
        module.track_running_stats = False


def recomputed(
    model: nn.Module,
    evaluate: Callable[[Mapping[str, Tensor], Any], object],
    batches: Iterable[Batch],
    examples: int | None = None,
) -> dict[str, Tensor]:
    """The floating-point buffers of `model` with statistics that are means over batches, weighted by size.

    The rule of `torch.optim.swa_utils.update_bn`, except that a short last batch weighs less. evaluate(buffers,
    inputs) runs the model with these buffers, which it updates. Only the first `examples` are used when that is
    given. The model itself is left as it was.
    """
    norms = with_statistics(model)
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    saved, seen = [(m, m.training, m.momentum) for m in norms], 0
    try:
        for batch in batches:
            inputs, targets = batch if examples is None else first_rows(batch, examples - seen)
            count = rows_of(targets)
            seen += count
            for module in norms:
                module.train()
                module.momentum = count / seen
            evaluate(buffers, inputs)
            if examples is not None and seen >= examples:
                break
    finally:
        for module, training, momentum in saved:
            module.train(training)
            module.momentum = momentum
    return {k: b for k, b in buffers.items() if b.is_floating_point()}


STATISTICS = ("running_mean", "running_var")
"""How the names of batch-norm statistics end among a model's buffers."""


def combined(
    buffers: Sequence[Mapping[str, Tensor]], means: Sequence[float], shares: Sequence[float]
) -> dict[str, Tensor]:
    """The buffers that all have: running means weighted by `means`, others by `shares`; variances never below 0."""
    total: dict[str, Tensor] = {}
    for name in [name for name in buffers[0] if all(name in own for own in buffers)]:
        weights = means if name.endswith("running_mean") else shares
        total[name] = torch.stack([w * own[name] for w, own in zip(weights, buffers, strict=True)]).sum(0)
        if name.endswith("running_var"):
            total[name].clamp_(min=0)
    return total
