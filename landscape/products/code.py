"""Tapes as functions: plain Python of one line per step, or a graph for torch's compiler."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from landscape.products.tape import Slot, Step, Tape
from landscape.products.trees import leaves, mapped


def function(tape: Tape) -> Callable[..., Tensor]:
    """The tape as a Python function of its arguments that frees every tensor after its last use."""
    return torch.no_grad()(program(tape.steps, tape.arguments, tape.result))


def program(steps: Sequence[Step], arguments: Sequence[Slot], results: Slot | Sequence[Slot]) -> Callable[..., Any]:
    """Steps as a Python function of the arguments; it returns one tensor, or a tuple of several."""
    wanted = [results] if isinstance(results, Slot) else list(results)
    last = {slot.number: len(steps) for slot in (*arguments, *wanted)}
    for i, step in enumerate(steps):
        for slot in (*step.inputs, *(o for o in step.outputs if o)):
            last[slot.number] = max(last.get(slot.number, -1), i)
    values: dict[str, Any] = {}
    lines = [f"def run({', '.join(f't{slot.number}' for slot in arguments)}):"]
    for i, step in enumerate(steps):
        call = _call(step.function, step.args, step.kwargs, values)
        targets = [f"t{o.number}" if o else "_" for o in step.outputs]
        lines.append(f"    {targets[0] if step.single else ', '.join(targets) + ','} = {call}")
        over = {s.number for s in (*step.inputs, *(o for o in step.outputs if o)) if last[s.number] == i}
        if over:
            lines.append(f"    del {', '.join(f't{number}' for number in sorted(over))}")
    found = [f"t{slot.number}" for slot in wanted]
    lines.append(
        f"    return {found[0] if isinstance(results, Slot) else '(' + ''.join(f'{x}, ' for x in found) + ')'}"
    )
    exec("\n".join(lines), values)  # the text holds names of our making only; everything else is in `values`
    return values["run"]


def _call(function: Any, args: Any, kwargs: Any, values: dict[str, Any]) -> str:
    def text(x: Any) -> str:
        if isinstance(x, Slot):
            return f"t{x.number}"
        if isinstance(x, list | tuple) and any(isinstance(y, Slot) for y in x):
            return "[" + ", ".join(map(text, x)) + "]"
        return _named(x, "c", values)

    given = [text(x) for x in args] + [f"{k}={text(x)}" for k, x in kwargs.items()]
    return f"{_named(function, 'f', values)}({', '.join(given)})"


def _named(x: Any, letter: str, values: dict[str, Any]) -> str:
    name = f"{letter}{id(x)}"
    values[name] = x
    return name


def graph(tape: Tape) -> tuple[fx.GraphModule, list[Tensor]]:
    """The tape as a graph module of (v, *constants), and the constants: one graph serves many batches."""
    g = fx.Graph()
    nodes: dict[int, fx.Node] = {tape.argument.number: g.placeholder("v")}
    constants: dict[int, tuple[fx.Node, Tensor]] = {}
    for step in tape.steps:
        for x in _tensors((step.args, step.kwargs)):
            if id(x) not in constants:
                constants[id(x)] = g.placeholder(f"c{len(constants)}"), x

    def node(x: Any) -> Any:
        if isinstance(x, Slot):
            return nodes[x.number]
        return constants[id(x)][0] if isinstance(x, Tensor) else x

    for step in tape.steps:
        made = g.call_function(step.function, mapped(node, step.args), mapped(node, step.kwargs))
        for i, out in enumerate(step.outputs):
            if out is not None:
                nodes[out.number] = made if step.single else g.call_function(operator.getitem, (made, i))
    g.output(nodes[tape.result.number])
    return fx.GraphModule(torch.nn.Module(), g), [x for _, x in constants.values()]


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in leaves(tree) if isinstance(x, Tensor)]


def constant_bytes(tape: Tape) -> int:
    """Memory that the constants of a tape hold, counting shared memory once."""
    storages = {}
    for step in tape.steps:
        for x in _tensors((step.args, step.kwargs)):
            storages[x.untyped_storage()._cdata] = x.untyped_storage().nbytes()
    return sum(storages.values())
