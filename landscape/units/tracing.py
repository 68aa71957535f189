"""Hidden units of a network, found by running it once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from landscape.kernels import twice_differentiable
from landscape.parameter_names import tied_names
from landscape.units.attention import ATTENTION
from landscape.units.elementwise import ELEMENTWISE
from landscape.units.groups import Units
from landscape.units.layers import LAYERS
from landscape.units.norms import NORMS
from landscape.units.operations import Operations
from landscape.units.recurrent import RECURRENT
from landscape.units.sorting import OUTPUT, sorted_units
from landscape.units.tape import Tape


def units_of(model: nn.Module, inputs: Any) -> Units:
    """The hidden units of `model`, by a run on a few examples; inputs as `landscape.problem.Problem` takes them.

    The model is used as it is (call `eval()` for running statistics) and left as it was; its weights do not matter.
    What is not understood is left out. Nothing is verified here: `landscape.units.transform` does.
    """
    names = set(model.state_dict())
    state = {k: p.detach().clone() for k, p in model.named_parameters()}
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    leaves = state | {k: b for k, b in buffers.items() if k in names and b.is_floating_point() and b.dim()}
    tape = Tape(leaves, {**ELEMENTWISE, **LAYERS, **ATTENTION, **NORMS, **RECURRENT})
    outputs = run(model, {**state, **buffers}, inputs, tape)
    for x in tree_leaves(outputs):
        if isinstance(x, Tensor):
            tape.fix(x, OUTPUT)
    return sorted_units(tape, list(state), [name for name in leaves if name not in state])


def run(model: nn.Module, state: Mapping[str, Tensor], inputs: Any, watched: Operations) -> Any:
    """The outputs of the model at this state (parameters and buffers by first name), each operation watched."""
    named = isinstance(inputs, Mapping)
    places = () if named else tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    with torch.no_grad(), twice_differentiable(model), watched:
        tied = {name: state[first] for name, first in tied_names(model).items()}
        return functional_call(model, {**state, **tied}, places, dict(inputs) if named else {}, tie_weights=False)
