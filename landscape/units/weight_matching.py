"""Units of two networks matched by their weights (Ainsworth et al. 2023, arXiv 2209.04836, section 3.2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.methods.matching import Order, ascend, best_orders
from landscape.units.groups import Family, Group
from landscape.units.matches import Match, Matching, arranged
from landscape.units.states import State
from landscape.units.transform import permute


@dataclass(frozen=True, eq=False)
class _Arranged:
    """The other network's tensors with its units in some order, and these orders by family and group."""

    state: State
    orders: tuple[tuple[Order, ...], ...]


def by_weights(
    reference: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    families: Sequence[Family],
    restarts: Iterable[Iterable[Sequence[int]]],
) -> Matching:
    """The permutations P that maximise ⟨w, P w'⟩ over the tensors that the families touch, in float64.

    reference, other: parameters by name. restarts: for each ascent its rounds, each the families in the order of
    their turns; the best ascent counts. A family is matched exactly while the others stay; where it is on both axes of
    a tensor (recurrent or tied weights) the objective is quadratic in it, and its linearisation is matched.
    """
    touched = {place.tensor for family in families for group in family.groups for place in group.places}
    mine, theirs = ({k: x.double() for k, x in given.items() if k in touched} for given in (reference, other))

    def objective(state: Mapping[str, Tensor]) -> float:
        return float(sum(((x * state[k]).sum() for k, x in mine.items()), torch.zeros(())))

    def step(at: _Arranged, k: int) -> _Arranged:
        family, state = families[k], dict(at.state)
        turns = best_orders([_similarity(mine, state, group) for group in family.groups], family.blocks)
        for group, turn in zip(family.groups, turns, strict=True):
            permute(state, group, torch.from_numpy(turn))
        moved = tuple(order[turn] for order, turn in zip(at.orders[k], turns, strict=True))
        return _Arranged(state, (*at.orders[:k], moved, *at.orders[k + 1 :]))

    start = _Arranged(theirs, tuple(tuple(np.arange(g.size) for g in family.groups) for family in families))
    sizes = [sum(float(x.square().sum()) for x in tensors.values()) for tensors in (mine, theirs)]
    resolution = 1e-12 * (sizes[0] * sizes[1]) ** 0.5
    ends = [ascend(start, step, lambda at: objective(at.state), rounds, resolution) for rounds in restarts]
    best = max(ends, key=lambda end: end.objective)
    matches = tuple(Match(family, orders) for family, orders in zip(families, best.state.orders, strict=True))
    return Matching(matches, lambda kept: objective(arranged(theirs, kept)), best.rounds)


def _similarity(a: Mapping[str, Tensor], b: Mapping[str, Tensor], group: Group) -> np.ndarray:
    """⟨weights of unit u in a, weights of unit v in b⟩ for all u and v (n, n), over all places of the group."""
    total = torch.zeros(group.size, group.size, dtype=torch.float64)
    for place in group.places:
        if place.tensor in a:
            index = torch.from_numpy(place.index).reshape(-1).to(a[place.tensor].device)
            x, y = (
                t[place.tensor].index_select(place.axis, index).movedim(place.axis, 0).reshape(group.size, -1)
                for t in (a, b)
            )
            total += (x @ y.T).cpu()
    return total.numpy()
