"""Attention heads that may change places as wholes, found among units that take part in the sums of one head alone."""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from landscape.units.ties import Solved
from landscape.units.unit import Unit


@dataclass(frozen=True)
class _Head:
    """Components of one head's own units and of those in its sums; several heads that share units count as one."""

    own: frozenset[int]
    sums: frozenset[int]
    units: frozenset[int]

    def __add__(self, other: "_Head") -> "_Head":
        return _Head(self.own | other.own, self.sums | other.sums, self.units | other.units)


Heads = list[list[list[Unit]]]
"""Heads that are alike: for each kind of units in them a list of the heads' units."""


def like_heads(units: Sequence[Unit], solved: Solved, constants: Set[int]) -> list[Heads]:
    """Sets of heads that may change places.

    Heads are alike when their units are in equal places and, but for the heads' own sums, in the same sums. Heads
    with units that must stay are left out, and those with numbers of their own in a constant, such as the slope of a
    mask. units: all those that may change places at all. constants: numbers of such tensors.
    """
    components = {unit.component for unit in units}
    alike: dict[Any, list[dict[Any, list[Unit]]]] = {}
    for head in _heads(solved):
        kinds = _kinds(head, units)
        tensors = {tensor for unit in itertools.chain(*kinds.values()) for tensor, *_ in unit.entries}
        if head.units <= components and not tensors & constants:
            key = frozenset((kind, len(members)) for kind, members in kinds.items())
            alike.setdefault(key, []).append(kinds)
    return [[[kinds[kind] for kinds in heads] for kind in heads[0]] for heads in alike.values() if len(heads) > 1]


def _kinds(head: _Head, units: Sequence[Unit]) -> dict[Any, list[Unit]]:
    """The head's units, apart by what keeps them from changing places."""
    kinds: dict[Any, list[Unit]] = {}
    for unit in units:
        if unit.component in head.units | head.own:
            kind = unit.shape(), unit.contexts - head.sums, len(unit.contexts & head.sums)
            kinds.setdefault(kind, []).append(unit)
    return kinds


def _heads(solved: Solved) -> Iterator[_Head]:
    """All heads whose own nodes may move, those with common units joined."""
    members: dict[int, set[int]] = {}
    for component, sums in solved.contexts.items():
        for number in sums:
            members.setdefault(number, set()).add(component)
    joined: list[_Head] = []
    for component, sums in solved.owned.items():
        if component not in solved.place_reasons:
            head = _Head(frozenset({component}), frozenset(sums), _together(members, sums))
            for other in [one for one in joined if one.units & head.units]:
                joined.remove(other)
                head = other + head
            joined.append(head)
    yield from joined


def _together(members: Mapping[int, set[int]], sums: set[int]) -> frozenset[int]:
    return frozenset(component for number in sums for component in members.get(number, ()))
