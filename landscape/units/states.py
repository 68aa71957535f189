"""A problem's network as tensors by name, and whether a transformation of them keeps its function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from landscape.aliases import Vector
from landscape.problem import Problem

State = dict[str, Tensor]


@runtime_checkable
class _Named(Protocol):
    @property
    def name(self) -> str: ...


G = TypeVar("G", bound=_Named)


@dataclass(frozen=True, eq=False)
class Kept(Generic[G]):
    """A problem at its transformed network. groups: transformed. dropped: (group, reason). change: of the outputs."""

    problem: Problem
    groups: tuple[G, ...]
    dropped: tuple[tuple[str, str], ...]
    change: float


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative change of outputs and loss that counts as none."""
    return 1e-10 if dtype == torch.float64 else 1e-5


def keeping_the_function(
    problem: Problem, found: Sequence[G], moved: Callable[[Mapping[str, Tensor], Sequence[G]], State]
) -> Kept[G]:
    """The problem with those of the groups transformed that verify: outputs and loss change by at most `tolerance`.

    moved(state, groups) is the state with these groups transformed. Groups are tried all together and, when that
    does not verify, each alone and those that do together; with none of them the problem is as it was.
    """

    def attempt(groups: Sequence[G]) -> tuple[Problem, float]:
        twin = problem_at(problem, moved(state_of(problem, problem.weights), groups))
        return twin, _change(problem, twin)

    def verified(change: float) -> bool:
        return change <= tolerance(problem.weights.dtype)  # NaN is not

    kept, dropped = list(found), []
    twin, change = attempt(kept)
    if not verified(change):
        alone = [(group, attempt([group])[1]) for group in found]
        kept = [group for group, by in alone if verified(by)]
        dropped = [(group.name, f"outputs changed by {by:.1e}") for group, by in alone if not verified(by)]
        twin, change = attempt(kept)
    if not verified(change):  # each alone is right, and all together are not
        dropped += [(group.name, f"together with others outputs changed by {change:.1e}") for group in kept]
        kept = []
        twin, change = attempt(kept)
    return Kept(twin, tuple(kept), tuple(dropped), change)


def order_after(problem: Problem, moved: Callable[[Mapping[str, Tensor]], State]) -> Tensor:
    """Which weight each weight of the flat vector was before a permutation."""
    before = problem.named(problem.weights)
    numbers = torch.arange(problem.weights.numel()).split([x.numel() for x in before.values()])
    state = {k: x.cpu() for k, x in state_of(problem, problem.weights).items()}
    after = moved(state | {k: n.view(before[k].shape) for k, n in zip(before, numbers, strict=True)})
    return torch.cat([after[name].reshape(-1) for name in before])


def state_of(problem: Problem, w: Vector) -> State:
    """Parameters and buffers by name, each once, the problem's own parameters from w."""
    known = {**dict(problem.model.named_parameters()), **dict(problem.model.named_buffers())}
    return {k: x.detach() for k, x in known.items()} | problem.named(w)


def problem_at(problem: Problem, state: Mapping[str, Tensor]) -> Problem:
    """The problem at this state, shared tensors being the same under each of their names."""
    model = problem.model
    first = {id(x): name for source in (model.named_parameters(), model.named_buffers()) for name, x in source}
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    whole = model.state_dict()
    return problem.with_state({**whole, **{name: state[first[id(x)]] for name, x in every if name in whole}})


def _change(old: Problem, new: Problem) -> float:
    """Largest change of an output relative to the largest output, or relative change of the loss if that is larger.

    Both are as large as they can be while nothing is known to agree: a NaN stays one.
    """
    difference = largest = total = moved = torch.zeros((), dtype=torch.float64, device=old.weights.device)
    pairs = zip(old.outputs_and_losses(old.weights), new.outputs_and_losses(new.weights), strict=True)
    for (a, loss), (b, again) in pairs:
        difference = torch.maximum(difference, (a - b).detach().abs().max())
        largest = torch.maximum(largest, a.detach().abs().max())
        total, moved = total + loss.detach(), moved + again.detach()
    of_outputs = difference / largest.clamp_min(torch.finfo(torch.float64).tiny)
    of_loss = (moved - total).abs() / total.abs().clamp_min(largest)
    return float(torch.maximum(of_outputs, of_loss)) if np.isfinite(float(largest)) else float("nan")
