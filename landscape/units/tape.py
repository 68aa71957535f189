"""One run of a model, with every activation's elements labelled by the hidden unit that they belong to.

Each tensor of the run has a shadow of its shape that holds, for every element, the node (`ties`) of its unit:
operations that only move numbers do to the shadow what they do to the tensor, and others tie nodes by rules. So
nothing about the architecture is written down, and any eager model can be followed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from landscape.units.operations import Operations
from landscape.units.ties import Ties

Rule = Callable[["Tape", str, Any, tuple, dict, Any], None]


@dataclass(frozen=True, eq=False)
class Appearance:
    """Units in a tensor that an operation reads or writes.

    operation: its number in the run. leaf: the tensor's in `tree_leaves((args, kwargs, result))`.
    """

    operation: int
    leaf: int
    labels: Tensor


class Tape(Operations):
    """Inside, operations on tensors that descend from `leaves` (parameters, buffers, by name) tie their units.

    roles: for each axis of a leaf that was used, "out" where it produces units, "in" where it consumes them.
    A shadow is a float64 tensor on the CPU, None where no element belongs to a unit.
    """

    def __init__(self, leaves: Mapping[str, Tensor], rules: Mapping[str, Rule]):
        super().__init__()
        self.ties = Ties()
        self.rules = rules
        self.leaves = {id(leaf): (name, tuple(range(leaf.dim()))) for name, leaf in leaves.items()}
        self.shapes = {name: leaf.shape for name, leaf in leaves.items()}
        self.axes: dict[tuple[str, int], Tensor] = {}
        self.roles: dict[tuple[str, int], set[str]] = {}
        self._shadows: dict[int, Tensor | None] = {}
        self._alive: list[Any] = list(leaves.values())  # so that no identity is used twice
        self._at_hand: list[Any] = []
        self._noted: dict[int, Appearance] = {}

    def see(self, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
        """Apply the operation's rule when it concerns units."""
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if outputs or name == "setitem":
            self._alive += outputs
            self._at_hand = tree_leaves((args, kwargs, result))
            if any(self.concerns(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)):
                self.rules.get(name, unknown)(self, name, func, args, kwargs, result)

    def concerns(self, x: Tensor) -> bool:
        """Whether units or leaves are in this tensor."""
        return id(x) in self.leaves or self._shadows.get(id(x)) is not None

    # -- shadows -----------------------------------------------------------------------------------

    def labels(self, x: Any) -> Tensor | None:
        """The shadow of a tensor; of a leaf, its last axis with more than one entry, the others being fixed."""
        if not isinstance(x, Tensor):
            return None
        if id(x) not in self.leaves:
            return self._shadows.get(id(x))
        _, dims = self.leaves[id(x)]
        wide = [axis for axis in range(x.dim()) if x.shape[axis] > 1]
        for axis in wide[:-1]:
            self.ties.fix(self.axis(x, axis), "an axis of a parameter that is used as a whole")
        if not wide:
            return None
        shape = [x.shape[axis] if axis == wide[-1] else 1 for axis in range(len(dims))]
        return self.axis(x, wide[-1], "out").view(shape).expand(x.shape)

    def label(self, x: Tensor, labels: Tensor | None) -> None:
        """Give a result its shadow, or None."""
        if labels is not None and labels.shape != x.shape:
            raise ValueError(f"a shadow of shape {tuple(labels.shape)} for a tensor of {tuple(x.shape)}")
        if id(x) not in self.leaves:  # an operation in place returned a leaf as it was
            self._shadows[id(x)] = labels

    def note(self, x: Any) -> None:
        """Note that the operation at hand reads or writes the units in this tensor; only the first time it is met."""
        if id(x) not in self.leaves and (labels := self.labels(x)) is not None:
            leaf = next(i for i, given in enumerate(self._at_hand) if given is x)
            self._noted.setdefault(id(x), Appearance(self.number, leaf, labels))

    @property
    def appearances(self) -> tuple["Appearance", ...]:
        """All that was noted, in the order of the run."""
        return tuple(self._noted.values())

    # -- leaves ------------------------------------------------------------------------------------

    def is_leaf(self, x: Any, dims: int | None = None) -> TypeGuard[Tensor]:
        """Whether x is a leaf, of so many axes."""
        return isinstance(x, Tensor) and id(x) in self.leaves and dims in (None, x.dim())

    def axis(self, x: Tensor, axis: int, role: str = "") -> Tensor:
        """The nodes of one axis of a leaf, the same at each use."""
        name, dims = self.leaves[id(x)]
        key = name, dims[axis]
        if key not in self.axes:
            self.axes[key] = torch.from_numpy(self.ties.fresh(self.shapes[name][key[1]])).double()
        self.roles.setdefault(key, set()).update({role} - {""})
        return self.axes[key]

    def renamed(self, x: Tensor, result: Tensor, transposed: bool = False) -> None:
        """`result` is the leaf x, with its axes in the opposite order if `transposed`."""
        name, dims = self.leaves[id(x)]
        self.leaves[id(result)] = name, dims[::-1] if transposed else dims

    def fix(self, x: Any, reason: str, place: bool = True, scale: bool = True) -> None:
        """Fix every unit in the tensor, and a leaf along all its axes."""
        if self.is_leaf(x):
            for axis in range(x.dim()):
                self.ties.fix(self.axis(x, axis), reason, place, scale)
        elif (labels := self.labels(x)) is not None:
            self.ties.fix(labels, reason, place, scale)


def unknown(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """The rule for everything that has none: what goes in stays as it is, what comes out are no units."""
    for x in tree_leaves((args, kwargs)):
        if isinstance(x, Tensor):
            tape.fix(x, f"used by {name}, which is not followed")
    for x in tree_leaves(result):
        if isinstance(x, Tensor):
            tape.label(x, None)


def bound(args: tuple, kwargs: dict, *names: str) -> list[Any]:
    """The arguments of these names, in order; None where one was not given."""
    given = dict(zip(names, args, strict=False)) | {k: v for k, v in kwargs.items() if k in names}
    return [given.get(name) for name in names]
