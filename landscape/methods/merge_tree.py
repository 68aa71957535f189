"""The merge tree of {f ≤ t} as t rises: minima, the saddles at which they join deeper ones, and passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree


@dataclass(frozen=True)
class MergeTree:
    """Branches, deepest first; a branch is the 0-dimensional persistence pair of a minimum and a saddle.

    births, deaths: (k,) values at the minimum and at the saddle where the branch joins an older one; deaths are +∞
    for the lowest minimum, and for others that no path of finite values joins to a lower one. minima, saddles: (k,)
    indices of grid points, saddles −1 where the death is +∞. parents: (k,) the branch that is joined, −1 if none.
    passes: (m, m) the lowest t at which the points asked for lie in one component: the smallest, over all paths, of
    the largest value on the path (+∞ when no path is finite); the diagonal holds the points' own values.
    """

    births: Float[np.ndarray, " k"]
    deaths: Float[np.ndarray, " k"]
    minima: Int[np.ndarray, " k"]
    saddles: Int[np.ndarray, " k"]
    parents: Int[np.ndarray, " k"]
    passes: Float[np.ndarray, "m m"]

    @property
    def persistence(self) -> Float[np.ndarray, " k"]:
        """Death minus birth: how high one must climb from a minimum to get to a lower one."""
        return self.deaths - self.births


def merge_tree(values: Float[np.ndarray, " n"], edges: Int[np.ndarray, "e 2"], points: Sequence[int] = ()) -> MergeTree:
    """Merge tree of a function on the vertices of a graph, linear on its edges; +∞ values are walls.

    Union-find over the edges of a minimum spanning tree, an edge weighing as much as its higher end; when two
    components meet, the one with the higher minimum ends (the elder rule). Equal values are told apart by the index
    of the vertex (simulation of simplicity, Edelsbrunner & Mücke 1990), and pairs of persistence 0, which only
    equal values make, are left out. points: vertices between which the passes are wanted.
    Source: Edelsbrunner & Harer 2010, "Computational Topology", VII.1; Carr, Snoeyink & Axen 2003.
    """
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values), int)
    ranks[order] = np.arange(len(values))
    forest = _Forest(values, ranks, points)
    pairs: list[tuple[int, int, int]] = []
    for low, high in _tree_edges(ranks, edges[np.isfinite(values[edges]).all(axis=1)]):
        saddle = int(order[high])
        young, old = forest.join(low, high, float(values[saddle]))
        minimum = int(order[young])
        if values[minimum] < values[saddle]:
            pairs.append((minimum, saddle, int(order[old])))
    roots = [(int(order[rank]), -1, -1) for rank in forest.roots() if np.isfinite(values[order[rank]])]
    return _assemble(values, sorted(pairs + roots, key=lambda pair: ranks[pair[0]]), forest.passes)


def _tree_edges(ranks: Int[np.ndarray, " n"], edges: Int[np.ndarray, "e 2"]) -> list[list[int]]:
    """(lower, higher) ranks of the ends of a minimum spanning forest's edges, by rising higher rank."""
    ends = np.sort(ranks[edges], axis=1)
    # A weight of 0 would mean that there is no edge; no higher rank is 0.
    graph = coo_array((ends[:, 1].astype(float), (ends[:, 0], ends[:, 1])), shape=(len(ranks),) * 2)
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    found = np.sort(np.stack([tree.row, tree.col], axis=1).astype(int), axis=1)
    return found[np.argsort(found[:, 1], kind="stable")].tolist()


def descend(values: Float[np.ndarray, " n"], edges: Int[np.ndarray, "e 2"], point: int) -> int:
    """The vertex without a lower neighbour that steepest descent from `point` ends at; ties as in `merge_tree`."""
    while True:
        near = np.concatenate([edges[edges[:, 0] == point, 1], edges[edges[:, 1] == point, 0]])
        lowest = min(near.tolist(), key=lambda vertex: (values[vertex], vertex), default=point)
        if (values[lowest], lowest) >= (values[point], point):
            return point
        point = lowest


class _Forest:
    """Union-find over ranks: the root of a component is its lowest member."""

    def __init__(self, values: Float[np.ndarray, " n"], ranks: Int[np.ndarray, " n"], points: Sequence[int]) -> None:
        self._parent = list(range(len(values)))
        self._points: dict[int, list[int]] = {}
        self.passes = np.full((len(points), len(points)), np.inf)
        for number, point in enumerate(points):
            self._points.setdefault(int(ranks[point]), []).append(number)
        for together in self._points.values():
            self.passes[np.ix_(together, together)] = values[points[together[0]]]

    def find(self, member: int) -> int:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, one: int, other: int, height: float) -> tuple[int, int]:
        """Merge two components at a height; returns the roots (of the one that ends, of the one that goes on)."""
        old, young = sorted((self.find(one), self.find(other)))
        self._parent[young] = old
        if young in self._points:
            moved, stayed = self._points.pop(young), self._points.get(old, [])
            self.passes[np.ix_(moved, stayed)] = height
            self.passes[np.ix_(stayed, moved)] = height
            self._points[old] = stayed + moved
        return young, old

    def roots(self) -> list[int]:
        return [member for member, parent in enumerate(self._parent) if member == parent]


def _assemble(
    values: Float[np.ndarray, " n"], pairs: list[tuple[int, int, int]], passes: Float[np.ndarray, "m m"]
) -> MergeTree:
    """Arrays from (minimum, saddle, minimum joined) of the branches in their order."""
    number = {minimum: k for k, (minimum, _, _) in enumerate(pairs)} | {-1: -1}
    minima, saddles, joined = np.array(pairs, int).reshape(-1, 3).T
    deaths = np.where(saddles >= 0, values[saddles], np.inf)
    parents = np.array([number[int(minimum)] for minimum in joined], int)
    return MergeTree(values[minima], deaths, minima, saddles, parents, passes)
