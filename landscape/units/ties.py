"""What must be transformed together: hidden units as nodes of a graph, tied by the operations that use them.

Node 0 (`FIXED`) stands for what may not be transformed at all; a label of -1 (`ZERO`) is the number zero, which
every rescaling and every exchange leaves alone. Two kinds of ties:

    same place    two nodes are one unit: a permutation takes both along;
    same scale    log α of one node is ± that of the other: a factor α on the one asks for α^±1 on the other.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

FIXED, ZERO = 0, -1


@dataclass(frozen=True)
class Solved:
    """Connected components, by node. places: component of the first kind of ties; scales, signs: of the second.

    place_reasons, scale_reasons: why a component is fixed, for those that are. contexts: for each component of
    places the sums, such as one attention head's, that its unit takes part in; owned: those that are its own, if it
    is a head.
    """

    places: np.ndarray
    scales: np.ndarray
    signs: np.ndarray
    place_reasons: dict[int, str]
    scale_reasons: dict[int, str]
    contexts: dict[int, set[int]]
    owned: dict[int, set[int]]


@dataclass
class Ties:
    """The graph, while it grows."""

    count: int = 1
    _places: list[np.ndarray] = field(default_factory=list)
    _scales: list[np.ndarray] = field(default_factory=list)
    _fixed_places: list[tuple[np.ndarray, str]] = field(default_factory=list)
    _fixed_scales: list[tuple[np.ndarray, str]] = field(default_factory=list)
    _contexts: list[np.ndarray] = field(default_factory=list)
    _owners: list[np.ndarray] = field(default_factory=list)
    _context_count: int = 0
    _unscaled: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> np.ndarray:
        """The numbers of `count` new nodes."""
        self.count += count
        return np.arange(self.count - count, self.count)

    def fix(self, labels: Tensor, reason: str, place: bool = True, scale: bool = True) -> None:
        """Leave the units with these labels where they are, or unscaled, or both."""
        nodes = np.unique(_numbers(labels))
        nodes = nodes[nodes > FIXED]
        if len(nodes):
            self._fixed_places += [(nodes, reason)] * place
            self._fixed_scales += [(nodes, reason)] * scale
            self._unscaled.update(nodes.tolist() if scale else ())

    def unscaled(self, labels: Tensor) -> bool:
        """Whether all units with these labels have been left unscaled by name; ties may do so to others."""
        return self._unscaled.issuperset(set(_numbers(labels).tolist()) - {FIXED, ZERO})

    def tie(self, a: Tensor, b: Tensor, reason: str, scale: int = 0) -> None:
        """Element by element one unit, with log α of b equal to `scale` (±1) times that of a; 0: no such tie.

        reason: why a unit is fixed that is tied to what is fixed.
        """
        pairs = np.unique(np.stack([_numbers(a), _numbers(b)], 1), axis=0)
        pairs = pairs[(pairs != ZERO).all(1)]
        free = (pairs > FIXED).all(1)
        alone = pairs[~free].max(1, initial=FIXED)
        alone = alone[alone > FIXED]
        if len(alone):
            self._fixed_places.append((alone, reason))
            self._fixed_scales += [(alone, reason)] * bool(scale)
        self._places.append(pairs[free])
        if scale:
            self._scales.append(np.column_stack([pairs[free], np.full(free.sum(), scale)]))

    def heads(self, labels: Tensor) -> Tensor | None:
        """New nodes, one for each different row of `labels` (…, units); None when there is only one."""
        rows, which = torch.unique(labels.reshape(-1, labels.shape[-1]), dim=0, return_inverse=True)
        if len(rows) == 1:
            return None
        nodes = torch.from_numpy(self.fresh(len(rows))).double()[which].view(labels.shape[:-1])
        self.fix(nodes, "a head has no scale", place=False)
        return nodes

    def context(self, labels: Tensor, heads: Tensor | None = None) -> None:
        """Each row of `labels` (…, units) lists units that are summed with one another and with no others.

        heads: for each row the node of the head whose sum it is.
        """
        if heads is not None:
            shape = torch.broadcast_shapes(labels.shape[:-1], heads.shape)
            labels, heads = labels.expand(*shape, -1), heads.expand(shape)
        rows = labels.reshape(-1, labels.shape[-1])
        numbers = np.arange(self._context_count, self._context_count + len(rows))
        self._context_count += len(rows)
        pairs = np.stack([_numbers(rows), np.repeat(numbers, rows.shape[1])], 1)
        self._contexts.append(np.unique(pairs, axis=0))
        if heads is not None:
            self._owners.append(np.stack([_numbers(heads), numbers], 1))

    def solve(self) -> Solved:
        """The components. A scale that is tied to its own inverse is fixed."""
        n = self.count
        places = _components(n, np.concatenate([np.zeros((0, 2), int), *self._places]))
        signed = np.concatenate([np.zeros((0, 3), int), *self._scales])
        a, b, opposite = signed[:, 0], signed[:, 1], signed[:, 2] < 0
        # Every node twice, as α and as 1/α: the upper half of the graph mirrors the lower one.
        edges = np.concatenate([np.stack([a, b + n * opposite], 1), np.stack([a + n, b + n * ~opposite], 1)])
        both = _components(2 * n, edges)
        upright, mirrored = both[:n], both[n:]
        scales, signs = np.minimum(upright, mirrored), np.where(upright <= mirrored, 1, -1)
        reasons = {int(c): "its factor would be its own inverse (shared weights)" for c in scales[upright == mirrored]}
        fixed = _first_reasons(places, self._fixed_places)
        scale_reasons = _first_reasons(scales, self._fixed_scales) | reasons
        contexts, owned = (_numbers_by_component(places, pairs) for pairs in (self._contexts, self._owners))
        return Solved(places, scales, signs, fixed, scale_reasons, contexts, owned)


def _numbers(labels: Tensor) -> np.ndarray:
    return labels.reshape(-1).numpy().astype(np.int64)


def _components(n: int, edges: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def _first_reasons(components: np.ndarray, fixed: list[tuple[np.ndarray, str]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for nodes, reason in fixed:
        for component in np.unique(components[nodes]).tolist():
            found.setdefault(component, reason)
    return found


def _numbers_by_component(components: np.ndarray, pairs: list[np.ndarray]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for node, number in np.concatenate([np.zeros((0, 2), int), *pairs]).tolist():
        if node > FIXED:
            found.setdefault(int(components[node]), set()).add(number)
    return found
