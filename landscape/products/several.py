"""Products with several vectors in one run of the recorded tape: fewer and larger operations, for small networks.

Where one product is so short that starting its operations costs as much as carrying them out (on a GPU, or with
several threads on a CPU), a batched matrix product of p vectors takes little more time than that of one.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec
from landscape.devices import timed
from landscape.products.code import function
from landscape.products.engines import FAILURES, Folded, checked, same
from landscape.products.simplify import simplify
from landscape.products.tape import Slot, Step, record

Rows = Callable[[Float[Tensor, "p n"]], Float[Tensor, "p n"]]
"""The products of p vectors."""

AT_ONCE = 8
"""Vectors in one run: more were hardly faster on networks of ten thousand weights, and take more memory."""

_WORTH = 0.9
"""Several at once are kept when they take at most this fraction of the time of one after the other."""

_REPEATS = 3

aten = torch.ops.aten

_OWN = 1 << 40
"""Added to the number of a slot to name another one beside it."""


class Several:
    """V (p, n) ↦ the sums over all parts for each row, p fixed; how is found out in the first two calls.

    The first takes the rows one by one and notes the time. The second records the tapes for p rows, checks them
    against `one`, and keeps them when they are faster. parts: the recordings of `one`, whose sum it is, times
    `factor`.
    """

    def __init__(self, one: Matvec, parts: Sequence[Folded], factor: float, device: torch.device):
        self.one, self.parts, self.factor, self.device = one, parts, factor, device
        self.seconds: float | None = None
        self.run: Rows | None = None

    def __call__(self, rows: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
        if self.run is not None:
            return self.run(rows)
        if self.seconds is None:
            self.seconds, images = timed(lambda: self._one_by_one(rows), self.device)
            return images
        images = self._one_by_one(rows)
        self.run = self._tried(rows, images) or self._one_by_one
        return images

    @property
    def at_once(self) -> bool:
        """Whether it was found that all rows at once are faster."""
        return self.run is not None and self.run != self._one_by_one

    def _one_by_one(self, rows: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
        return torch.stack([self.one(row) for row in rows])

    def _tried(self, rows: Float[Tensor, "p n"], images: Float[Tensor, "p n"]) -> Rows | None:
        try:
            with torch.no_grad(), _without_fallbacks():
                runs = [at_once(part, rows) for part in self.parts]

            def together(rows: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
                total = runs[0](rows)
                for run in runs[1:]:
                    total += run(rows)
                return total.mul_(self.factor)

            trials = [timed(lambda: together(rows), self.device) for _ in range(_REPEATS)]
        except (*FAILURES, torch.OutOfMemoryError):
            return None
        faster = self.seconds is not None and min(seconds for seconds, _ in trials) <= _WORTH * self.seconds
        return together if faster and same(trials[-1][1], images) else None


def at_once(part: Folded, rows: Float[Tensor, "p n"]) -> Rows:
    """The recorded product of each row in one run, recorded anew under `torch.func.vmap`; raises as that does."""
    steps = [changed for step in part.tape.steps for changed in _for_rows(step, part.tape.argument)]
    tape, images = record(torch.func.vmap(function(replace(part.tape, steps=steps))), rows)
    return checked(simplify(tape), rows, images)


def _for_rows(step: Step, argument: Slot) -> list[Step]:
    """The step in a form that vmap takes.

    Tensors can have other strides than were recorded, which a view does not take. And memory that is written into
    has to be there once for each row: the copy of a constant becomes a sum with the argument's zeros.
    """
    if step.function is aten.view.default:
        return [replace(step, function=aten.reshape.default)]
    if step.function is aten.clone.default and isinstance(step.args[0], Tensor):
        zero = replace(argument, number=step.outputs[0].number + _OWN, shape=(), stride=(), storage=-1)  # type: ignore[union-attr]
        made = Step(aten.new_zeros.default, (argument, []), {}, (zero,), True)
        return [made, replace(step, function=aten.add.Tensor, args=(step.args[0], zero), kwargs={})]
    return [step]


@contextmanager
def _without_fallbacks() -> Iterator[None]:
    """Operations that torch would carry out row by row under vmap raise `RuntimeError` instead."""
    switch: Any = importlib.import_module("torch._C._functorch")
    before = switch._is_vmap_fallback_enabled()
    switch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        switch._set_vmap_fallback_enabled(before)
