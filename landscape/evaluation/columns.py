"""Matrices of activations kept in columns, features first, on the way to outputs that are read so."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from landscape.evaluation.first_layer import Once
from landscape.products.tape import Step

aten = torch.ops.aten

_POINTWISE = {
    aten.relu.default, aten.tanh.default, aten.sigmoid.default, aten.gelu.default, aten.silu.default, aten.elu.default,
    aten.leaky_relu.default, aten.hardtanh.default, aten.softplus.default, aten.mish.default, aten.sin.default,
}  # fmt: skip
"""Operations of one tensor that act on each number and keep the layout."""


def in_columns(steps: Sequence[Step]) -> list[Step]:
    """The steps with those matrices of activations transposed, features first, that can be read in that way alone.

    What the slots say of their shapes no longer holds for these.
    """
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for slot in step.inputs:
            readers.setdefault(slot.number, []).append(step)
    makers = {step.outputs[0].number: step for step in steps if step.single and step.outputs[0] and _gives(step)}
    turned = {number for number in makers if number in readers}
    while True:
        kept = {
            number
            for number in turned
            if all(_reads(reader, number, turned) for reader in readers[number])
            and (makers[number].function not in _POINTWISE or makers[number].inputs[0].number in turned)
        }
        if kept == turned:
            return [_columnwise(step, turned) for step in steps]
        turned = kept


def _gives(step: Step) -> bool:
    """Whether a step could give a matrix transposed."""
    owner = getattr(step.function, "__self__", None)
    return (
        step.function is product_plus_bias
        or (step.function in _POINTWISE and len(step.inputs) == 1)
        or (isinstance(owner, Once) and step.function == owner.combined and len(owner.layer.out.shape) == 2)
    )


def _reads(reader: Step, number: int, turned: set[int]) -> bool:
    """Whether a step reads a matrix as well when it is transposed, and gives its own so."""
    if reader.function is columns_of:
        return True
    out = reader.outputs[0]
    alone = [slot.number for slot in reader.inputs].count(number) == 1
    place = reader.function in _POINTWISE or (reader.function is product_plus_bias and reader.args[1].number == number)
    return place and alone and out is not None and out.number in turned


def _columnwise(step: Step, turned: set[int]) -> Step:
    if step.function is columns_of and step.inputs[0].number in turned:
        return replace(step, function=_same)
    if not step.single or step.outputs[0] is None or step.outputs[0].number not in turned:
        return step
    if step.function is product_plus_bias:
        return replace(step, function=_product_of_columns if step.args[1].number in turned else _product_in_columns)
    owner = getattr(step.function, "__self__", None)
    if isinstance(owner, Once):
        owner.turned = True
    return step


def _same(x: Tensor) -> Tensor:
    return x


def _product_in_columns(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return _product_of_columns(bias, x.t(), weight)


def _product_of_columns(bias: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(weight.t(), columns).add_(bias.unsqueeze(1))


def product_plus_bias(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(x, weight).add_(bias)


def columns_of(x: Tensor) -> Tensor:
    return x.t().contiguous()
