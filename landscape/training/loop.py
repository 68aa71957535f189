"""The one training loop: plain on any optimiser, sharpness-aware when ρ > 0.

An epoch depends on the weights, the optimiser's and the step's state and its own number alone: its order of
examples is `stream(seed, "order", epoch)` and its dropout `global_stream(seed, "dropout", epoch)`. So a run resumes
from the start of any epoch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from landscape import seeds
from landscape.spec import TrainSpec
from landscape.training.augment import augmented
from landscape.training.ghost_norm import ghost_batches
from landscape.training.outcome import Average, Row, check_finite, outcome
from landscape.training.parallel import gather, rank_name
from landscape.training.prepare import Training
from landscape.training.remedies import add_noise, inner_steps, take_robust_gradient
from landscape.training.schedule import schedule

Report = Callable[..., None]


def epochs(training: Training, done: int = 0, report: Report | None = None) -> Iterator[Row]:
    """Train the epochs after the first `done`, one row of metrics for each; the model changes in place.

    A row has epoch, step (optimiser steps so far), lr (of the epoch's last step), train_loss and
    train_accuracy (running averages while the weights move: each batch before its own step, in train mode),
    test_loss and test_accuracy (at the epoch's end, in eval mode; None without test data), distance
    (‖w − w₀‖₂ over the parameters) and seconds (training and test of this epoch). Losses are plain: means
    without label smoothing or weight decay, of the labels that are trained on, random ones too. Accuracy is None for
    regression. Of averages that are kept (`averages`) there are ema_test_loss, ema_test_accuracy, swa_test_loss and
    swa_test_accuracy, None before the first.

    report(steps done, steps in all, note) is called after every step. SAM's second pass sees the same batch as the
    first. The gradient is clipped as the optimiser sees it. Ends after the last epoch, or after the first whose
    train_loss is at most `spec.until_loss` or train_accuracy at least `spec.until_accuracy`.

    Raises `DivergedError` at the end of an epoch that leaves a loss or weight that is not finite.
    """
    spec, model, optimiser = training.spec, training.model, training.optimiser
    steps, note = training.steps, ""
    total = sum(steps)
    rate = schedule(spec, steps)
    for epoch in range(done + 1, len(steps) + 1):
        begun, step = time.monotonic(), sum(steps[: epoch - 1])
        average = Average(training.loss, training.device)
        model.train()
        with (
            seeds.global_stream(spec.seed, "dropout", epoch, *rank_name(training)),
            repeatable_kernels(),
            ghost_batches(model, spec.ghost_batch),
        ):
            for inputs, targets, count in batches(training, epoch):
                set_learning_rate(training, rate(step))
                inputs = augmented(spec, inputs, step)
                for kept, pull in inner_steps(training, average):
                    take_robust_gradient(training, inputs, targets, count, kept, step)
                    pull()
                    if spec.clip_norm is not None:
                        clip_grad_norm_(training.parameters, spec.clip_norm)
                    add_noise(training, step)
                    training.state.step(optimiser)
                training.averages.after_step()
                step += 1
                if report is not None:
                    report(step, total, note)
        gather(training, average)
        training.averages.after_epoch(epoch, lambda: in_order(training))
        row = {"epoch": epoch, "step": step, "lr": optimiser.param_groups[0]["lr"], **outcome(training, average)}
        check_finite(row, training)
        note = f"epoch {epoch} train loss {row['train_loss']:.4g}"
        yield {**row, "seconds": round(time.monotonic() - begun, 3)}
        if is_last(row, spec):
            return


def is_last(row: Row, spec: TrainSpec) -> bool:
    """Whether training ends with the epoch of this row."""
    loss, accuracy = spec.until_loss, spec.until_accuracy
    reached = (loss is not None and row["train_loss"] <= loss) or (
        accuracy is not None and row["train_accuracy"] is not None and row["train_accuracy"] >= accuracy
    )
    return row["epoch"] == spec.adapted().epochs or reached


def batches(training: Training, epoch: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """(inputs, targets, number of terms in their loss) of every step of an epoch."""
    inputs, targets = training.train
    order = seeds.permutation(seeds.stream(training.spec.seed, "order", epoch), len(targets))
    counted = targets.cpu()  # counting on the host keeps an accelerator from waiting
    for part in order.split(training.sizes_of(epoch)):
        here = part.to(training.device)
        yield inputs[here], targets[here], max(training.loss.count(counted[part]), 1)


def in_order(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """The training data in an order that is the same for every epoch: batch-norm statistics are taken from them."""
    inputs, targets = training.train
    order = seeds.permutation(seeds.stream(training.spec.seed, "statistics"), len(targets)).to(training.device)
    for part in order.split(training.sizes):
        yield inputs[part], targets[part]


def set_learning_rate(training: Training, factor: float) -> None:
    for group in training.optimiser.param_groups:
        group["lr"] = training.spec.scaled_rate * factor


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Inside, cuDNN uses algorithms that give the same bits every time."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
