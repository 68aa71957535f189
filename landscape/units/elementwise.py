"""Rules for operations that treat each element by itself, or move elements without changing them."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from landscape.units.tape import Rule, Tape, bound, unknown
from landscape.units.ties import FIXED, ZERO


def varying(labels: Tensor) -> list[bool]:
    """For each axis, whether labels differ along it."""
    return [bool((labels != labels.narrow(axis, 0, 1)).any()) for axis in range(labels.dim())]


def core(*labels: Tensor) -> tuple[Tensor, ...]:
    """Labels of one shape without the axes along which none of them varies (these keep length 1)."""
    for axis in range(labels[0].dim()):
        if not any(varying(x)[axis] for x in labels):
            labels = tuple(x.narrow(axis, 0, 1) for x in labels)
    return labels


def same(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """f(αx) = αf(x) for α > 0, element by element."""
    tape.label(result, tape.labels(args[0] if args else kwargs["input"]))


def copied(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """The same numbers; of a leaf, the leaf."""
    x = args[0] if args else kwargs["input"]
    if tape.is_leaf(x):
        return tape.renamed(x, result)
    tape.label(result, tape.labels(x))


def settled(labels: Tensor) -> Tensor:
    """Labels after an operation that makes something else of a zero."""
    return labels.where(labels != ZERO, FIXED)


def unitwise(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """Any function of each element: units may change places, and keep their scale."""
    x = args[0] if args else kwargs["input"]
    labels = tape.labels(x)
    tape.fix(x, f"{name} is not positively homogeneous", place=False)
    if len(args) > 1 and isinstance(args[1], Tensor) and tape.concerns(args[1]):
        return unknown(tape, name, func, args, kwargs, result)
    tape.label(result, None if labels is None else settled(labels))


def dropout(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    training = bound(args, kwargs, "input", "p", "training")[2]
    active = kwargs.get("train", training)
    rule: Rule = same if active is False else unknown
    rule(tape, name, func, args, kwargs, result)


def clamp(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    low, high = bound(args, kwargs, "input", "min", "max")[1:]
    rectified = high is None and isinstance(low, int | float) and low == 0
    rule: Rule = same if rectified else unitwise
    rule(tape, name, func, args, kwargs, result)


def prelu(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    x, slopes = bound(args, kwargs, "input", "weight")
    labels = tape.labels(x)
    if tape.is_leaf(slopes) and slopes.numel() > 1 and labels is not None:
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        nodes = tape.axis(slopes, 0, "in").view(shape).expand(x.shape)
        units, nodes = core(labels, nodes)
        tape.ties.tie(units, nodes, "tied to slopes of units that stay")
        tape.fix(slopes, "slopes are not rescaled", place=False)
    elif labels is not None and slopes.numel() > 1:
        return unknown(tape, name, func, args, kwargs, result)
    tape.label(result, labels)


def pairwise(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """x + y, x − y and the larger or smaller: both are one unit. x·y and x/y: one place, y keeps its scale."""
    x, y = bound(args, kwargs, "input", "other")
    product = name in ("mul", "div", "rdiv")
    if name == "div" and bound(args, kwargs, "input", "other", "rounding_mode")[2] is not None:
        return unknown(tape, name, func, args, kwargs, result)
    if name == "rdiv" or (name == "mul" and tape.labels(x) is None):
        x, y = y, x  # x is what scales
    shape = result.shape
    first, second = (None if (a := tape.labels(z)) is None else a.expand(shape) for z in (x, y))
    if name in ("div", "rdiv") and second is not None:
        tape.fix(y, "a divisor", place=False)
    if first is not None and second is not None:
        if name == "mul" and tape.ties.unscaled(core(first)[0]):
            first, second = second, first  # a gate that is not scaled leaves the other one its scale
        a, b = core(first, second)
        tape.ties.tie(a, b, "added to what cannot be transformed", 0 if product else 1)
        if product:
            tape.ties.fix(b, "multiplied by another unit", place=False)
        first = torch.where(second == ZERO, second, first) if product else torch.where(first == ZERO, second, first)
        return tape.label(result, first)
    labels, other = (first, y) if first is not None else (second, x)
    if labels is None:
        return tape.label(result, None)
    if not uniform(labels, other):
        tape.ties.fix(core(labels)[0], f"{name} with values that differ from unit to unit", scale=False)
    if not product and not (isinstance(other, int | float) and other == 0):
        tape.ties.fix(core(labels)[0], f"{name} with a constant", place=False)
        labels = settled(labels)
    tape.label(result, labels)


def uniform(labels: Tensor, other: Any) -> bool:
    """Whether `other` is a number or has length 1 along all axes along which the labels vary."""
    if not isinstance(other, Tensor):
        return True
    missing = labels.dim() - other.dim()
    return all(not v or a < missing or other.shape[a - missing] == 1 for a, v in enumerate(varying(labels)))


def largest(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """`max` and `min` of two tensors; the reductions of these names have rules of their own."""
    rule: Rule = pairwise if len(args) > 1 and isinstance(args[1], Tensor) else unknown
    rule(tape, name, func, args, kwargs, result)


def moved(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """Elements go elsewhere, or are repeated: their labels go with them."""
    x = args[0] if args else kwargs.get("input")
    turning = name in ("t", "T", "mT", "transpose", "swapaxes", "permute")
    if turning and tape.is_leaf(x, 2) and result.shape == x.shape[::-1] and x.T.equal(result):
        return tape.renamed(x, result, transposed=True)
    if name == "pad":
        mode, value = bound(args, kwargs, "input", "pad", "mode", "value")[2:]
        zeros = mode in (None, "constant") and value in (None, 0)
        if mode in (None, "constant"):
            kwargs = {**{k: v for k, v in kwargs.items() if k != "mode"}, "value": float(ZERO if zeros else FIXED)}
            args = args[:2]
    shadows = func(*tree_map(lambda z: _shadow(tape, z), args), **tree_map(lambda z: _shadow(tape, z), kwargs))
    for one, labels in zip(tree_leaves(result), tree_leaves(shadows), strict=True):
        tape.label(one, labels)


def _shadow(tape: Tape, x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if not x.is_floating_point():  # an index
        return x.cpu()
    labels = tape.labels(x)
    return torch.full(x.shape, float(FIXED), dtype=torch.float64) if labels is None else labels.contiguous()


def viewed(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    labels = tape.labels(args[0] if args else kwargs["input"])
    tape.label(result, None if labels is None else labels.reshape(result.shape))


def empty(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """A new tensor that takes no more than its shape from its arguments."""
    zeros = name in ("zeros_like", "new_zeros") and result.is_floating_point()
    tape.label(result, torch.full(result.shape, float(ZERO), dtype=torch.float64) if zeros else None)


def named(rule: Rule, words: str) -> dict[str, Rule]:
    """The rule under each of the words."""
    return dict.fromkeys(words.split(), rule)


ELEMENTWISE: dict[str, Rule] = {
    **named(same, "relu leaky_relu abs neg positive"),
    **named(copied, "clone contiguous detach data to float double half bfloat16 type type_as alias cpu requires_grad"),
    **named(
        unitwise,
        "tanh sigmoid gelu silu elu selu celu softplus mish hardswish hardsigmoid hardtanh relu6 threshold logsigmoid "
        "log_sigmoid softsign tanhshrink softshrink hardshrink exp expm1 log log1p sqrt rsqrt square pow reciprocal "
        "sin cos tan atan erf sign round floor ceil",
    ),
    **named(
        moved,
        "flatten unflatten permute transpose t T mT swapaxes swapdims movedim moveaxis squeeze unsqueeze getitem "
        "chunk split tensor_split unbind cat stack hstack vstack expand broadcast_to repeat repeat_interleave tile "
        "narrow select index_select flip roll rot90 pad pixel_shuffle pixel_unshuffle channel_shuffle",
    ),
    **named(viewed, "view reshape ravel view_as reshape_as"),
    **named(pairwise, "add sub rsub mul div rdiv maximum minimum"),
    **named(empty, "zeros_like ones_like empty_like full_like rand_like randn_like"),
    **named(empty, "new_zeros new_ones new_empty new_full new_tensor"),
    **named(dropout, "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout"),
    **named(clamp, "clamp clip clamp_min"),
    "prelu": prelu,
}
