"""What can be measured of a network's outputs beside loss and accuracy, each as a sum over the batch."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from landscape.errors import illegal
from landscape.factories import load_factory
from landscape.problem import Metric

NAMES = "top-K, entropy, margin or file.py:function"


def metric_by_name(name: str, class_axis: int | None) -> Metric:
    """A metric of outputs with the classes on `class_axis` (None: no classes), divided by the loss's terms afterwards.

    top-K: examples whose class is among the K largest outputs. entropy: −Σ p ln p of the softmax, in nats. margin:
    output of the right class minus the largest other one. file.py:function or package.module:function: a function
    (outputs, targets) ↦ sum over the batch. Raises `InputError` for anything else.
    """
    if ":" in name:
        return load_factory(name)
    kind, _, number = name.partition("-")
    known = name in ("entropy", "margin") or (kind == "top" and number.isdecimal() and int(number) > 0)
    if not known:
        raise illegal("metric", name, NAMES, "For example --metric top-5.")
    if class_axis is None:
        raise illegal("metric", name, "one of a loss with classes", "Give a function of your own.")
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"entropy": _entropy, "margin": _margin}
    function = found.get(kind) or (lambda outputs, targets: _top(outputs, targets, int(number)))

    def metric(outputs: Any, targets: Any) -> Tensor:
        rows = outputs.movedim(class_axis, -1).reshape(-1, outputs.shape[class_axis])
        return function(rows, targets.reshape(-1))

    return metric


def _top(rows: Tensor, targets: Tensor, count: int) -> Tensor:
    best = rows.topk(min(count, rows.shape[1]), 1).indices
    return (best == targets[:, None]).any(1).sum()


def _entropy(rows: Tensor, targets: Tensor) -> Tensor:
    logs = torch.log_softmax(rows, 1)
    return -(logs.exp() * logs).sum()


def _margin(rows: Tensor, targets: Tensor) -> Tensor:
    right = targets[:, None]
    others = rows.scatter(1, right, float("-inf"))
    return (rows.gather(1, right)[:, 0] - others.amax(1)).sum()


def macro_f1(parts: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Mean over the classes of F1 = 2·TP/(2·TP + FP + FN), from 0 to 1.

    parts: outputs (n, classes), whose largest is the prediction, and labels (n,); negative labels are left out. A class
    that neither labels nor predictions have does not count. NaN without any. As scikit-learn's `average="macro"`.
    """
    total: Tensor | None = None
    for outputs, targets in parts:
        there, classes = targets >= 0, outputs.shape[1]
        pairs = targets[there] * classes + outputs[there].argmax(1)
        counts = torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
        total = counts if total is None else total + counts
    if total is None:
        return float("nan")
    hits, sizes = total.diagonal(), total.sum(0) + total.sum(1)
    return float((2 * hits[sizes > 0] / sizes[sizes > 0]).mean())
