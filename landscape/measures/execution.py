"""One forward pass of a model, watched: which modules are called, in which order, on tensors of which shapes."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.aliases import Vector
from landscape.batches import first_rows
from landscape.kernels import twice_differentiable
from landscape.problem import Problem

PROBE_ROWS = 2
"""Examples of the watched pass: two, so that an axis of examples is not taken for one of length 1."""


@dataclass(frozen=True)
class Call:
    """A module without children was called on a tensor of shape `inputs` (of its first argument)."""

    name: str
    module: nn.Module
    inputs: tuple[int, ...]


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on one batch's inputs: a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def some_inputs(problem: Problem, w: Vector) -> Any:
    """Inputs of the first `PROBE_ROWS` examples."""
    return first_rows(next(iter(problem.passes(w))), PROBE_ROWS)[0]


def calls(problem: Problem, w: Vector) -> list[Call]:
    """The calls of one forward pass at w, in order."""
    model, found = problem.model_at(w), []

    def hook_of(name: str) -> Any:
        def hook(module: nn.Module, places: Any, keywords: Any, outputs: Any) -> None:
            tensors = [x for x in (*places, *keywords.values()) if isinstance(x, Tensor)]
            found.append(Call(name, module, tuple(tensors[0].shape) if tensors else ()))

        return hook

    with ExitStack() as hooks, torch.no_grad(), twice_differentiable(model):
        for name, module in model.named_modules():
            if not any(module.children()):
                hooks.callback(module.register_forward_hook(hook_of(name), with_kwargs=True).remove)
        call(model, some_inputs(problem, w))
    return found
