"""What a tape recorded, sorted into units, and these into groups with equal places."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.units.elementwise import core
from landscape.units.groups import Family, Group, Place, Site, Units
from landscape.units.heads import Heads, like_heads
from landscape.units.layers import LOOKED_UP
from landscape.units.tape import Appearance, Tape
from landscape.units.ties import FIXED, Solved
from landscape.units.unit import Unit

OUTPUT = "output of the network"


def sorted_units(tape: Tape, parameters: Sequence[str], buffers: Sequence[str]) -> Units:
    """The units that a tape recorded; parameters and buffers: names of its leaves."""
    return _Sorted(tape, parameters, buffers).units()


class _Sorted:
    """The tape's components, as units and groups of units with equal places."""

    def __init__(self, tape: Tape, parameters: Sequence[str], buffers: Sequence[str]):
        self.tape, self.order, self.solved = tape, (*parameters, *buffers), tape.ties.solve()
        self.rank = {name: i for i, name in enumerate(self.order)}
        statistics = {name for (name, _), roles in tape.roles.items() if roles & {"mean", "variance"}}
        self.constants = {self.rank[name] for name in buffers if name not in statistics}

    def units(self) -> Units:
        solved = self.solved
        permutable = self._collected(solved.places, solved.place_reasons, np.zeros_like(solved.signs), solved)
        scaled = self._collected(solved.scales, solved.scale_reasons, self._oriented(), None)
        features = self._features()
        several = [u for u in permutable if sum(map(len, u.entries.values())) > 1]
        exchanged = self._grouped(several, features)
        groups = self._grouped(scaled)
        roles = [{place.role for place in group.places} for group in groups]
        signs = [{place.exponent for place in group.places} for group in groups]
        plain = [g for g, r, s in zip(groups, roles, signs, strict=True) if "variance" not in r and s == {1, -1}]
        absorbed = [g for g, r, s in zip(groups, roles, signs, strict=True) if "variance" in r and s == {1}]
        mixed = [g for g, r, s in zip(groups, roles, signs, strict=True) if "variance" in r and s == {1, -1}]
        left = [
            *self._left_out("permutation", solved.places, solved.place_reasons),
            *self._left_out("rescaling", solved.scales, solved.scale_reasons),
            *(("permutation", g.name, "no other unit has the same places") for g in exchanged if g.size == 1),
            *(("rescaling", g.name, "normalised by batch norm and used without") for g in mixed),
        ]
        heads = like_heads(permutable, solved, self.constants)
        families = (*self._alone(several, heads, features), *self._together(heads, features))
        return Units(tuple(g for g in exchanged if g.size > 1), tuple(plain), tuple(absorbed), tuple(left), families)

    def _together(self, heads: Sequence[Heads], features: Sequence[Any]) -> list[Family]:
        """A family for each set of heads, with a group for each kind of units in them."""
        return [
            Family(tuple(self._group(list(itertools.chain(*kind)), features) for kind in kinds), len(kinds[0]))
            for kinds in heads
        ]

    def _alone(self, units: Sequence[Unit], heads: Sequence[Heads], features: Sequence[Any]) -> list[Family]:
        """A family for each group of the units that are in no head."""
        inside = {unit.component for kinds in heads for kind in kinds for members in kind for unit in members}
        groups = self._grouped((unit for unit in units if unit.component not in inside), features)
        return [Family((group,)) for group in groups if group.size > 1]

    def _oriented(self) -> np.ndarray:
        """Signs such that the first tensor that produces a component's units has +1."""
        signs, turned = self.solved.signs, {}
        for name, axis in self._axes("out"):
            for node in self._nodes(name, axis):
                turned.setdefault(int(self.solved.scales[node]), int(signs[node]))
        return signs * np.array([turned.get(int(c), 1) for c in self.solved.scales])

    def _axes(self, role: str = "") -> list[tuple[str, int]]:
        found = [key for key in self.tape.axes if not role or role in self.tape.roles[key]]
        return sorted(found, key=lambda key: (self.rank[key[0]], key[1]))

    def _nodes(self, name: str, axis: int) -> list[int]:
        return self.tape.axes[name, axis].long().tolist()

    def _collected(
        self, components: np.ndarray, fixed: Mapping[int, str], exponents: np.ndarray, solved: Solved | None
    ) -> list[Unit]:
        found: dict[int, Unit] = {}
        for name, axis in self._axes():
            for entry, node in enumerate(self._nodes(name, axis)):
                component = int(components[node])
                if component in fixed or component == int(components[FIXED]):
                    continue
                unit = found.setdefault(component, Unit(component))
                unit.entries.setdefault((self.rank[name], axis, int(exponents[node])), []).append(entry)
        if solved is not None:
            for component, unit in found.items():
                unit.contexts = frozenset(solved.contexts.get(component, ()))
        return list(found.values())

    def _features(self) -> list[tuple[Appearance, tuple[int, ...], int, dict[int, list[int]]]]:
        """Of each appearance the axes along which units differ, how many features these are, and each component's."""
        found = []
        for seen in self.tape.appearances:
            labels = core(seen.labels)[0]
            features: dict[int, list[int]] = {}
            for feature, node in enumerate(labels.reshape(-1).long().tolist()):
                if node > FIXED:
                    features.setdefault(int(self.solved.places[node]), []).append(feature)
            axes = tuple(axis for axis, length in enumerate(labels.shape) if length > 1)
            found.append((seen, axes, labels.numel(), features))
        return found

    def _grouped(self, units: Iterable[Unit], appearances: Sequence[Any] = ()) -> list[Group]:
        groups: dict[Any, list[Unit]] = {}
        for unit in units:
            groups.setdefault(unit.signature(), []).append(unit)
        return [self._group(members, appearances) for members in groups.values()]

    def _group(self, members: list[Unit], appearances: Sequence[Any]) -> Group:
        places = tuple(
            Place(
                self.order[tensor], axis, np.array([unit.entries[tensor, axis, exponent] for unit in members]),
                exponent, " ".join(sorted(self.tape.roles[self.order[tensor], axis])),
            )
            for tensor, axis, exponent in sorted(members[0].entries)
        )  # fmt: skip
        first = next((p for p in places if "out" in p.role and p.exponent >= 0), places[0])
        whole = first.index.size == self.tape.shapes[first.tensor][first.axis]
        return Group(
            first.tensor if whole else f"{first.tensor}[{first.index.min()}]", places, _sites(members, appearances)
        )

    def _is_hidden(self, node: int) -> bool:
        return self.solved.place_reasons.get(int(self.solved.places[node])) != OUTPUT

    def _left_out(self, kind: str, components: np.ndarray, reasons: Mapping[int, str]) -> list[tuple[str, str, str]]:
        """The matrices whose outputs are hidden and fixed, and those used by operations that are not followed."""
        used = {name for name, axis in self._axes() if self.tape.roles[name, axis]}
        hidden = [key for key in self._axes() if "out" in self.tape.roles[key] or key[0] not in used]
        found: list[tuple[str, str, str]] = []
        for name, axis in hidden:
            if len(self.tape.shapes[name]) > 1:
                nodes = [node for node in self._nodes(name, axis) if self._is_hidden(node)]
                why = {reasons.get(int(components[node]), OUTPUT) for node in nodes}
                found += [(kind, name, reason) for reason in sorted(why - {OUTPUT, LOOKED_UP})]
        return list(dict.fromkeys(found))


def _sites(members: Sequence[Unit], appearances: Sequence[Any]) -> tuple[Site, ...]:
    """Where all the members appear, each in as many features as the others."""
    found = []
    for seen, axes, count, features in appearances:
        rows = [features.get(unit.component, []) for unit in members]
        if rows[0] and len({len(row) for row in rows}) == 1:
            found.append(Site(seen.operation, seen.leaf, axes, count, np.array(rows)))
    return tuple(found)
