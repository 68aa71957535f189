"""Rules for operations that mix units: linear layers, convolutions, pooling and sums."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from landscape.units.elementwise import core, largest, settled, varying
from landscape.units.tape import Rule, Tape, bound, unknown
from landscape.units.ties import ZERO

LOOKED_UP = "looked up by the data"
MIXED = "not the same units everywhere in its input"


def along(tape: Tape, x: Any, axis: int) -> Tensor | None:
    """The labels along one axis. Units that stand at the same entry of it are tied, whatever the other axes are.

    None, and all fixed, where the labels vary along other axes alone.
    """
    labels = tape.labels(x)
    if labels is None:
        return None
    labels = core(labels)[0].movedim(axis, -1).flatten(end_dim=-2)
    if len(labels) > 1 and labels.shape[-1] == 1:
        tape.fix(x, MIXED)
        return None
    first, *others = torch.unique(labels, dim=0)
    for row in others:
        tape.ties.tie(first, row, "stands for what cannot be transformed", 1)
        first = first.where(first != ZERO, row)
    return first.expand(x.shape[axis])


def consume(tape: Tape, x: Tensor, axis: int, weight: Tensor, weight_axis: int) -> None:
    """Units along an axis of x go into the weight along `weight_axis`: a factor α there asks for 1/α here."""
    tape.note(x)
    nodes, labels = tape.axis(weight, weight_axis, "in"), along(tape, x, axis)
    if labels is None:
        return tape.ties.fix(nodes, "fed by what cannot be transformed")
    tape.ties.tie(labels, nodes, "fed by what cannot be transformed", -1)


def produce(tape: Tape, result: Tensor, axis: int, weight: Tensor, weight_axis: int, bias: Any) -> None:
    """The entries of the weight and of the bias are the units along an axis of the result."""
    nodes = tape.axis(weight, weight_axis, "out")
    if tape.is_leaf(bias):
        tape.ties.tie(nodes, tape.axis(bias, 0, "out"), "", 1)
    elif bias is not None:
        tape.fix(bias, "a bias that is computed")
        tape.ties.fix(nodes, "its bias is computed")
    shape = [1] * result.dim()
    shape[axis] = -1
    tape.label(result, nodes.view(shape).expand(result.shape))
    tape.note(result)


def linear(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    x, weight, bias = bound(args, kwargs, "input", "weight", "bias")
    if not tape.is_leaf(weight, 2):
        return unknown(tape, name, func, args, kwargs, result)
    consume(tape, x, -1, weight, 1)
    produce(tape, result, -1, weight, 0, bias)


def convolution(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    x, weight, bias, *_, groups = bound(
        args, kwargs, "input", "weight", "bias", "stride", "padding", "dilation", "groups"
    )
    if tape.is_leaf(weight) and groups == x.shape[1] > 1 and x.dim() == weight.dim():
        return depthwise(tape, x, weight, bias, result)
    if not tape.is_leaf(weight) or groups not in (None, 1) or x.dim() != weight.dim():
        return unknown(tape, f"{name} with groups" if groups not in (None, 1) else name, func, args, kwargs, result)
    consume(tape, x, 1, weight, 1)
    produce(tape, result, 1, weight, 0, bias)


def depthwise(tape: Tape, x: Tensor, weight: Tensor, bias: Any, result: Tensor) -> None:
    """Each channel has filters of its own: they go where it goes, and their scale is that of the result."""
    tape.note(x)
    labels = along(tape, x, 1)
    produce(tape, result, 1, weight, 0, bias)
    nodes = tape.axis(weight, 0)
    if labels is None:
        return tape.ties.fix(nodes, "fed by what cannot be transformed", scale=False)
    tape.ties.fix(labels, "filtered alone", place=False)
    tape.ties.tie(labels.repeat_interleave(len(nodes) // len(labels)), nodes, "fed by what cannot be transformed")


def embedding(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    weight = bound(args, kwargs, "input", "weight")[1]
    if not tape.is_leaf(weight, 2):
        return unknown(tape, name, func, args, kwargs, result)
    tape.ties.fix(tape.axis(weight, 0), LOOKED_UP)
    produce(tape, result, -1, weight, 1, None)


def pooling(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """Over the last axes; sums and maxima of a unit's own values."""
    x = args[0] if args else kwargs["input"]
    labels, spatial = tape.labels(x), int(next((c for c in name if c.isdigit()), x.dim() - 2))
    one, *others = tree_leaves(result)
    if others or labels is None or any(varying(labels)[-spatial:]):
        return unknown(tape, name, func, args, kwargs, result)
    tape.label(one, labels[(..., *[slice(0, 1)] * spatial)].expand(one.shape))


def reduction(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """Over one unit's own values, or over whole sets of units (which may then change places, unscaled)."""
    x, dim = (args[0] if args else kwargs["input"]), kwargs.get("dim", kwargs.get("axis"))
    if name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor):
        return largest(tape, name, func, args, kwargs, result)
    if dim is None and len(args) > 1 and name not in ("norm",):
        dim = args[1]
    if name == "norm":
        return unknown(tape, name, func, args, kwargs, result)
    dims = (
        list(range(x.dim()))
        if dim is None
        else [d % x.dim() for d in (dim if isinstance(dim, tuple | list) else [dim])]
    )
    labels = tape.labels(x)
    if labels is None:
        return unknown(tape, name, func, args, kwargs, result)
    over = [d for d in dims if varying(labels)[d]]
    reason = f"{name} over units" if over else f"{name} is not positively homogeneous"
    if over or name not in _LINEAR:
        tape.ties.fix(core(labels)[0], reason, place=False)
    if over:
        inner = core(labels)[0]
        rest = [axis for axis in range(x.dim()) if axis not in over]
        tape.ties.context(inner.permute(*rest, *over).reshape(-1, math.prod(inner.shape[d] for d in over)))
    outputs = tree_leaves(result)
    if over and len(outputs) > 1:  # positions of the largest
        return unknown(tape, name, func, args, kwargs, result)
    labels = labels if name in _LINEAR else settled(labels)
    if name in _SHAPED:
        return tape.label(result, labels)
    for d in dims:
        labels = labels.narrow(d, 0, 1)
    for one in outputs:
        tape.label(one, labels.reshape(one.shape) if not over and one.is_floating_point() else None)


_LINEAR = ("mean", "sum", "amax", "amin", "max", "min", "nanmean", "nansum")
_SHAPED = ("softmax", "log_softmax", "softmin")
_POOLINGS = [
    f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp") for d in (1, 2, 3)
]  # fmt: skip

LAYERS: dict[str, Rule] = {
    "linear": linear,
    **{f"conv{d}d": convolution for d in (1, 2, 3)},
    "embedding": embedding,
    **dict.fromkeys((*_POOLINGS, "interpolate"), pooling),
    **dict.fromkeys((*_LINEAR, *_SHAPED, "var", "std", "logsumexp", "prod", "var_mean", "std_mean"), reduction),
}
