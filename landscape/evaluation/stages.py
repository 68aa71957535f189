"""A recorded evaluation in three stages: what depends on the weights alone, on the data alone, and on both.

The first is run once per point, the second once per part of the data, and only the third for each of their pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from landscape.products.code import function, program
from landscape.products.simplify import fuse
from landscape.products.tape import RecordingError, Slot, Step, Tape

aten = torch.ops.aten

POINT, DATA = 1, 2


@dataclass(frozen=True, eq=False)
class Stages:
    """point(*point arguments) and data(*data arguments) give what body(*of point, *of data) needs for the result."""

    point: Callable[..., tuple[Tensor, ...]]
    data: Callable[..., tuple[Tensor, ...]]
    body: Callable[..., Tensor]
    views: bool
    """Whether the first stage gives nothing but views of its arguments."""


VIEWS = {
    aten.split_with_sizes.default, aten.split.Tensor, aten.view.default, aten.t.default, aten.transpose.int,
    aten.permute.default, aten.slice.Tensor, aten.select.int, aten.expand.default, aten.alias.default,
    aten.detach.default, aten.unsqueeze.default, aten.squeeze.dim,
}  # fmt: skip
"""Operations that show the numbers of their argument in another order or shape."""


def dependence(tape: Tape, points: int) -> dict[int, int]:
    """For each slot, by its number, whether it depends on the first `points` arguments, on the others, or on both.

    Memory that is written into counts as depending on both, with all that is read from it. Raises
    `RecordingError` where an argument is written into.
    """
    touched = {storage for step in tape.steps for storage in step.mutates}
    if touched & {slot.storage for slot in tape.arguments}:
        raise RecordingError("an evaluation that writes into its weights or data")
    found = {slot.number: POINT if i < points else DATA for i, slot in enumerate(tape.arguments)}
    for step in tape.steps:
        outputs = [slot for slot in step.outputs if slot]
        both = any(slot.storage in touched for slot in (*step.inputs, *outputs))
        bits = POINT | DATA if both else 0
        for slot in step.inputs:
            bits |= found[slot.number]
        for slot in outputs:
            found[slot.number] = bits
    return found


def staged(tape: Tape, points: int) -> Stages:
    """The stages of a tape whose first `points` arguments belong to the point, the others to the data."""
    of = dependence(tape, points)

    def bits(step: Step) -> int:
        return next(of[slot.number] for slot in step.outputs if slot)

    parts = {kind: [s for s in tape.steps if bits(s) == kind] for kind in (POINT, DATA)}
    rest = [s for s in tape.steps if bits(s) not in (POINT, DATA)]
    needed: dict[int, Slot] = {slot.number: slot for slot in (tape.result, *(s for step in rest for s in step.inputs))}
    made = {slot.number for step in rest for slot in step.outputs if slot}
    given = {kind: [s for n, s in needed.items() if n not in made and of[n] == kind] for kind in (POINT, DATA)}
    body = replace(tape, steps=rest, arguments=(*given[POINT], *given[DATA]))
    return Stages(
        program(parts[POINT], tape.arguments[:points], given[POINT]),
        program(parts[DATA], tape.arguments[points:], given[DATA]),
        function(fuse(body)),
        all(step.function in VIEWS for step in parts[POINT]),
    )


def largest_outputs(tape: Tape, points: int, rows: int) -> int:
    """Bytes per row of the largest tensor of the body, for tapes recorded on so many rows."""
    of = dependence(tape, points)
    both = [slot for step in tape.steps for slot in step.outputs if slot and of[slot.number] == POINT | DATA]
    return max((_bytes(slot) // rows for slot in both), default=1)


def _bytes(slot: Slot) -> int:
    size = slot.dtype.itemsize
    for length in slot.shape:
        size *= length
    return size


def uses(steps: Sequence[Step], result: Slot) -> dict[int, int]:
    """How often each slot is read, the result once more."""
    count = {result.number: 1}
    for step in steps:
        for slot in step.inputs:
            count[slot.number] = count.get(slot.number, 0) + 1
    return count
