"""Steps that a CPU does faster in another way, with the same outcome up to rounding.

Kernels along a short last axis, such as ten classes, are not vectorised: softmax along columns took a tenth of the
time, and counting hits there a half. Matrix products that lead there are given in columns too (`columns`), which
spares the turning and makes the last of them faster. Loss and hits share the largest output. A bias added
by the matrix product cost more than one added afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from landscape.evaluation.columns import columns_of, in_columns, product_plus_bias
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
    tape = _Rewriting(tape).done()
    return replace(tape, steps=in_columns(tape.steps))


class _Rewriting:
    def __init__(self, tape: Tape):
        self.tape, self.uses = tape, uses(tape.steps, tape.result)
        self.made = {slot.number: step for step in tape.steps for slot in step.outputs if slot}
        self.numbers = count(1 + max(self.made, default=0) + max(slot.number for slot in tape.arguments))
        self.added: dict[Any, Slot] = {}
        self.steps: list[Step] = []

    def done(self) -> Tape:
        for step in self.tape.steps:
            self.steps.append(self._replaced(step))
        return without_unneeded(replace(self.tape, steps=self.steps))

    def _replaced(self, step: Step) -> Step:
        function, args = step.function, tuple(step.args)
        if function is aten.addmm.default and not step.kwargs and len(args[0].shape) == 1:
            return replace(step, function=product_plus_bias)
        if function is aten.nll_loss_forward.default and args[2] is None and args[3] == _SUM and args[4] < 0:
            softmax, unread = self._by(args[0], aten._log_softmax.default), not self._read(step.outputs[1])
            if softmax is not None and unread and len(args[1].shape) == 1 and _narrow(*softmax.args[:2]):
                scores = self._made(_scores, self._columns(softmax.args[0]), self._made(_places, args[1]))
                return Step(_summed_cross_entropy, (scores,), {}, step.outputs[:1], True)
        if function is aten.sum.default and len(args) == 1:
            equal = self._by(args[0], aten.eq.Tensor)
            largest = self._by(equal.args[0], aten.argmax.default) if equal is not None else None
            if equal is not None and largest is not None and len(largest.args) == 2 and _narrow(*largest.args):
                scores = self._made(_scores, self._columns(largest.args[0]), self._made(_places, equal.args[1]))
                return replace(step, function=_hits, args=(scores,))
        if function is aten.stack.default and len(args) == 1 and step.outputs == (self.tape.result,):
            copies = [self._by(x, aten._to_copy.default) for x in args[0]]
            if all(len(x.shape) == 0 for x in args[0]):
                sources = tuple(x if made is None else made.args[0] for x, made in zip(args[0], copies, strict=True))
                return replace(step, function=_numbers, args=sources)
        return step

    def _by(self, x: Any, function: Any) -> Step | None:
        """The step that made x, if it is of this function."""
        step = self.made.get(x.number) if isinstance(x, Slot) else None
        return step if step is not None and step.function is function else None

    def _read(self, slot: Slot | None) -> bool:
        return slot is not None and slot.number in self.uses

    def _columns(self, x: Slot) -> Slot:
        """x with its last axis first, contiguous."""
        return self._made(columns_of, x)

    def _made(self, function: Callable[..., Any], *args: Slot) -> Slot:
        """The outcome of a step that is put before the one at hand; a second one like it is not needed."""
        key = (function, *(slot.number for slot in args))
        if key not in self.added:
            like, number = args[0], next(self.numbers)
            self.added[key] = Slot(number, like.shape[::-1], like.stride, like.dtype, -number)
            self.steps.append(Step(function, args, {}, (self.added[key],), True))
        return self.added[key]


def _narrow(x: Any, axis: int, *_: Any) -> bool:
    return isinstance(x, Slot) and len(x.shape) == 2 and x.shape[1] < _NARROW and axis in (1, -1)


def _places(targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Targets (0 where they are no class), where they are in columns, and which are classes, None where all are."""
    kept, rows = targets >= 0, targets.clamp_min(0)
    places = rows * len(rows) + torch.arange(len(rows))
    return rows, places, None if bool(kept.all()) else kept


def _numbers(*found: Tensor) -> list[float]:
    return [float(x) for x in found]


@dataclass
class _Scores:
    """Of outputs (classes, n): the largest and the target's of each, and all of them less the largest."""

    columns: Tensor
    rows: Tensor
    kept: Tensor | None
    best: Tensor
    own: Tensor
    shifted: Tensor


def _scores(columns: Tensor, places: tuple[Tensor, Tensor, Tensor | None]) -> _Scores:
    rows, flat, kept = places
    best = columns.amax(0)
    return _Scores(columns, rows, kept, best, columns.take(flat), columns - best)


def _summed_cross_entropy(scores: _Scores) -> Tensor:
    """Σ log Σ_c exp(z_c − z_max) + z_max − z_target."""
    found = scores.shifted.exp().sum(0).log_().add_(scores.best.sub(scores.own))
    return (found if scores.kept is None else found[scores.kept]).sum()


def _hits(scores: _Scores) -> Tensor:
    """Σ [the first of the largest outputs is the target]; without ties that is: the target's output is the largest."""
    if scores.shifted.numel() - int(scores.shifted.count_nonzero()) == len(scores.best):
        found = scores.own == scores.best
    else:
        found = scores.columns.t().argmax(1) == scores.rows
    return (found if scores.kept is None else found & scores.kept).count_nonzero()
