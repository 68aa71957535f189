"""One network's units put into the order of another's: permutations that keep its function and bring the two close."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from landscape import seeds
from landscape.aliases import Vector
from landscape.errors import InputError
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.spec import AlignSpec
from landscape.units.activation_matching import by_activations
from landscape.units.groups import Units
from landscape.units.matches import Match, Matching, arranged
from landscape.units.states import keeping_the_function, order_after, problem_at, state_of
from landscape.units.transform import units_of_problem
from landscape.units.weight_matching import by_weights

_ROUNDS = 100


@dataclass(frozen=True)
class AlignedGroup:
    """A group of `size` units of which the share `moved` took another place."""

    name: str
    size: int
    moved: float


@dataclass(frozen=True, eq=False)
class Aligned:
    """The other problem with its units in the reference's order; its function is what it was.

    problem: at the permuted weights and buffers. groups: what was matched. objective: before and after, of the
    groups kept: ⟨w, Pw'⟩, or the sum of the correlations of matched units. rounds: of coordinate ascent in the best
    restart, the last without a gain. left_out: (weight, reason) for units that stay. change: of the outputs, the
    largest relative to the largest output, over the other problem's data. order (n,): weight i of the permuted vector
    is what weight order[i] was. carry(v): what the permutation makes of another weight vector (n,) of the problem.
    """

    problem: Problem
    groups: tuple[AlignedGroup, ...]
    objective: tuple[float, float]
    rounds: int
    left_out: tuple[tuple[str, str], ...]
    change: float
    order: Tensor
    carry: Callable[[Vector], Vector]


@full_precision()
def align(
    reference: Problem,
    other: Problem,
    how: str = AlignSpec.how,
    seed: int = AlignSpec.seed,
    examples: int | None = AlignSpec.match_examples,
    restarts: int = AlignSpec.restarts,
) -> Aligned:
    """The other problem with its hidden units permuted to match the reference's.

    how: "weights" maximises ⟨w, Pw'⟩ over the permutations P (Ainsworth et al. 2023, "Git Re-Basin", arXiv
    2209.04836, section 3.2), by coordinate ascent in `restarts` random orders of the groups, of which the best
    counts. "activations" maximises the sum of the correlations of matched units (section 3.1) over the reference's
    data, or its first `examples`. The permutations are those that tracing the reference's network finds
    (`landscape.units`); each is verified on the other problem's data. Raises `InputError` when the two are not of one
    architecture, or not on one device in one dtype.
    """
    AlignSpec(how=how, restarts=restarts, match_examples=examples, seed=seed)  # validates
    check_same_architecture(reference, other)
    units = units_of_problem(reference)
    if how == "weights":
        found = _by_weights(reference, other, units, seed, restarts)
    else:
        found = by_activations(reference, other, units.families, examples)
    kept = keeping_the_function(other, found.matches, arranged)
    stays = [(name, reason) for kind, name, reason in units.left_out if kind == "permutation"]
    return Aligned(
        problem=kept.problem,
        groups=tuple(group for match in kept.groups for group in _groups(match)),
        objective=(found.objective(()), found.objective(kept.groups)),
        rounds=found.rounds,
        left_out=(*stays, *found.left_out, *kept.dropped),
        change=kept.change,
        order=order_after(other, lambda state: arranged(state, kept.groups)),
        carry=lambda v: problem_at(other, arranged(state_of(other, v), kept.groups)).weights,
    )


def _groups(match: Match) -> Iterator[AlignedGroup]:
    for group, order in zip(match.family.groups, match.orders, strict=True):
        yield AlignedGroup(group.name, group.size, float((order != np.arange(group.size)).mean()))


def _by_weights(reference: Problem, other: Problem, units: Units, seed: int, restarts: int) -> Matching:
    names = {name for name, _ in reference.model.named_parameters()}
    mine, theirs = ({k: x for k, x in state_of(p, p.weights).items() if k in names} for p in (reference, other))
    count = len(units.families)

    def rounds(restart: int) -> Iterator[list[int]]:
        for number in range(_ROUNDS):
            yield seeds.permutation(seeds.stream(seed, "align", restart, number), count).tolist()

    return by_weights(mine, theirs, units.families, map(rounds, range(restarts)))


def check_same_architecture(reference: Problem, other: Problem) -> None:
    """Raises `InputError`, naming the first difference, unless parameters and buffers agree in names and shapes.

    Device and dtype must agree, too.
    """
    mine, theirs = ({k: tuple(x.shape) for k, x in p.model.state_dict().items()} for p in (reference, other))
    for name in itertools.chain(mine, theirs):
        if mine.get(name) != theirs.get(name):
            here, there = (shapes.get(name, "absent") for shapes in (mine, theirs))
            raise InputError(
                f"the two networks are not of one architecture: {name} is {here} in the reference and {there} in the "
                "other. Align checkpoints of one network."
            )
    kinds = [f"{p.weights.dtype} on {p.weights.device}" for p in (reference, other)]
    if kinds[0] != kinds[1]:
        raise InputError(f"the reference is in {kinds[0]}, the other in {kinds[1]}. Open both alike.")
