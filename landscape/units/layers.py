"""Rules for operations that mix units: linear layers, convolutions, pooling, sums, norms and attention."""

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
    if not tape.is_leaf(weight) or groups not in (None, 1) or x.dim() != weight.dim():
        return unknown(tape, f"{name} with groups" if groups not in (None, 1) else name, func, args, kwargs, result)
    consume(tape, x, 1, weight, 1)
    produce(tape, result, 1, weight, 0, bias)


def matmul(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """x @ W with a parameter W, or a product of two activations."""
    bias = None
    if name == "addmm":
        if kwargs:
            return unknown(tape, name, func, args, kwargs, result)
        bias, args = args[0], args[1:]
    a, b = bound(args, kwargs, "input", "mat2" if "mat2" in kwargs else "other")
    if tape.is_leaf(b, 2) and not tape.is_leaf(a):
        consume(tape, a, -1, b, 0)
        return produce(tape, result, -1, b, 1, bias)
    if bias is not None or tape.is_leaf(a) or tape.is_leaf(b) or a.dim() < 2 or b.dim() < 2:
        return unknown(tape, name, func, (*args, bias), kwargs, result)
    first, second = tape.labels(a), tape.labels(b)
    if (first is not None and varying(first)[-1]) or (second is not None and varying(second)[-2]):
        contract(tape, a, first, b, None if second is None else second.transpose(-1, -2))
        return tape.label(result, None)
    if first is not None and second is not None:
        return unknown(tape, name, func, tuple(args), kwargs, result)
    if second is not None:
        return tape.label(result, averaged(tape, second, result.shape))
    assert first is not None
    turned = averaged(tape, first.transpose(-1, -2), result.transpose(-1, -2).shape)
    tape.label(result, turned.transpose(-1, -2))


def contract(tape: Tape, a: Any, first: Tensor | None, b: Any, second: Tensor | None) -> None:
    """Σ_d a[…, i, d]·b[…, j, d]: units d of a and of b are tied, those of one sum among themselves."""
    if first is None or second is None or varying(first)[-2] or varying(second)[-2]:
        tape.fix(a, "contracted with what cannot be transformed")
        return tape.fix(b, "contracted with what cannot be transformed")
    try:
        a_units, b_units = torch.broadcast_tensors(first[..., 0, :], second[..., 0, :])
    except RuntimeError:
        tape.fix(a, "contracted in groups")
        return tape.fix(b, "contracted in groups")
    tape.note(a)
    tape.note(b)
    a_units, b_units = core(a_units, b_units)
    tape.ties.tie(a_units, b_units, "contracted with what cannot be transformed", -1)
    tape.ties.context(a_units.reshape(-1, a_units.shape[-1]))


def averaged(tape: Tape, labels: Tensor, shape: torch.Size) -> Tensor:
    """Labels of Σ_s p[…, t, s]·v[…, s, d], p being no units: those of v, exchangeable where p is the same."""
    inner = core(labels[..., :1, :])[0]
    tape.ties.context(inner.reshape(-1, inner.shape[-1]))
    return labels[..., :1, :].expand(shape)


def attention(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    q, k, v, mask = bound(args, kwargs, "query", "key", "value", "attn_mask")
    labels = tape.labels(v)
    odd = labels is not None and (varying(labels)[-2] or labels.shape[:-2] != result.shape[:-2])
    if odd or any(tape.is_leaf(x) for x in (q, k, v)) or (mask is not None and tape.concerns(mask)):
        return unknown(tape, name, func, args, kwargs, result)
    contract(tape, q, tape.labels(q), k, tape.labels(k))
    tape.label(result, None if labels is None else averaged(tape, labels, result.shape))


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
    **dict.fromkeys(("matmul", "addmm"), matmul),
    "scaled_dot_product_attention": attention,
    "embedding": embedding,
    **dict.fromkeys((*_POOLINGS, "interpolate"), pooling),
    **dict.fromkeys((*_LINEAR, *_SHAPED, "var", "std", "logsumexp", "prod", "var_mean", "std_mean"), reduction),
}
