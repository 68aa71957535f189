"""The gradient that the optimiser steps along: plain, or taken at SAM's ascended point.

Every variant of SAM is a way to this gradient; the optimiser sees nothing but `.grad`.
"""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor

from landscape.training.friendly import leave_out_mean, update_mean
from landscape.training.gsam import subtract_orthogonal
from landscape.training.outcome import Average
from landscape.training.passes import gradient_of, overflowed
from landscape.training.prepare import Training
from landscape.training.processes import share, sum_gradients
from landscape.training.sam import ascended, frozen_statistics, random_state
from landscape.training.shards import shard_mean

Reduce = Callable[[Sequence[Tensor]], None]


def _alone(parameters: Sequence[Tensor]) -> None:
    """The gradients of one process need no sum."""


def _go_on() -> None:
    """The second pass draws dropout masks of its own."""


def take_gradient(
    training: Training, inputs: Tensor, targets: Tensor, count: int, average: Average, step: int = 0
) -> None:
    """Leave the gradient of one step in the parameters' `.grad`; the weights stay where they are.

    count: terms of the loss of this batch, by which its sum is divided. step: steps before this one; SAM is at steps
    0, k, 2k, … of `sam_every` = k. `average` gets the outputs of the first pass. Batch-norm statistics move on the
    first pass alone. With data_parallel every process is given the whole batch and evaluates its share.
    """
    spec = training.spec
    sharp = spec.rho > 0 and step % spec.sam_every == 0
    parallel, reduce = spec.data_parallel, sum_gradients if spec.data_parallel else _alone
    if parallel:
        inputs, targets = share(inputs, targets)
    if not parallel or dist.get_rank() == 0:
        average.count += count  # of the whole batch, so one process counts for all
    per_rank = parallel and spec.sam_sync == "rank"
    if sharp and (per_rank or spec.sam_shard is not None):
        shard_mean(training, inputs, targets, count, average, _sharpness_aware)
        reduce(training.parameters)
    elif sharp:
        _sharpness_aware(training, inputs, targets, count, average, reduce)
    else:
        gradient_of(training, inputs, targets, count, average)
        reduce(training.parameters)
        if spec.rho > 0 and not overflowed(training):
            _remember(training)
    training.state.check_overflow(training.optimiser)


def _sharpness_aware(
    training: Training, inputs: Tensor, targets: Tensor, count: int, average: Average, reduce: Reduce = _alone
) -> None:
    """SAM on these examples; when the first pass overflows, its infinities are left, and no step will be taken."""
    spec, parameters = training.spec, training.parameters
    rewind = random_state(training.device) if spec.sam_same_mask else _go_on
    gradient_of(training, inputs, targets, count, average)
    reduce(parameters)
    if overflowed(training):
        return
    plain = [p.grad for p in parameters] if spec.sam_variant == "gsam" else []
    _remember(training)
    if spec.sam_variant == "friendly":
        leave_out_mean(training.state.mean, parameters, spec.friendly_sigma)
    with ascended(training.ascending, training.radius, spec.adaptive, spec.eta), frozen_statistics(training.model):
        rewind()
        gradient_of(training, inputs, targets, count)
    reduce(parameters)
    if spec.sam_variant == "gsam":
        subtract_orthogonal(parameters, plain, spec.gsam_alpha)


def _remember(training: Training) -> None:
    """Friendly-SAM's mean gradient is of every step, whether SAM or plain."""
    if training.spec.sam_variant == "friendly":
        update_mean(training.state.mean, training.parameters, training.spec.friendly_decay)
