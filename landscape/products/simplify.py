"""Shorter tapes with the same outcome: what a compiler would find first, for tapes that run uncompiled.

Each pass takes steps and gives steps. Steps that write into memory, and all that share that memory, are left
as they are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from landscape.products.tape import Slot, Step, Tape
from landscape.products.trees import leaves, mapped

aten = torch.ops.aten


def simplify(tape: Tape) -> Tape:
    """Drop steps that do nothing or that nobody needs, merge equal ones, evaluate what is constant."""
    tape = _rewritten(tape)
    tape = _without_copies(tape)
    return without_unneeded(tape)


def fuse(tape: Tape) -> Tape:
    """Products and sums in one step (addcmul, addmm, baddbmm), and results written over operands no longer needed."""
    return _in_place(without_unneeded(_merged_sums(tape)))


def _touched(tape: Tape) -> set[int]:
    """Storages that some step writes into."""
    return {storage for step in tape.steps for storage in step.mutates}


def _swap(tree: Any, names: dict[int, Any]) -> Any:
    return mapped(lambda x: names.get(x.number, x) if isinstance(x, Slot) else x, tree) if names else tree


def _with(tape: Tape, steps: Sequence[Step], names: dict[int, Any]) -> Tape:
    return replace(tape, steps=steps, result=names.get(tape.result.number, tape.result))


# -- one pass: names of equal tensors, and rules for single steps ---------------------------------------


def _without_copies(tape: Tape) -> Tape:
    """Rename the outputs of steps that change nothing, or that repeat an earlier step, to what they equal."""
    touched, names, seen = _touched(tape), {}, {}
    kept: list[Step] = []
    for step in tape.steps:
        args, kwargs = _swap(step.args, names), _swap(step.kwargs, names)
        step = replace(step, args=args, kwargs=kwargs)
        free = not step.mutates and not any(o and o.storage in touched for o in step.outputs)
        free = free and not any(slot.storage in touched for slot in step.inputs)
        if free and step.single:
            equal = _equal(step, tape.zeros)
            if equal is not None:
                names[step.outputs[0].number] = equal  # type: ignore[union-attr]
                continue
        if free:
            key = _key(step)
            if key in seen:
                for mine, theirs in zip(step.outputs, seen[key].outputs, strict=True):
                    if mine and theirs:
                        names[mine.number] = theirs
                continue
            seen[key] = step
        kept.append(step)
    return _with(tape, kept, names)


_SAME_IF_SHAPE = {
    aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.reshape.default,
    aten._to_copy.default, aten.alias.default, aten.detach.default, aten.to.dtype_layout,
}  # fmt: skip


def _equal(step: Step, zeros: frozenset[int]) -> Slot | None:
    """The slot that a step's output equals in values, layout and type, if there is one."""
    out = step.outputs[0]
    if out is None:
        return None
    if step.function in _SAME_IF_SHAPE and isinstance(step.args[0], Slot) and _alike(step.args[0], out):
        return step.args[0]
    if step.function in (aten.add.Tensor, aten.sub.Tensor) and len(step.args) == 2:
        a, b = step.args
        if isinstance(a, Slot) and id(b) in zeros and _alike(a, out):
            return a
        if step.function is aten.add.Tensor and not step.kwargs and isinstance(b, Slot) and id(a) in zeros:
            return b if _alike(b, out) else None
    return None


def _alike(a: Slot, b: Slot) -> bool:
    return a.shape == b.shape and a.stride == b.stride and a.dtype == b.dtype


def _key(step: Step) -> tuple[Any, ...]:
    found = tuple(
        ("slot", x.number) if isinstance(x, Slot) else ("tensor", id(x)) if isinstance(x, Tensor) else (type(x), x)
        for x in leaves((step.args, sorted(step.kwargs.items())))
    )
    shape = tuple(len(a) if isinstance(a, list | tuple) else -1 for a in step.args)
    return step.function, found, shape


def without_unneeded(tape: Tape) -> Tape:
    """Only the steps on which the result depends."""
    wanted, memory, kept = {tape.result.number}, {tape.result.storage}, []
    touched = _touched(tape)
    for step in reversed(tape.steps):
        writes = any(storage in memory for storage in step.mutates)
        if writes or any(o and o.number in wanted for o in step.outputs):
            kept.append(step)
            for slot in step.inputs:
                wanted.add(slot.number)
                if slot.storage in touched:
                    memory.add(slot.storage)
    return replace(tape, steps=kept[::-1])


# -- rules that use what is constant --------------------------------------------------------------------


def _rewritten(tape: Tape) -> Tape:
    """gelu′ and the like at a constant point: evaluated once, so that a multiplication is left."""
    rules = {aten.gelu_backward.default, aten.silu_backward.default}
    steps = []
    for step in tape.steps:
        gradient, *rest = step.args if step.args else (None,)
        if step.function in rules and isinstance(gradient, Slot) and all(isinstance(r, Tensor) for r in rest):
            with torch.no_grad():
                slope = step.function(torch.ones_like(rest[0]), *rest, **step.kwargs)
            step = Step(aten.mul.Tensor, (gradient, slope), {}, step.outputs, True)
        steps.append(step)
    return replace(tape, steps=steps)


# -- fewer passes through memory ------------------------------------------------------------------------


def _uses(tape: Tape) -> dict[int, int]:
    count: dict[int, int] = {tape.result.number: 1}
    for step in tape.steps:
        for slot in step.inputs:
            count[slot.number] = count.get(slot.number, 0) + 1
    return count


def _merged_sums(tape: Tape) -> Tape:
    """a·b + c as addcmul, A·B + C as addmm or baddbmm, where the product has no other use."""
    uses, touched = _uses(tape), _touched(tape)
    made = {s.outputs[0].number: (i, s) for i, s in enumerate(tape.steps) if s.single and s.outputs[0]}
    steps: list[Step | None] = list(tape.steps)
    for i, step in enumerate(tape.steps):
        if step.function is not aten.add.Tensor or step.kwargs or len(step.args) != 2:
            continue
        for product, other in (step.args, step.args[::-1]):
            found = made.get(product.number) if isinstance(product, Slot) else None
            if found is None or uses[product.number] != 1 or product.storage in touched or steps[found[0]] is None:
                continue
            j, source = found
            fused = _fused(source, other, step)
            if fused is None or (isinstance(other, Slot) and other.storage in touched):
                continue
            if any(slot.storage in touched for slot in source.inputs):
                continue
            steps[j], steps[i] = None, fused
            made[step.outputs[0].number] = (i, fused)  # type: ignore[union-attr]
            break
    return replace(tape, steps=[s for s in steps if s is not None])


def _fused(source: Step, other: Any, target: Step) -> Step | None:
    out = target.outputs[0]
    if out is None or not isinstance(other, Slot | Tensor) or other.dtype != out.dtype:
        return None
    factors = source.args[:2]
    if not all(isinstance(x, Slot | Tensor) and x.dtype == out.dtype for x in factors):
        return None
    if source.function not in _WITH_SUM or tuple(other.shape) != out.shape:
        return None
    return Step(_WITH_SUM[source.function], (other, *factors), {}, target.outputs, True)


_WITH_SUM: dict[Any, Any] = {
    aten.mul.Tensor: aten.addcmul.default, aten.mm.default: aten.addmm.default, aten.bmm.default: aten.baddbmm.default,
}  # fmt: skip


_OVERWRITING: dict[Any, Any] = {
    aten.add.Tensor: aten.add_.Tensor, aten.sub.Tensor: aten.sub_.Tensor, aten.mul.Tensor: aten.mul_.Tensor,
    aten.mul.Scalar: aten.mul_.Scalar, aten.div.Tensor: aten.div_.Tensor, aten.div.Scalar: aten.div_.Scalar,
    aten.addcmul.default: aten.addcmul_.default, aten.addmm.default: aten.addmm_.default,
    aten.baddbmm.default: aten.baddbmm_.default, aten.relu.default: aten.relu_.default,
}  # fmt: skip


def _in_place(tape: Tape) -> Tape:
    """Write a result over its first operand when nothing needs that operand any more: fresh memory is slow."""
    last = {slot.storage: len(tape.steps) for slot in (*tape.arguments, tape.result)}
    for i, step in enumerate(tape.steps):
        for slot in step.inputs:
            last[slot.storage] = max(last.get(slot.storage, -1), i)
    touched, names = _touched(tape), {}
    owner: dict[int, int] = {}
    steps: list[Step] = []

    def storage(slot: Slot) -> int:
        return owner.get(slot.storage, slot.storage)

    for i, step in enumerate(tape.steps):
        step = replace(step, args=_swap(step.args, names), kwargs=_swap(step.kwargs, names))
        out = step.outputs[0]
        if step.function in _OVERWRITING and out is not None and out.storage not in touched:
            args = step.args
            if step.function in (aten.add.Tensor, aten.mul.Tensor) and not step.kwargs and not _free(args[0], out):
                args = (args[1], args[0], *args[2:])
            first = args[0]
            others = [x for x in leaves(args[1:]) if isinstance(x, Slot)]
            if (
                isinstance(first, Slot)
                and _free(first, out)
                and first.storage not in touched
                and last.get(storage(first), 0) <= i
                and all(storage(x) != storage(first) for x in others)
            ):
                root = storage(first)
                owner[out.storage] = root
                last[root] = max(last[root], last.get(out.storage, i))
                step = Step(_OVERWRITING[step.function], args, step.kwargs, (out,), True)
        steps.append(step)
    return replace(tape, steps=steps)


def _free(x: Any, out: Slot) -> bool:
    return isinstance(x, Slot) and _alike(x, out) and x.dense
