"""The base optimisers, and their state as named arrays."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from landscape.errors import illegal
from landscape.spec import TrainSpec


def optimiser(spec: TrainSpec, parameters: Sequence[nn.Parameter]) -> Optimizer:
    """torch's SGD, Adam or AdamW as `spec` says, each with both kinds of decay.

    l2: λ·w is added to the gradient, after any clipping. weight_decay, decoupled (Loshchilov & Hutter 2019, arXiv
    1711.05101, algorithms 1 and 2): w ← w − lr·λ·w before the step. Parameters without a gradient have neither.

    Raises `InputError` for Nesterov momentum without momentum.
    """
    # torch's own l2 of sgd and adam would be taken at weights that have decayed already; AdamW has no l2.
    by_hand = spec.l2 > 0 and (spec.weight_decay > 0 or spec.optimiser == "adamw")
    l2 = 0.0 if by_hand else spec.l2
    if spec.optimiser == "sgd":
        if spec.nesterov and spec.momentum == 0:
            raise illegal("momentum", spec.momentum, "above 0 with nesterov", "Set a momentum, or leave nesterov out.")
        made: Optimizer = SGD(
            parameters, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov, weight_decay=l2
        )
    elif spec.optimiser == "adam":
        made = Adam(parameters, lr=spec.learning_rate, weight_decay=l2)
    else:
        made = AdamW(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)
    if by_hand:
        made.register_step_pre_hook(partial(_penalise, spec.l2))
    if spec.weight_decay and spec.optimiser != "adamw":
        made.register_step_pre_hook(partial(_decay, spec.weight_decay))
    return made


@torch.no_grad()
def _decay(share: float, optimiser: Optimizer, *_: object) -> None:
    for group in optimiser.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.mul_(1 - group["lr"] * share)


@torch.no_grad()
def _penalise(share: float, optimiser: Optimizer, *_: object) -> None:
    for group in optimiser.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.add_(p, alpha=share)


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
