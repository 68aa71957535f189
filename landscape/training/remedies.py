"""What a step does besides one gradient of the batch: Keskar's remedies for large batches, and gradient noise."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from landscape import seeds
from landscape.losses import prediction
from landscape.training.gradients import take_gradient
from landscape.training.outcome import Average
from landscape.training.prepare import Training
from landscape.training.sam import frozen_statistics, random_state


def inner_steps(training: Training, average: Average) -> Iterator[tuple[Average, Callable[[], None]]]:
    """One step of the optimiser, or of conservative training several on one batch: (where metrics go, pull).

    Conservative training solves w_{k+1} = argmin_w L_B(w) + λ/2·‖w − w_k‖² inexactly by `conservative_steps` steps of
    the optimiser from w_k on the same batch (Li et al. 2014; Keskar et al. 2017, arXiv 1609.04836, section 4.2,
    equation 5). pull() adds λ(w − w_k) to the gradients. All inner steps see the same dropout masks, metrics are
    those of the first alone, and batch-norm statistics move on it alone.
    """
    spec = training.spec
    if not spec.conservative:
        yield average, lambda: None
        return
    anchor = [p.detach().clone() for p in training.parameters]

    @torch.no_grad()
    def pull() -> None:
        for p, w in zip(training.parameters, anchor, strict=True):
            if p.grad is not None:
                p.grad.add_(p - w, alpha=spec.conservative)

    rewind = random_state(training.device)
    yield average, pull
    for _ in range(spec.conservative_steps - 1):
        rewind()
        with frozen_statistics(training.model):
            yield Average(training.loss, training.device), pull


def take_robust_gradient(
    training: Training, inputs: Tensor, targets: Tensor, count: int, average: Average, step: int
) -> None:
    """`take_gradient`, and of the loss (1 − s)·L(x) + s·L(x + ε·sign ∇ₓL(x)) with s = `adversarial_share`.

    The fast gradient sign of Goodfellow et al. 2015 (arXiv 1412.6572, sections 4 and 6), Keskar's robust training
    (arXiv 1609.04836, section 4.3). Adversarial examples are made anew at every step, in train mode at the current
    weights, and see the clean ones' dropout masks. Batch-norm statistics move on the clean examples alone, and
    metrics are of these. With SAM both parts have their own ascent.
    """
    share = training.spec.adversarial_share
    if share == 0:
        return take_gradient(training, inputs, targets, count, average, step)
    rewind = random_state(training.device)
    moved = adversarial(training, inputs, targets)
    rewind()
    take_gradient(training, inputs, targets, count, average, step)
    clean = [None if p.grad is None else p.grad.detach().clone() for p in training.parameters]
    with frozen_statistics(training.model):
        rewind()
        take_gradient(training, moved, targets, count, Average(training.loss, training.device), step)
    for p, g in zip(training.parameters, clean, strict=True):
        if p.grad is not None and g is not None:
            p.grad.mul_(share).add_(g, alpha=1 - share)
    return None


def adversarial(training: Training, inputs: Tensor, targets: Tensor) -> Tensor:
    """x + ε·sign ∇ₓL(x), L the loss that is trained. The model's buffers are left alone."""
    x = inputs.detach().clone().requires_grad_()
    with frozen_statistics(training.model):
        (slope,) = torch.autograd.grad(training.objective(prediction(training.model(x)), targets), x)
    return (x + training.spec.adversarial_epsilon * slope.sign()).detach()


@torch.no_grad()
def add_noise(training: Training, step: int) -> None:
    """g ← g + N(0, σ²), σ² = η/(1 + t)^γ at step t = 0, 1, …: Neelakantan et al. 2015 (arXiv 1511.06807, section 3).

    Added after any clipping, as the draws of `stream(seed, "gradient noise", step)`.
    """
    spec = training.spec
    if not spec.gradient_noise:
        return
    deviation = (spec.gradient_noise / (1 + step) ** spec.gradient_noise_decay) ** 0.5
    rng = seeds.stream(spec.seed, "gradient noise", step)
    for p in training.parameters:
        noise = seeds.gaussian(rng, 1, p.detach().reshape(-1)).view(p.shape)  # drawn, used or not: one order for all
        if p.grad is not None:
            p.grad.add_(noise, alpha=deviation)
