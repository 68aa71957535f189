"""What matching finds: for each family of units the order in which another network has them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.methods.matching import Order
from landscape.units.groups import Family
from landscape.units.states import State
from landscape.units.transform import permute


@dataclass(frozen=True, eq=False)
class Match:
    """A family, and for each of its groups the order: unit u of the reference is unit order[u] of the other."""

    family: Family
    orders: tuple[Order, ...]

    @property
    def name(self) -> str:
        """The family's."""
        return self.family.name


@dataclass(frozen=True, eq=False)
class Matching:
    """The matches found.

    objective(matches): what was maximised, with these matches alone. rounds: of the search. left_out: (family,
    reason) for those that could not be matched.
    """

    matches: tuple[Match, ...]
    objective: Callable[[Sequence[Match]], float]
    rounds: int
    left_out: tuple[tuple[str, str], ...] = ()


def arranged(state: Mapping[str, Tensor], matches: Sequence[Match]) -> State:
    """The state with the units of these families in their new orders; tensors that are not in it are no matter."""
    new = dict(state)
    for match in matches:
        for group, order in zip(match.family.groups, match.orders, strict=True):
            permute(new, group, torch.from_numpy(order))
    return new
