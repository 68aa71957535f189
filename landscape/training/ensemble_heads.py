"""Losses of stacked outputs (members, outputs, batch), with their derivatives written out.

Targets are (members, batch, …), one batch for each member. `derivative` is ∂f/∂(outputs) of the objective's sum divided
by `count`; `score` is (members,) sums of the plain loss, and of hits where there are any.
"""

from torch import Tensor


class SquaredError:
    """Σ over the batch of the mean over an example's k outputs of (o − t)²; derivative 2(o − t)/k."""

    def derivative(self, outputs: Tensor, targets: Tensor, count: int) -> Tensor:
        return self._error(outputs, targets).mul_(2 / (outputs.shape[1] * count))

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._error(outputs, targets).square_().sum((1, 2)).div_(outputs.shape[1]), None

    def _error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        members, width, batch = outputs.shape
        return outputs - targets.reshape(members, batch, width).transpose(1, 2).to(outputs.dtype)


class CrossEntropy:
    """−Σ log softmax(o)_y; with smoothing s the target is (1 − s) on y and s/C on all: derivative softmax(o) − t."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def derivative(self, outputs: Tensor, targets: Tensor, count: int) -> Tensor:
        delta = outputs.softmax(1)
        if self.smoothing:
            delta -= self.smoothing / outputs.shape[1]
        right = targets[:, None]
        delta.scatter_add_(1, right, delta.new_full((), self.smoothing - 1).expand(right.shape))
        return delta.div_(count)

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        right = targets[:, None]
        loss = outputs.logsumexp(1) - outputs.gather(1, right)[:, 0]
        return loss.sum(1), (outputs.argmax(1) == targets).sum(1)


Head = SquaredError | CrossEntropy


def head_of(loss: str, smoothing: float) -> Head | None:
    """The written-out form of the loss of this name; None where there is none."""
    if loss == "mse":
        return SquaredError()
    return CrossEntropy(smoothing) if loss == "cross_entropy" else None
