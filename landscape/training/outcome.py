"""What an epoch is measured by: running averages, the test set, the distance from the start."""

from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.losses import Loss, prediction
from landscape.spec import ProblemSpec
from landscape.training.prepare import Training

Row = dict[str, Any]


class DivergedError(InputError):
    """The loss or the weights are no longer finite; `epoch` is the one in which that happened."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


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
    test_loss, test_accuracy = _on_test_data(training, training.model)
    averages: Row = {}
    for name, asked in (("ema", training.spec.ema), ("swa", training.spec.swa_from)):
        if asked is not None:
            model = training.averages.models.get(name)
            found = (None, None) if model is None else _on_test_data(training, model)
            averages |= dict(zip((f"{name}_test_loss", f"{name}_test_accuracy"), found, strict=True))
    squares = [(p - w).double().square().sum() for p, w in zip(training.parameters, training.initial, strict=True)]
    train_loss, train_accuracy = average.result()
    return {
        "train_loss": train_loss, "train_accuracy": train_accuracy, "test_loss": test_loss,
        "test_accuracy": test_accuracy, "distance": torch.stack(squares).sum().sqrt().item(),
        **averages,
    }  # fmt: skip


def _on_test_data(training: Training, model: nn.Module) -> tuple[float | None, float | None]:
    """(mean loss, accuracy) of a model in eval mode."""
    test = Average(training.loss, training.device)
    inputs, targets = training.test
    for start in range(0, len(targets), ProblemSpec.batch_size):
        part = slice(start, start + ProblemSpec.batch_size)
        test.add(prediction(model(inputs[part])), targets[part], training.loss.count(targets[part]))
    return test.result()


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
