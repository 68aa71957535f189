"""Layers that act on the data itself: their outputs are linear in the coordinates, so they are formed once.

At w = Σ_k c_k·d_k (the origin among the d_k with coefficient 1) a layer that is linear in its weights gives
Σ_k c_k·(its output with the weights that d_k has): per point a sum of K + 1 arrays instead of a matrix product.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.evaluation.stages import DATA, VIEWS, dependence
from landscape.products.code import program
from landscape.products.tape import Slot, Step, Tape

aten = torch.ops.aten

_STRUCTURAL = VIEWS | {aten._unsafe_view.default, aten.clone.default, aten.reshape.default}
"""Operations that move the weights and change none."""

_WORTH = 12
"""Terms per output and array from which on a sum of arrays was faster than the layer (a core with AVX-512)."""


@dataclass(frozen=True)
class Layer:
    """A step that is linear in the weights: its input, and its parameters."""

    step: Step
    x: Slot
    parameters: tuple[Slot, ...]

    @property
    def terms(self) -> int:
        """How many products are summed in one of its outputs."""
        weight = max(self.parameters, key=lambda slot: len(slot.shape))
        return math.prod(weight.shape) // max(1, self.out.shape[1])

    @property
    def out(self) -> Slot:
        return next(slot for slot in self.step.outputs if slot)

    def at(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Its output for this input and these parameters."""
        swap = {self.x.number: x, **{slot.number: p for slot, p in zip(self.parameters, parameters, strict=True)}}
        return self.step.function(*(swap[a.number] if isinstance(a, Slot) else a for a in self.step.args))


class OnData:
    """The layers of a tape whose input depends on the data alone and whose parameters are pieces of `weights`.

    points: how many of the tape's arguments belong to the point.
    """

    def __init__(self, tape: Tape, points: int, weights: Slot):
        self.tape, self.points, self.weights = tape, points, weights
        of, linear = dependence(tape, points), {weights.number}
        self.pieces: list[Step] = []
        self.layers: list[Layer] = []
        for step in tape.steps:
            if step.function in _STRUCTURAL and step.inputs and all(slot.number in linear for slot in step.inputs):
                linear |= {slot.number for slot in step.outputs if slot}
                self.pieces.append(step)
                continue
            x, parameters = _arguments(step)
            if x is None or of[x.number] != DATA or step.kwargs or not all(isinstance(p, Slot) for p in parameters):
                continue
            if all(p.number in linear for p in parameters) and all(o is None or o.dense for o in step.outputs):
                self.layers.append(Layer(step, x, parameters))

    def formed_once(self, coordinates: Slot, basis: Sequence[Vector], limit: float) -> Tape:
        """The tape with those layers replaced of which each output sums many more terms than there are d_k.

        coordinates: the argument c, K numbers. basis: the d_k, K vectors like the weights. limit: bytes the arrays of
        one part of the data may take. No trial decides, so that another run gives the same bits.
        """
        groups: dict[int, list[Step]] = {}
        number = 1 + max(slot.number for step in self.tape.steps for slot in step.outputs if slot)
        for layer in self.layers:
            parameters = program(self.pieces, (self.weights,), layer.parameters)
            once = Once(layer, [parameters(d) for d in basis])
            size = math.prod(layer.out.shape)
            if layer.terms < _WORTH * len(basis) or len(basis) * layer.out.dtype.itemsize * size > limit:
                continue
            arrays = Slot(number, (len(basis), size), (), layer.out.dtype, -number)
            groups[id(layer.step)] = [
                Step(once.arrays, (layer.x,), {}, (arrays,), True),
                replace(layer.step, function=once.combined, args=(arrays, coordinates)),
            ]
            number += 1
        return replace(self.tape, steps=[s for step in self.tape.steps for s in groups.get(id(step), [step])])


class Once:
    """What a layer gives for each vector of the basis, and the combination of these."""

    def __init__(self, layer: Layer, parameters: Sequence[Sequence[Tensor]]):
        self.layer, self.parameters = layer, parameters
        self.turned = False
        """Whether it gives a matrix transposed."""

    def arrays(self, x: Tensor) -> "Arrays":
        outputs = [self.layer.at(x, own) for own in self.parameters]
        return Arrays([y.t().contiguous() for y in outputs] if self.turned else outputs)

    def combined(self, arrays: "Arrays", coordinates: Sequence[float] | Tensor) -> Tensor:
        return arrays.combined(coordinates)


@dataclass
class Arrays:
    """Σ_k c_k·a_k; the sum of all terms but the last is kept, since along a row of a grid only the last one changes."""

    terms: list[Tensor]
    _before: list[float] | None = None
    _base: Tensor | None = None

    def combined(self, coordinates: Sequence[float] | Tensor) -> Tensor:
        if isinstance(coordinates, Tensor):
            return self._of_tensor(coordinates)
        *before, last = coordinates
        if not before:
            return self.terms[0] * last
        if before != self._before or self._base is None:
            self._before, self._base = before, self.terms[0] * before[0]
            for term, coordinate in zip(self.terms[1:], before[1:], strict=False):
                self._base.add_(term, alpha=coordinate)
        return torch.add(self._base, self.terms[-1], alpha=last)

    def _of_tensor(self, coordinates: Float[Tensor, " terms"]) -> Tensor:
        """The same for coordinates that may stand for those of many points."""
        first, *rest = coordinates.unbind()
        total = self.terms[0] * first
        for term, coordinate in zip(self.terms[1:], rest, strict=True):
            total = torch.addcmul(total, term, coordinate)
        return total


def _arguments(step: Step) -> tuple[Slot | None, tuple]:
    """Input and parameters of a matrix product or convolution, (None, ()) of anything else."""
    known: dict[Any, tuple[int, tuple[int, ...]]] = {
        aten.addmm.default: (1, (0, 2)), aten.mm.default: (0, (1,)), aten.convolution.default: (0, (1, 2)),
    }  # fmt: skip
    place, own = known.get(step.function, (0, ()))
    if not own or not isinstance(step.args[place], Slot):
        return None, ()
    return step.args[place], tuple(step.args[i] for i in own if step.args[i] is not None)
