"""The base optimisers, and their state as named arrays."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from landscape.errors import illegal
from landscape.spec import TrainSpec


def optimiser(spec: TrainSpec, parameters: Sequence[nn.Parameter]) -> Optimizer:
    """torch's SGD, Adam or AdamW as `spec` says; weight decay is L2 in sgd and adam, decoupled in adamw.

    Raises `InputError` for Nesterov momentum without momentum.
    """
    if spec.optimiser == "sgd":
        if spec.nesterov and spec.momentum == 0:
            raise illegal("momentum", spec.momentum, "above 0 with nesterov", "Set a momentum, or leave nesterov out.")
        return SGD(
            parameters,
            lr=spec.learning_rate,
            momentum=spec.momentum,
            nesterov=spec.nesterov,
            weight_decay=spec.weight_decay,
        )
    kind = Adam if spec.optimiser == "adam" else AdamW
    return kind(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def state_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """Everything the optimiser remembers, by `<index of the parameter>.<its own name>`."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{k}": v for i, values in state.items() for k, v in values.items() if isinstance(v, Tensor)}


def restore_state(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `state_tensors`: afterwards the optimiser goes on as if it had never stopped."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        like = parameters[int(index)].detach()
        if value.shape == like.shape and value.dim():
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)  # in the parameter's memory layout
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
