"""Losses that sum over their batch, with the count they are divided by and what counts as a hit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from landscape.batches import IGNORED
from landscape.errors import InputError, illegal
from landscape.likelihoods import Likelihood, bernoulli, categorical, gaussian, next_tokens, one_hot, unit_gaussian
from landscape.spec import LOSSES

__all__ = ["IGNORED", "LOSSES", "Loss", "loss_by_name", "prediction", "sums_over_batch", "takes_one_tensor"]


@dataclass(frozen=True)
class Loss:
    """total(outputs, targets) sums over the batch; count(targets) is how many terms that sum has.

    hits(outputs, targets) counts correct predictions as a tensor, None for regression. likelihood: its
    derivatives with respect to the outputs, None where only automatic differentiation knows them.
    class_axis: the axis of the outputs that the classes are on, None for regression.
    """

    name: str
    total: Callable[[Tensor, Tensor], Tensor]
    count: Callable[[Tensor], int]
    hits: Callable[[Tensor, Tensor], Tensor] | None = None
    likelihood: Likelihood | None = None
    class_axis: int | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.total(outputs, targets)


def _cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    _check_classes_second(outputs, targets)
    return F.cross_entropy(outputs, targets, reduction="sum", label_smoothing=smoothing, ignore_index=IGNORED)


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_classes_second(outputs, targets)
    return F.nll_loss(outputs, targets, reduction="sum", ignore_index=IGNORED)


def _check_classes_second(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        raise InputError(
            f"outputs of shape {tuple(outputs.shape)} do not fit targets of shape {tuple(targets.shape)}: the classes "
            "are expected on the outputs' second axis. Use the loss token_cross_entropy for classes on the last axis, "
            "causal_lm where labels are the input tokens themselves."
        )


def _token_cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    if outputs.shape[:-1] != targets.shape:
        raise InputError(
            f"outputs of shape {tuple(outputs.shape)} do not fit targets of shape {tuple(targets.shape)}: the classes "
            "are expected on the outputs' last axis, and a target for each of the other axes' positions."
        )
    logits, flat = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    return F.cross_entropy(logits, flat, reduction="sum", label_smoothing=smoothing, ignore_index=IGNORED)


def _causal_lm(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return _token_cross_entropy(outputs, next_tokens(labels), smoothing)


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    targets = targets.to(outputs.dtype).reshape(outputs.shape)
    return F.mse_loss(outputs, targets, reduction="sum") * (len(targets) / max(targets.numel(), 1))


def _binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    targets = targets.to(outputs.dtype).reshape(outputs.shape)
    total = F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
    return total * (len(targets) / max(targets.numel(), 1))


def _multi_margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of plain operations, since `F.multi_margin_loss` has no second derivative."""
    _check_classes_second(outputs, targets)
    right = targets[:, None]
    excess = (1 + outputs - outputs.gather(1, right)).clamp_min(0)
    return excess.scatter(1, right, 0).sum() / outputs.shape[1]


def _square(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_classes_second(outputs, targets)
    return (outputs - one_hot(outputs, targets)).square().sum() / 2


def _labels(targets: Tensor) -> int:
    return int((targets != IGNORED).sum())


def _next_labels(labels: Tensor) -> int:
    return int((labels[:, 1:] != IGNORED).sum())


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).sum()


def _token_hits(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).sum()


def _next_hits(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs[:, :-1].argmax(-1) == labels[:, 1:]).sum()


def _binary_hits(outputs: Tensor, targets: Tensor) -> Tensor:
    right = (outputs > 0) == (targets.reshape(outputs.shape) > 0.5)
    return right.sum() * (len(targets) / max(targets.numel(), 1))


def loss_by_name(name: str, label_smoothing: float = 0.0) -> Loss:
    """One of `LOSSES`, each the sum over the batch of what is said here for one term.

    `cross_entropy` of logits and `nll` of log-probabilities have the classes on the second axis of the
    outputs, as in `torch.nn.functional.cross_entropy`; `token_cross_entropy` on the last; `causal_lm` too,
    and its labels (B, T) are the input tokens: output t is compared with label t + 1. Targets of -100 are
    left out, and each other target is a term. `multi_margin`: the mean over the classes of max(0, 1 − o_y + o_i),
    i ≠ y, as `torch.nn.MultiMarginLoss` has it. `square`: ½ Σ_i (o_i − [i = y])², the square loss for classes (Hui &
    Belkin 2021; Cohen et al. 2021). `mse`: squared error, `bce`: binary cross-entropy of logits,
    both the mean over the outputs of an example, which is a term; a hit of `bce` is a fraction of labels.
    """
    if name == "cross_entropy":
        total = partial(_cross_entropy, smoothing=label_smoothing)
        return Loss(name, total, _labels, _hits, categorical(1, label_smoothing), 1)
    if name == "token_cross_entropy":
        total = partial(_token_cross_entropy, smoothing=label_smoothing)
        return Loss(name, total, _labels, _token_hits, categorical(-1, label_smoothing), -1)
    if name == "causal_lm":
        total = partial(_causal_lm, smoothing=label_smoothing)
        return Loss(name, total, _next_labels, _next_hits, categorical(-1, label_smoothing, shifted=True), -1)
    if label_smoothing and name in LOSSES:
        raise illegal("label_smoothing", label_smoothing, f"0 for the loss {name}", "Use the loss cross_entropy.")
    if name == "nll":
        return Loss(name, _nll, _labels, _hits, categorical(1), 1)
    if name == "multi_margin":
        return Loss(name, _multi_margin, len, _hits, None, 1)
    if name == "square":
        return Loss(name, _square, len, _hits, unit_gaussian(), 1)
    if name == "mse":
        return Loss(name, _squared_error, len, likelihood=gaussian())
    if name == "bce":
        return Loss(name, _binary_cross_entropy, len, _binary_hits, bernoulli())
    raise illegal("loss", name, f"one of {', '.join(LOSSES)}", "Pass a callable for any other loss.")


def takes_one_tensor(loss: Any) -> bool:
    """Whether the loss compares one tensor of outputs: this module's losses and those of `torch.nn`."""
    return isinstance(loss, Loss | torch.nn.modules.loss._Loss)


def prediction(outputs: Any) -> Any:
    """The one tensor that a loss compares with the targets, of whatever a model returns.

    A tensor is itself; of an object or mapping with `logits` (Hugging Face) it is those; of a tuple the first.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits = outputs.get("logits") if isinstance(outputs, dict) else getattr(outputs, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(outputs, tuple | list) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise InputError(
        f"the model returns {type(outputs).__name__}, in which no tensor of outputs is found. Return a tensor, a tuple "
        "that begins with one, or an object with `logits`; or pass a loss of your own, which gets it as it is."
    )


def sums_over_batch(loss: Callable[[Any, Any], Tensor], outputs: Any, targets: Any) -> bool:
    """Whether twice the batch gives twice the loss, as a sum does and a mean does not.

    Also taken as true where that cannot be found out: outputs or targets whose tensors do not all have
    the examples along their first axis.
    """
    leaves = [x for x in tree_leaves((outputs, targets)) if isinstance(x, Tensor)]
    if not leaves or any(x.dim() == 0 or len(x) != len(leaves[-1]) for x in leaves):
        return True
    with torch.no_grad():
        once = loss(outputs, targets)
        twice = loss(*tree_map(lambda x: torch.cat([x, x]) if isinstance(x, Tensor) else x, (outputs, targets)))
    return bool(torch.isclose(twice, 2 * once, rtol=1e-3, atol=1e-12)) or not bool(torch.isfinite(once))
