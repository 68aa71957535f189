"""Transformations of a network that leave its function the same, each verified on the problem's data.

relu: αW₁, αb₁ and W₂/α for every unit between two layers of which everything in between is positively homogeneous
(Dinh et al. 2017, arXiv 1703.04933, section 3; the affine weights of a norm count as a layer). relu-layer: the same
with one factor for all units of a layer.
batch-norm: αW and αb before a batch norm with running statistics, mean αμ and variance α²(σ² + ε) − ε, exactly.
permutation: units of a group change places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape import seeds
from landscape.aliases import Vector
from landscape.batch_norms import with_statistics
from landscape.batches import first_rows
from landscape.errors import illegal
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.units.groups import Group, Units, units_of

KINDS = ("relu-layer", "relu", "batch-norm", "permutation")
_ROWS = 2
State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Transformed:
    """A problem at a transformed network. change: of its outputs, the largest relative to the largest output.

    groups: transformed. dropped: (group, reason), because the function did not stay the same. carry(v) gives what
    the transformation makes of another weight vector (n,) of the problem, such as the initial one. order (n,): of a
    permutation, weight i is what weight order[i] was.
    """

    kind: str
    problem: Problem
    groups: tuple[Group, ...]
    dropped: tuple[tuple[str, str], ...]
    change: float
    carry: Callable[[Vector], Vector]
    order: Tensor | None = None


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative change of outputs and loss that counts as none."""
    return 1e-10 if dtype == torch.float64 else 1e-5


def units_of_problem(problem: Problem) -> Units:
    """`units_of` the problem's model, in the problem's own mode, on the first of its examples."""
    return units_of(problem.model, first_rows(next(iter(problem.passes(problem.weights))), _ROWS)[0])


def of_kind(units: Units, kind: str) -> tuple[Group, ...]:
    """The groups that transformations of this kind are about."""
    if kind not in KINDS:
        raise illegal("kind", kind, f"one of {', '.join(KINDS)}", "See landscape.units.transform.")
    rescalable = units.rescalable
    return {
        "relu-layer": rescalable,
        "relu": rescalable,
        "batch-norm": units.normalised,
        "permutation": units.permutable,
    }[kind]


@full_precision()
def transformed(problem: Problem, units: Units, kind: str, seed: int = 0, alpha: float | None = None) -> Transformed:
    """The problem with every group of this kind transformed; as it was, with no groups, when none can be.

    alpha: the factor of all units; default for each unit its own power of two, in 1/4 … 4, or in 1 … 4 for batch
    norm, and for each layer 1/4 or 4. A group after whose transformation outputs or loss change by more than
    `tolerance` is dropped.
    """
    if alpha is not None and not (alpha > 0 and (kind != "batch-norm" or alpha >= 1)):
        raise illegal("alpha", alpha, "above 0, and at least 1 for batch norm", "The default is random powers of two.")
    epsilons = _epsilons(problem)
    found = of_kind(units, kind)

    def moved(state: Mapping[str, Tensor], groups: Sequence[Group]) -> State:
        new = dict(state)
        for group in groups:
            rng = seeds.stream(seed, "units", kind, group.name)
            if kind == "permutation":
                permute(new, group, seeds.permutation(rng, group.size))
            else:
                draws = seeds.uniform(rng, 1, torch.empty(group.size, dtype=torch.float64))[0]
                powers = ((draws.abs() if kind == "batch-norm" else draws) * 2.5).round()
                if kind == "relu-layer":
                    powers = torch.full_like(powers, 2.0 if draws[0] > 0 else -2.0)
                rescale(new, group, 2.0**powers if alpha is None else torch.full_like(draws, alpha), epsilons)
        return new

    def attempt(groups: Sequence[Group]) -> tuple[Problem, float]:
        twin = _at(problem, moved(_state(problem, problem.weights), groups))
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

    def carry(v: Vector) -> Vector:
        return _at(problem, moved(_state(problem, v), kept)).weights

    order = _order(problem, lambda state: moved(state, kept)) if kind == "permutation" and kept else None
    return Transformed(kind, twin, tuple(kept), tuple(dropped), change, carry, order)


def _order(problem: Problem, moved: Callable[[Mapping[str, Tensor]], State]) -> Tensor:
    """Which weight each weight of the flat vector was before a permutation."""
    before = problem.named(problem.weights)
    numbers = torch.arange(problem.weights.numel()).split([x.numel() for x in before.values()])
    state = {k: x.cpu() for k, x in _state(problem, problem.weights).items()}
    after = moved(state | {k: n.view(before[k].shape) for k, n in zip(before, numbers, strict=True)})
    return torch.cat([after[name].reshape(-1) for name in before])


def permute(state: State, group: Group, order: Tensor) -> None:
    """Unit u takes the places of the group that unit order[u] had; tensors are replaced, not changed."""
    for place in group.places:
        x, index = state[place.tensor], torch.from_numpy(place.index)
        to, source = index.reshape(-1).to(x.device), index[order].reshape(-1).to(x.device)
        state[place.tensor] = x.index_copy(place.axis, to, x.index_select(place.axis, source))


def rescale(state: State, group: Group, factors: Tensor, epsilons: Mapping[str, float]) -> None:
    """Each unit times its factor (units,) where it is produced, divided by it where it is consumed.

    epsilons: ε of batch norm by the name of its running variance.
    """
    for place in group.places:
        x, index = state[place.tensor], torch.from_numpy(place.index)
        entries = torch.ones(x.shape[place.axis], dtype=torch.float64)
        entries[index.reshape(-1)] = (factors.double() ** place.exponent).repeat_interleave(index.shape[1])
        entries = entries.to(x.device)
        if place.role == "variance":  # α²(σ² + ε) − ε without cancellation
            new = entries.square() * x.double() + (entries.square() - 1) * epsilons[place.tensor]
        else:
            shape = [-1 if axis == place.axis else 1 for axis in range(x.dim())]
            new = x.double() * entries.view(shape)
        state[place.tensor] = new.to(x.dtype)


def _epsilons(problem: Problem) -> dict[str, float]:
    names = {id(b): name for name, b in problem.model.named_buffers()}
    return {names[id(m.running_var)]: m.eps for m in with_statistics(problem.model)}


def _state(problem: Problem, w: Vector) -> State:
    """Parameters and buffers by name, each once, the problem's own parameters from w."""
    known = {**dict(problem.model.named_parameters()), **dict(problem.model.named_buffers())}
    return {k: x.detach() for k, x in known.items()} | problem.named(w)


def _at(problem: Problem, state: Mapping[str, Tensor]) -> Problem:
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
