"""Rules for products of activations, such as attention's, whose heads are units of their own.

Σ_d q[h, i, d]·k[h, j, d] is a number of head h. The heads are labels of such products, through softmax and masks, up to
the sums Σ_s p[h, t, s]·v[h, s, d] that they weigh: what is summed by one head belongs to it.
"""

import math
from typing import Any

import torch
from torch import Tensor

from landscape.units.elementwise import core, named, settled, uniform, varying
from landscape.units.layers import consume, produce
from landscape.units.tape import Rule, Tape, bound, unknown


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
        turned = None if second is None else second.transpose(-1, -2)
        return tape.label(result, contract(tape, a, first, b, turned, result.shape))
    left, right = (x if x is not None and varying(x)[axis] else None for x, axis in ((first, -2), (second, -1)))
    if right is not None and left is None:
        return tape.label(result, averaged(tape, a, first, right, result.shape))
    if left is None or right is not None:
        return unknown(tape, name, func, tuple(args), kwargs, result)
    turned = None if second is None else second.transpose(-1, -2)
    found = averaged(tape, b, turned, left.transpose(-1, -2), result.transpose(-1, -2).shape)
    tape.label(result, found.transpose(-1, -2))


def contract(
    tape: Tape, a: Any, first: Tensor | None, b: Any, second: Tensor | None, shape: torch.Size
) -> Tensor | None:
    """Labels of Σ_d a[…, i, d]·b[…, j, d], the heads: units d of a and of b are tied, those of one sum together."""
    if first is None or second is None or varying(first)[-2] or varying(second)[-2]:
        tape.fix(a, "contracted with what cannot be transformed")
        tape.fix(b, "contracted with what cannot be transformed")
        return None
    try:
        a_units, b_units = torch.broadcast_tensors(first[..., 0, :], second[..., 0, :])
    except RuntimeError:
        tape.fix(a, "contracted in groups")
        tape.fix(b, "contracted in groups")
        return None
    tape.note(a)
    tape.note(b)
    a_units, b_units = core(a_units, b_units)
    tape.ties.tie(a_units, b_units, "contracted with what cannot be transformed", -1)
    heads = tape.ties.heads(a_units)
    tape.ties.context(a_units, heads)
    return None if heads is None else heads[..., None, None].expand(shape)


def averaged(tape: Tape, p: Any, heads: Tensor | None, labels: Tensor, shape: torch.Size) -> Tensor:
    """Labels of Σ_s p[…, t, s]·v[…, s, d]: those of v. heads: labels of p, whose numbers are a head's as wholes."""
    if heads is not None and any(varying(heads)[-2:]):
        tape.fix(p, "weighs units by other units")
        heads = None
    inner = labels[..., 0, :]
    owners = None if heads is None else core(heads)[0][..., 0, 0]
    tape.ties.context(core(inner)[0], owners)
    return labels[..., :1, :].expand(shape)


def attention(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    q, k, v, mask = bound(args, kwargs, "query", "key", "value", "attn_mask")
    labels = tape.labels(v)
    odd = labels is not None and (varying(labels)[-2] or labels.shape[:-2] != result.shape[:-2])
    if odd or any(tape.is_leaf(x) for x in (q, k, v)):
        return unknown(tape, name, func, args, kwargs, result)
    scores = torch.Size((*result.shape[:-1], k.shape[-2]))
    heads = contract(tape, q, tape.labels(q), k, tape.labels(k), scores)
    heads = biased(tape, heads, mask)
    if heads is not None and labels is None:
        tape.ties.fix(core(heads)[0], "weighs what cannot be transformed")
    tape.label(result, None if labels is None else averaged(tape, None, heads, labels, result.shape))


def biased(tape: Tape, heads: Tensor | None, mask: Any) -> Tensor | None:
    """Labels of the scores with a mask added: what each head adds of its own (relative positions) goes with it."""
    own = tape.labels(mask)
    if heads is not None and own is not None:
        tape.ties.fix(core(own)[0], "added to what has no scale", place=False)
        a, b = core(heads, own.expand(heads.shape))
        tape.ties.tie(a, b, "added to what cannot be transformed")
        return heads
    tape.fix(mask, "added to what cannot be transformed")
    if heads is not None and not uniform(heads, mask):
        tape.ties.fix(core(heads)[0], "a mask that differs from head to head")
        return None
    return heads


def masked(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """A number, the same for all units, in some places: `masked_fill`, and `where` with one number."""
    if name == "where":
        mask, x, value = bound(args, kwargs, "condition", "input", "other")
        x, value = (value, x) if tape.labels(x) is None else (x, value)
    else:
        x, mask, value = bound(args, kwargs, "input", "mask", "value")
    labels = tape.labels(x)
    if isinstance(value, Tensor) and (value.numel() != 1 or tape.concerns(value)):
        return unknown(tape, name, func, args, kwargs, result)
    if labels is None:
        return tape.label(result, None)
    if not uniform(labels, mask):
        tape.ties.fix(core(labels)[0], f"{name} that differs from unit to unit", scale=False)
    if float(value) not in (0.0, math.inf, -math.inf):
        tape.ties.fix(core(labels)[0], f"{name} with a number", place=False)
    tape.label(result, settled(labels).expand(result.shape))


ATTENTION: dict[str, Rule] = {
    **named(matmul, "matmul addmm"),
    **named(masked, "masked_fill where"),
    "scaled_dot_product_attention": attention,
}
