"""The gradient that the optimiser steps along: plain, or taken at SAM's ascended point."""

from torch import Tensor

from landscape.losses import prediction
from landscape.training.outcome import Average
from landscape.training.prepare import Training
from landscape.training.sam import ascended, frozen_statistics, random_state


def take_gradient(training: Training, inputs: Tensor, targets: Tensor, count: int, average: Average) -> None:
    """Leave the gradient of one step in the parameters' `.grad`; the weights stay where they are.

    count: terms of the loss of this batch, by which its sum is divided. `average` gets the outputs of the first pass.
    SAM's second pass sees the same dropout masks as the first, and batch-norm statistics move on the first alone.
    """
    spec, model, optimiser = training.spec, training.model, training.optimiser
    rewind = random_state(training.device)
    optimiser.zero_grad()
    outputs = prediction(model(inputs))
    (training.objective(outputs, targets) / count).backward()
    average.add(outputs.detach(), targets, count)
    if spec.rho > 0:
        with ascended(training.parameters, spec.rho, spec.adaptive, spec.eta), frozen_statistics(model):
            rewind()
            optimiser.zero_grad()
            (training.objective(prediction(model(inputs)), targets) / count).backward()
