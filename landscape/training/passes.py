"""One gradient of one batch: forward and backward in parts, in the precision asked for."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from landscape.losses import prediction
from landscape.training import foreach
from landscape.training.outcome import Average
from landscape.training.prepare import Training, batch_sizes


def gradient_of(
    training: Training, inputs: Tensor, targets: Tensor, count: int, average: Average | None = None
) -> None:
    """Leave Σ_i ∇f_i/count, with f_i the loss of example i, in the parameters' `.grad`, at the weights they have.

    The batch goes through the model in pieces of `spec.piece` examples, whose gradients are added up in the order of
    the examples: for given pieces the bits do not depend on how much memory there is. Batch norm normalises each piece
    by itself, and moves its statistics once for each. In float16 the losses are scaled and the sum is unscaled, so
    that it may hold infinities. `average` gets the outputs, and no count.
    """
    state, optimiser = training.state, training.optimiser
    optimiser.zero_grad()
    for x, y in pieces(training, inputs, targets, training.spec.piece):
        with arithmetic(training):
            outputs = full(training, prediction(training.model(x)))
        loss = training.objective(outputs, y) / count
        (loss if state.scaler is None else state.scaler.scale(loss)).backward()
        if average is not None:
            average.add(outputs.detach(), y, 0)
    if state.scaler is not None:
        gradients = [p.grad for p in training.parameters if p.grad is not None]
        if gradients:
            foreach.multiply_(gradients, 1 / state.scale)


def pieces(training: Training, inputs: Tensor, targets: Tensor, size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The batch in pieces of `size` examples in order; one that batch norm could not normalise joins the one before."""
    if size is None or size >= len(targets):
        yield inputs, targets
        return
    sizes = batch_sizes(len(targets), size, training.smallest)
    yield from zip(inputs.split(sizes), targets.split(sizes), strict=True)


def arithmetic(training: Training) -> AbstractContextManager[object]:
    """Inside, matrix products and convolutions are in the spec's precision, which torch's autocast decides."""
    if training.spec.precision == "full":
        return nullcontext()
    return torch.autocast(training.device.type, dtype=getattr(torch, training.spec.precision))


def full(training: Training, outputs: Tensor) -> Tensor:
    """Outputs in the model's own dtype: the loss is not for low precision, nor are targets that take its dtype."""
    return outputs if training.spec.precision == "full" else outputs.to(training.parameters[0].dtype)


def overflowed(training: Training) -> bool:
    """Whether a float16 pass left a gradient that is not finite; never asked of other precisions."""
    if training.state.scaler is None:
        return False
    finite = [p.grad.isfinite().all() for p in training.parameters if p.grad is not None]
    return bool(finite) and not bool(torch.stack(finite).all())
