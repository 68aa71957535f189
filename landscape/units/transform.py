"""Transformations of a network that leave its function the same, each verified on the problem's data.

relu: αW₁, αb₁ and W₂/α for every unit between two layers of which everything in between is positively homogeneous
(Dinh et al. 2017, arXiv 1703.04933, section 3; the affine weights of a norm count as a layer). relu-layer: the same
with one factor for all units of a layer.
batch-norm: αW and αb before a batch norm with running statistics, mean αμ and variance α²(σ² + ε) − ε, exactly.
permutation: units of a group change places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape import seeds
from landscape.aliases import Vector
from landscape.batch_norms import with_statistics
from landscape.batches import first_rows
from landscape.errors import illegal
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.units.groups import Group, Units
from landscape.units.states import State, keeping_the_function, order_after, problem_at, state_of
from landscape.units.tracing import units_of

KINDS = ("relu-layer", "relu", "batch-norm", "permutation")
_ROWS = 2


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

    found = keeping_the_function(problem, of_kind(units, kind), moved)

    def carry(v: Vector) -> Vector:
        return problem_at(problem, moved(state_of(problem, v), found.groups)).weights

    order = order_after(problem, lambda state: moved(state, found.groups)) if kind == "permutation" else None
    order = order if found.groups else None
    return Transformed(kind, found.problem, found.groups, found.dropped, found.change, carry, order)


def permute(state: State, group: Group, order: Tensor) -> None:
    """Unit u takes the places of the group that unit order[u] had; tensors are replaced, not changed.

    Places in tensors that the state has not are no matter.
    """
    for place in group.places:
        if place.tensor not in state:
            continue
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
