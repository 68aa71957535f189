"""Batch norm with stored statistics folded into the layer before it, on a recorded evaluation.

y = γ(Wx + b − μ)/√(σ² + ε) + β = (sW)x + s(b − μ) + β with s = γ/√(σ² + ε): per point instead of per example.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from landscape.evaluation.stages import uses
from landscape.products.tape import Slot, Step, Tape

aten = torch.ops.aten

_NORMS: dict[Any, Callable[..., tuple[bool, float]]] = {
    aten.native_batch_norm.default: lambda training, _, eps: (training, eps),
    aten.cudnn_batch_norm.default: lambda training, _, eps: (training, eps),
    aten.miopen_batch_norm.default: lambda training, _, eps: (training, eps),
    aten._native_batch_norm_legit_no_training.default: lambda _, eps: (False, eps),
}
"""Batch norms, and how they are given (training, ε) after input, weight, bias, mean and variance."""


class Folding:
    """One pass over the steps of a tape."""

    def __init__(self, tape: Tape):
        self.tape = tape
        self.uses = uses(tape.steps, tape.result)
        self.touched = {storage for step in tape.steps for storage in step.mutates}
        self.made = {step.outputs[0].number: i for i, step in enumerate(tape.steps) if step.single and step.outputs[0]}
        self.numbers = count(1 + max(slot.number for slot in _slots(tape)))
        self.storages = count(1 + max(slot.storage for slot in _slots(tape)))

    def folded(self) -> Tape:
        """The tape with every batch norm folded that follows a layer and nothing else does."""
        steps: list[list[Step]] = [[step] for step in self.tape.steps]
        for i, step in enumerate(self.tape.steps):
            layer = self._layer_before(step)
            if layer is not None:
                steps[i] = self._merged(self.tape.steps[layer], step)
                steps[layer] = []
        return replace(self.tape, steps=[step for group in steps for step in group])

    def _layer_before(self, norm: Step) -> int | None:
        if norm.function not in _NORMS or _NORMS[norm.function](*norm.args[5:])[0] or norm.args[3] is None:
            return None
        x, out = norm.args[0], norm.outputs[0]
        if not isinstance(x, Slot) or out is None or x.storage in self.touched or self.uses[x.number] != 1:
            return None
        if any(slot is not None and slot.number in self.uses for slot in norm.outputs[1:]) or x.stride != out.stride:
            return None
        position = self.made.get(x.number)
        return position if position is not None and _is_layer(self.tape.steps[position]) else None

    def _merged(self, layer: Step, norm: Step) -> list[Step]:
        steps: list[Step] = []

        def do(function: Any, *args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(x, Slot) for x in args):
                return function(*args, **kwargs)
            shape = torch.broadcast_shapes(*(tuple(x.shape) for x in args if isinstance(x, Slot | Tensor)))
            kinds = [x.dtype for x in args if isinstance(x, Slot | Tensor)]
            kind = kwargs.get("dtype") or max(kinds, key=lambda dtype: dtype.itemsize)
            stride = tuple(torch.empty(shape, device="meta").stride())
            out = Slot(next(self.numbers), tuple(shape), stride, kind, next(self.storages))
            steps.append(Step(function, args, kwargs, (out,), True))
            return out

        gamma, beta, mean, variance = norm.args[1:5]
        epsilon = _NORMS[norm.function](*norm.args[5:])[1]
        scale = do(aten.rsqrt.default, do(aten.add.Tensor, variance, epsilon))
        scale = scale if gamma is None else do(aten.mul.Tensor, gamma, scale)
        shift = do(aten.neg.default, do(aten.mul.Tensor, mean, scale))
        shift = shift if beta is None else do(aten.add.Tensor, beta, shift)
        x, weight, bias = _parts(layer)
        shift = shift if bias is None else do(aten.add.Tensor, do(aten.mul.Tensor, bias, scale), shift)
        convolves = layer.function is aten.convolution.default
        wide = self._unsqueezed(steps, scale, len(weight.shape)) if convolves else scale
        scaled = do(aten.mul.Tensor, weight, wide)
        if scaled.dtype != weight.dtype:  # norms are in float32 where layers are in half precision
            scaled, shift = (do(aten._to_copy.default, t, dtype=weight.dtype) for t in (scaled, shift))
        args = (x, scaled, shift, *layer.args[3:]) if convolves else (shift, x, scaled)
        function = layer.function if convolves else aten.addmm.default
        steps.append(Step(function, args, {}, norm.outputs[:1], True))
        return steps

    def _unsqueezed(self, steps: list[Step], scale: Any, dims: int) -> Any:
        """The factors with length 1 along every axis of a convolution's weight but the first."""
        shape = [scale.shape[0], *[1] * (dims - 1)]
        if isinstance(scale, Tensor):
            return scale.view(shape)
        stride = tuple(torch.empty(shape, device="meta").stride())
        out = Slot(next(self.numbers), tuple(shape), stride, scale.dtype, scale.storage)
        steps.append(Step(aten.view.default, (scale, shape), {}, (out,), True))
        return out


def fold_batch_norm(tape: Tape) -> Tape:
    """The same evaluation with fewer passes over the activations, equal up to rounding."""
    return Folding(tape).folded()


def _is_layer(step: Step) -> bool:
    if step.function is aten.convolution.default:
        return not step.args[6] and not step.kwargs  # a transposed one has its outputs on the second axis
    return step.function in (aten.addmm.default, aten.mm.default) and not step.kwargs


def _parts(layer: Step) -> tuple[Any, Any, Any]:
    """(input, weight, bias or None) of a layer."""
    if layer.function is aten.addmm.default:
        return layer.args[1], layer.args[2], layer.args[0]
    return (*layer.args[:2], None) if layer.function is aten.mm.default else layer.args[:3]


def _slots(tape: Tape) -> list[Slot]:
    made = [slot for step in tape.steps for slot in step.outputs if slot]
    return [*tape.arguments, *made]
