"""Groups of hidden units of a network: where each unit is, and what may be done to it."""

from dataclasses import dataclass

import numpy as np


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
class Site:
    """Where the units of a group appear in a run of the network: in a tensor of its `operation`-th operation.

    leaf: which, in `tree_leaves((args, kwargs, result))`. axes: of that tensor, along which units differ, together so
    many features. index (units, entries): the features of each unit, in one order for all units.
    """

    operation: int
    leaf: int
    axes: tuple[int, ...]
    features: int
    index: np.ndarray


@dataclass(frozen=True)
class Group:
    """Units with the same places. name: of the weight that produces them, with the first row if not all are.

    sites: where a run shows them, for groups that may be permuted.
    """

    name: str
    places: tuple[Place, ...]
    sites: tuple[Site, ...] = ()

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
    for weights whose outputs are hidden but in no group. families: all permutations that are known, each unit in one
    family: the groups in `permutable`, those of heads that may change places put together.
    """

    permutable: tuple[Group, ...] = ()
    rescalable: tuple[Group, ...] = ()
    normalised: tuple[Group, ...] = ()
    left_out: tuple[tuple[str, str, str], ...] = ()
    families: tuple[Family, ...] = ()
