"""The margin of the classification: by how much the right class is ahead.

m_i = o_i[y_i] − max_{c ≠ y_i} o_i[c] for every term of the loss, o the logits (log-probabilities for `nll`); for `bce`
the logit of the right one of the two answers, ±o, for every label. Reported are the 10th percentile over the examples
(Jiang et al. 2020, arXiv 1912.02178, in place of the minimum, which one example decides), the minimum and the mean.
A function of the outputs alone, so that no rescaling moves it.

error: of the mean s/√N; of the percentile half the distance between the order statistics √(0.09·N) to either side of
it, a standard error without assumptions on the distribution; the minimum has none. certificate: examples (terms).
"""

import math

import numpy as np
import torch
from torch import Tensor

from landscape.batches import IGNORED
from landscape.errors import UndefinedError
from landscape.likelihoods import next_tokens
from landscape.measures.row import RESCALINGS, Row, Subject

PERCENTILE = 0.1


def rows(subject: Subject) -> list[Row]:
    """10th percentile, minimum and mean."""
    name = subject.problem.conditions()["loss"]
    axis = _class_axis(subject.problem.loss)
    if name != "bce" and axis is None:
        raise UndefinedError(
            f"the loss {name} has no classes, between which to take a margin. Leave out the measure margin, or use a "
            "loss of classification by name (cross_entropy, nll, bce, …)."
        )
    pieces = []
    for outputs, targets in subject.problem.outputs_and_targets(subject.w):
        if axis is None:
            pieces.append(_binary(outputs, targets))
        else:
            pieces.append(_margins(outputs.movedim(axis, -1), next_tokens(targets) if name == "causal_lm" else targets))
    return _summary(torch.cat(pieces).double().sort().values.cpu().numpy())


def _class_axis(loss: object) -> int | None:
    axis = getattr(loss, "class_axis", None)
    return 1 if isinstance(loss, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss) else axis


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    right = targets.reshape(outputs.shape) > 0.5
    return torch.where(right, outputs, -outputs).reshape(-1)


def _margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """outputs (…, classes), targets (…): the margins of all that are not ignored."""
    logits, labels = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
    logits, labels = logits[labels != IGNORED], labels[labels != IGNORED, None]
    others = logits.scatter(1, labels, -math.inf).max(1).values
    return logits.gather(1, labels)[:, 0] - others


def _summary(margins: np.ndarray) -> list[Row]:
    """margins (N,), ascending."""
    count = len(margins)
    position, reach = PERCENTILE * (count - 1), math.sqrt(PERCENTILE * (1 - PERCENTILE) * count)
    low, high = (round(min(max(position + step, 0), count - 1)) for step in (-reach, reach))
    deviation = float(margins.std(ddof=1)) / count**0.5 if count > 1 else math.nan
    found = [
        ("10th percentile", np.quantile(margins, PERCENTILE), (margins[high] - margins[low]) / 2),
        ("minimum", margins[0], math.nan),
        ("mean", margins.mean(), deviation),
    ]
    return [
        Row(f"margin, {what}", float(value), float(error), {"examples": count}, RESCALINGS)
        for what, value, error in found
    ]
