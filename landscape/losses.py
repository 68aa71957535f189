"""Losses that sum over their batch, with the count they are divided by and what counts as a hit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from landscape.errors import illegal

IGNORED = -100
"""Targets with this value are left out of the cross-entropy and of its count (torch's convention)."""


@dataclass(frozen=True)
class Loss:
    """total(outputs, targets) sums over the batch; count(targets) is how many terms that sum has.

    hits(outputs, targets) counts correct predictions as a tensor, None for regression.
    """

    name: str
    total: Callable[[Tensor, Tensor], Tensor]
    count: Callable[[Tensor], int]
    hits: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.total(outputs, targets)


def _cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="sum", label_smoothing=smoothing, ignore_index=IGNORED)


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(outputs, targets, reduction="sum", ignore_index=IGNORED)


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    targets = targets.to(outputs.dtype).reshape(outputs.shape)
    return F.mse_loss(outputs, targets, reduction="sum") * (len(targets) / max(targets.numel(), 1))


def _labels(targets: Tensor) -> int:
    return int((targets != IGNORED).sum())


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).sum()


def loss_by_name(name: str, label_smoothing: float = 0.0) -> Loss:
    """`cross_entropy` of logits, `nll` of log-probabilities, `mse`: squared error, mean over the outputs.

    Classes are on the second axis of the outputs, as in `torch.nn.functional.cross_entropy`.
    """
    if name == "cross_entropy":
        return Loss(name, partial(_cross_entropy, smoothing=label_smoothing), _labels, _hits)
    if label_smoothing:
        raise illegal("label_smoothing", label_smoothing, f"0 for the loss {name}", "Use the loss cross_entropy.")
    if name == "nll":
        return Loss(name, _nll, _labels, _hits)
    if name == "mse":
        return Loss(name, _squared_error, len)
    raise illegal("loss", name, "one of cross_entropy, nll, mse", "Pass a callable for any other loss.")


def sums_over_batch(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor) -> bool:
    """Whether twice the batch gives twice the loss, as a sum does and a mean does not."""
    with torch.no_grad():
        once = loss(outputs, targets)
        twice = loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    return bool(torch.isclose(twice, 2 * once, rtol=1e-3, atol=1e-12)) or not bool(torch.isfinite(once))
