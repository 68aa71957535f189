"""The one training loop: plain on any optimiser, sharpness-aware when ρ > 0.

An epoch depends on the weights, the optimiser's state and its own number alone: its order of examples is
`stream(seed, "order", epoch)` and its dropout `global_stream(seed, "dropout", epoch)`. So a run resumes
from the start of any epoch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from landscape import seeds
from landscape.errors import InputError
from landscape.losses import Loss, prediction
from landscape.spec import ProblemSpec, TrainSpec
from landscape.training.prepare import Training
from landscape.training.sam import ascended, frozen_statistics, random_state
from landscape.training.schedule import schedule

Row = dict[str, Any]
Report = Callable[..., None]


class DivergedError(InputError):
    """The loss or the weights are no longer finite; `epoch` is the one in which that happened."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


def epochs(training: Training, done: int = 0, report: Report | None = None) -> Iterator[Row]:
    """Train the epochs after the first `done`, one row of metrics for each; the model changes in place.

    A row has epoch, step (optimiser steps so far), lr (of the epoch's last step), train_loss and
    train_accuracy (running averages while the weights move: each batch before its own step, in train mode),
    test_loss and test_accuracy (at the epoch's end, in eval mode; None without test data), distance
    (‖w − w₀‖₂ over the parameters) and seconds (training and test of this epoch). Losses are plain: means
    without label smoothing or weight decay. Accuracy is None for regression.

    report(steps done, steps in all, note) is called after every step. SAM's second pass sees the same batch and
    the same dropout masks as the first. The gradient is clipped as the optimiser sees it. Ends after the last epoch,
    or after the first whose train_loss is at most `spec.until_loss`.

    Raises `DivergedError` at the end of an epoch that leaves a loss or weight that is not finite.
    """
    spec, model, optimiser, device = training.spec, training.model, training.optimiser, training.device
    rate = schedule(spec, training.steps_per_epoch)
    total, note = spec.epochs * training.steps_per_epoch, ""
    for epoch in range(done + 1, spec.epochs + 1):
        begun, step = time.monotonic(), (epoch - 1) * training.steps_per_epoch
        average = Average(training.loss, device)
        model.train()
        with seeds.global_stream(spec.seed, "dropout", epoch), repeatable_kernels():
            for inputs, targets, count in batches(training, epoch):
                set_learning_rate(training, rate(step))
                rewind = random_state(device)
                optimiser.zero_grad()
                outputs = prediction(model(inputs))
                (training.objective(outputs, targets) / count).backward()
                average.add(outputs.detach(), targets, count)
                if spec.rho > 0:  # SAM: replace the gradient by the one at the ascended point
                    with ascended(training.parameters, spec.rho, spec.adaptive, spec.eta), frozen_statistics(model):
                        rewind()
                        optimiser.zero_grad()
                        (training.objective(prediction(model(inputs)), targets) / count).backward()
                if spec.clip_norm is not None:
                    clip_grad_norm_(training.parameters, spec.clip_norm)
                optimiser.step()
                step += 1
                if report is not None:
                    report(step, total, note)
        row = {"epoch": epoch, "step": step, "lr": optimiser.param_groups[0]["lr"], **outcome(training, average)}
        check_finite(row, training)
        note = f"epoch {epoch} train loss {row['train_loss']:.4g}"
        yield {**row, "seconds": round(time.monotonic() - begun, 3)}
        if is_last(row, spec):
            return


def is_last(row: Row, spec: TrainSpec) -> bool:
    """Whether training ends with the epoch of this row."""
    return row["epoch"] == spec.epochs or (spec.until_loss is not None and row["train_loss"] <= spec.until_loss)


def batches(training: Training, epoch: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """(inputs, targets, number of terms in their loss) of every step of an epoch."""
    inputs, targets = training.train
    order = seeds.permutation(seeds.stream(training.spec.seed, "order", epoch), len(targets))
    counted = targets.cpu()  # counting on the host keeps an accelerator from waiting
    for part in order.split(training.sizes):
        here = part.to(training.device)
        yield inputs[here], targets[here], max(training.loss.count(counted[part]), 1)


def set_learning_rate(training: Training, factor: float) -> None:
    for group in training.optimiser.param_groups:
        group["lr"] = training.spec.learning_rate * factor


class Average:
    """Loss and accuracy summed on the device over batches, divided once at the end."""

    def __init__(self, loss: Loss, device: torch.device) -> None:
        self.loss = loss
        self.total, self.hits = torch.zeros(2, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, outputs: Tensor, targets: Tensor, count: int) -> None:
        self.count += count
        self.total += self.loss(outputs, targets)
        if self.loss.hits is not None:
            self.hits += self.loss.hits(outputs, targets)

    def result(self) -> tuple[float | None, float | None]:
        """(mean loss, accuracy), None where there is none."""
        if self.count == 0:
            return None, None
        loss, accuracy = torch.stack([self.total, self.hits]).div(self.count).tolist()
        return loss, accuracy if self.loss.hits is not None else None


@torch.no_grad()
def outcome(training: Training, average: Average) -> Row:
    """The measured part of a row: the training averages, the test set in eval mode, the distance from w₀."""
    training.model.eval()
    test = Average(training.loss, training.device)
    inputs, targets = training.test
    for start in range(0, len(targets), ProblemSpec.batch_size):
        part = slice(start, start + ProblemSpec.batch_size)
        test.add(prediction(training.model(inputs[part])), targets[part], training.loss.count(targets[part]))
    squares = [(p - w).double().square().sum() for p, w in zip(training.parameters, training.initial, strict=True)]
    (train_loss, train_accuracy), (test_loss, test_accuracy) = average.result(), test.result()
    return {
        "train_loss": train_loss, "train_accuracy": train_accuracy, "test_loss": test_loss,
        "test_accuracy": test_accuracy, "distance": torch.stack(squares).sum().sqrt().item(),
    }  # fmt: skip


def check_finite(row: Row, training: Training) -> None:
    """Raise `DivergedError` when a loss or the distance from the start is not finite."""
    names = {"train_loss": "training loss", "test_loss": "test loss", "distance": "distance from the initial weights"}
    for key, name in names.items():
        value = row[key]
        if value is not None and not abs(value) < float("inf"):
            spec = training.spec
            raise DivergedError(
                f"training diverged in epoch {row['epoch']}: the {name} is {value}. Lower learning_rate = "
                f"{spec.learning_rate:g}{f' or rho = {spec.rho:g}' if spec.rho else ''}, or set clip_norm.",
                row["epoch"],
            )


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
