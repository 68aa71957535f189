"""Groups of hidden units of a network, found by running it once: where each unit is, and what may be done to it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from landscape.kernels import twice_differentiable
from landscape.parameter_names import tied_names
from landscape.units.elementwise import ELEMENTWISE
from landscape.units.layers import LAYERS, LOOKED_UP
from landscape.units.norms import NORMS
from landscape.units.tape import Tape
from landscape.units.ties import FIXED, Solved

OUTPUT = "output of the network"


@dataclass(frozen=True)
class Place:
    """Where the units of a group are in one tensor of the network's state.

    tensor: its name. axis: along which index[u] (units, entries) lists the entries of unit u, in one order for all
    units: one row of a weight, or the block of columns that a flattened channel became. exponent: the tensor takes
    a factor α of the unit to this power, 1 where it produces units, -1 where it consumes them, 0 where there is no
    such factor. role: "out", "in", both as "in out", or "mean" and "variance" of batch norm.
    """

    tensor: str
    axis: int
    index: np.ndarray
    exponent: int
    role: str


@dataclass(frozen=True)
class Group:
    """Units with the same places. name: of the weight that produces them, with the first row if not all are."""

    name: str
    places: tuple[Place, ...]

    @property
    def size(self) -> int:
        """How many units."""
        return len(self.places[0].index)


@dataclass(frozen=True)
class Family:
    """Groups whose units move together: as `blocks` blocks of equal size in each group, such as attention's heads.

    Blocks may change places as wholes, in all groups at once, and units within their block of their group.
    """

    groups: tuple[Group, ...]
    blocks: int = 1

    @property
    def name(self) -> str:
        """That of its first group."""
        return self.groups[0].name


@dataclass(frozen=True)
class Units:
    """The hidden units of a network.

    permutable: groups whose units may change places with one another, in all their places at once. rescalable:
    groups in which each unit may be multiplied by α > 0 where it is produced and divided by α where it is consumed.
    normalised: groups of which batch norm's running statistics absorb the factor α. The same unit can be in one of
    the first and in one of the others. left_out: (kind, weight, reason), kind being "permutation" or "rescaling",
    for weights whose outputs are hidden but in no group.
    """

    permutable: tuple[Group, ...] = ()
    rescalable: tuple[Group, ...] = ()
    normalised: tuple[Group, ...] = ()
    left_out: tuple[tuple[str, str, str], ...] = ()

    @property
    def families(self) -> tuple[Family, ...]:
        """All permutations that are known: the groups in `permutable`."""
        return tuple(Family((group,)) for group in self.permutable)


def units_of(model: nn.Module, inputs: Any) -> Units:
    """The hidden units of `model`, by a run on a few examples; inputs as `landscape.problem.Problem` takes them.

    The model is used as it is (call `eval()` for running statistics) and left as it was; its weights do not matter.
    What is not understood is left out. Nothing is verified here: `landscape.units.transform` does.
    """
    names = set(model.state_dict())
    state = {k: p.detach().clone() for k, p in model.named_parameters()}
    buffers = {k: b.clone() for k, b in model.named_buffers()}
    leaves = state | {k: b for k, b in buffers.items() if k in names and b.is_floating_point() and b.dim()}
    tape = Tape(leaves, {**ELEMENTWISE, **LAYERS, **NORMS})
    keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
    places = () if keywords else tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    with torch.no_grad(), twice_differentiable(model), tape:
        tied = {name: state[first] for name, first in tied_names(model).items()}
        outputs = functional_call(model, {**state, **tied, **buffers}, places, keywords, tie_weights=False)
    for x in tree_leaves(outputs):
        if isinstance(x, Tensor):
            tape.fix(x, OUTPUT)
    return _Sorted(tape, list(leaves)).units()


@dataclass
class _Unit:
    """Entries by (tensor, axis, exponent), and what else makes units different."""

    entries: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)
    contexts: frozenset[int] = frozenset()

    def signature(self) -> Any:
        return tuple(sorted((key, len(entries)) for key, entries in self.entries.items())), self.contexts


class _Sorted:
    """The tape's components, as units and groups of units with equal places."""

    def __init__(self, tape: Tape, order: Sequence[str]):
        self.tape, self.order, self.solved = tape, order, tape.ties.solve()
        self.rank = {name: i for i, name in enumerate(order)}

    def units(self) -> Units:
        solved = self.solved
        permutable = self._collected(solved.places, solved.place_reasons, np.zeros_like(solved.signs), solved)
        scaled = self._collected(solved.scales, solved.scale_reasons, self._oriented(), None)
        exchanged = self._grouped(u for u in permutable if len(u.entries) > 1)
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
        return Units(tuple(g for g in exchanged if g.size > 1), tuple(plain), tuple(absorbed), tuple(left))

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
    ) -> list[_Unit]:
        found: dict[int, _Unit] = {}
        for name, axis in self._axes():
            for entry, node in enumerate(self._nodes(name, axis)):
                component = int(components[node])
                if component in fixed or component == int(components[FIXED]):
                    continue
                unit = found.setdefault(component, _Unit())
                unit.entries.setdefault((self.rank[name], axis, int(exponents[node])), []).append(entry)
        if solved is not None:
            for component, unit in found.items():
                unit.contexts = frozenset(solved.contexts.get(component, ()))
        return list(found.values())

    def _grouped(self, units: Iterable[_Unit]) -> list[Group]:
        groups: dict[Any, list[_Unit]] = {}
        for unit in units:
            groups.setdefault(unit.signature(), []).append(unit)
        return [self._group(members) for members in groups.values()]

    def _group(self, members: list[_Unit]) -> Group:
        places = tuple(
            Place(
                self.order[tensor], axis, np.array([unit.entries[tensor, axis, exponent] for unit in members]),
                exponent, " ".join(sorted(self.tape.roles[self.order[tensor], axis])),
            )
            for tensor, axis, exponent in sorted(members[0].entries)
        )  # fmt: skip
        first = next((p for p in places if "out" in p.role and p.exponent >= 0), places[0])
        whole = first.index.size == self.tape.shapes[first.tensor][first.axis]
        return Group(first.tensor if whole else f"{first.tensor}[{first.index.min()}]", places)

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
