"""Steps that a CPU does faster in another way, with the same outcome up to rounding.

Kernels along a short last axis, such as ten classes, are not vectorised: log-softmax along columns took a tenth of the
time, and counting hits there a half. A bias added by the matrix product cost more than one added afterwards.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from landscape.evaluation.stages import uses
from landscape.products.simplify import without_unneeded
from landscape.products.tape import Slot, Step, Tape

aten = torch.ops.aten

_NARROW = 16
"""Numbers in a vector register."""

_SUM = 2
"""What PyTorch calls the reduction to a sum."""


def faster_on_cpu(tape: Tape) -> Tape:
    """The tape with such steps replaced."""
    return _Rewriting(tape).done()


class _Rewriting:
    def __init__(self, tape: Tape):
        self.tape, self.uses = tape, uses(tape.steps, tape.result)
        self.made = {slot.number: step for step in tape.steps for slot in step.outputs if slot}
        self.numbers = count(1 + max(self.made, default=0) + max(slot.number for slot in tape.arguments))
        self.columns: dict[int, Slot] = {}
        self.steps: list[Step] = []

    def done(self) -> Tape:
        for step in self.tape.steps:
            self.steps.append(self._replaced(step))
        return without_unneeded(replace(self.tape, steps=self.steps))

    def _replaced(self, step: Step) -> Step:
        function, args = step.function, tuple(step.args)
        if function is aten.addmm.default and not step.kwargs and len(args[0].shape) == 1:
            return replace(step, function=_product_plus_bias)
        if function is aten.nll_loss_forward.default and args[2] is None and args[3] == _SUM and args[4] < 0:
            softmax, unread = self._by(args[0], aten._log_softmax.default), not self._read(step.outputs[1])
            if softmax is not None and unread and len(args[1].shape) == 1 and _narrow(*softmax.args[:2]):
                inputs = (self._columns(softmax.args[0]), self._places(args[1]))
                return Step(_summed_cross_entropy, inputs, {}, step.outputs[:1], True)
        if function is aten.sum.default and len(args) == 1:
            equal = self._by(args[0], aten.eq.Tensor)
            largest = self._by(equal.args[0], aten.argmax.default) if equal is not None else None
            if equal is not None and largest is not None and len(largest.args) == 2 and _narrow(*largest.args):
                inputs = (self._columns(largest.args[0]), self._places(equal.args[1]))
                return replace(step, function=_hits, args=inputs)
        return step

    def _by(self, x: Any, function: Any) -> Step | None:
        """The step that made x, if it is of this function."""
        step = self.made.get(x.number) if isinstance(x, Slot) else None
        return step if step is not None and step.function is function else None

    def _read(self, slot: Slot | None) -> bool:
        return slot is not None and slot.number in self.uses

    def _columns(self, x: Slot) -> Slot:
        """x with its last axis first, contiguous; made once."""
        if x.number not in self.columns:
            self.columns[x.number] = self._added(_turned, x, like=x)
        return self.columns[x.number]

    def _places(self, targets: Slot) -> Slot:
        """What `_places` makes of targets; made once."""
        if targets.number not in self.columns:
            self.columns[targets.number] = self._added(_places, targets, like=targets)
        return self.columns[targets.number]

    def _added(self, function: Callable[..., Any], *args: Any, like: Slot) -> Slot:
        number = next(self.numbers)
        out = Slot(number, like.shape[::-1], like.stride, like.dtype, -number)
        self.steps.append(Step(function, args, {}, (out,), True))
        return out


def _narrow(x: Any, axis: int, *_: Any) -> bool:
    return isinstance(x, Slot) and len(x.shape) == 2 and x.shape[1] < _NARROW and axis in (1, -1)


def _product_plus_bias(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(x, weight).add_(bias)


def _turned(x: Tensor) -> Tensor:
    return x.t().contiguous()


def _places(targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """Targets as rows to gather, and which of them are classes, None where all are."""
    kept = targets >= 0
    return targets.clamp_min(0)[None], None if bool(kept.all()) else kept


def _summed_cross_entropy(columns: Tensor, places: tuple[Tensor, Tensor | None]) -> Tensor:
    rows, kept = places
    found = torch.log_softmax(columns, 0).gather(0, rows)
    return -(found if kept is None else found[0][kept]).sum()


def _hits(columns: Tensor, places: tuple[Tensor, Tensor | None]) -> Tensor:
    """Σ [the first of the largest outputs is the target]; without ties that is: the target's output is the largest."""
    rows, kept = places
    best = columns.amax(0)
    if int((columns == best).count_nonzero()) == len(best):
        found = columns.gather(0, rows)[0] == best
    else:
        found = columns.t().argmax(1) == rows[0]
    return (found if kept is None else found & kept).count_nonzero()
