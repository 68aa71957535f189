"""Units of two networks matched by what they do on data: the correlations of their activations.

Source: Li et al. 2015, "Convergent learning" (arXiv 1511.07543); Ainsworth et al. 2023, "Git Re-Basin" (arXiv
2209.04836, section 3.1).
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from landscape.batches import first_rows, rows_of
from landscape.errors import InputError
from landscape.methods.correlations import Correlations
from landscape.methods.matching import best_orders
from landscape.problem import Problem
from landscape.units.groups import Family, Group, Site
from landscape.units.matches import Match, Matching
from landscape.units.operations import Operations
from landscape.units.states import state_of
from landscape.units.tracing import run

UNSEEN = "appears nowhere where units could be compared"


def by_activations(
    reference: Problem, other: Problem, families: Sequence[Family], examples: int | None = None
) -> Matching:
    """The permutations that maximise Σ corr(unit of one, unit of the other) over the reference's data.

    A unit is compared wherever a layer writes or reads it, or a sum over units (attention's) reads it: one of a
    residual stream many times, and one that a ReLU always switches off at least before. Positions and tokens are
    samples, as examples are. examples: only so many are used. Each family is matched exactly, whatever others do.
    """
    measured = iter(_similarities(reference, other, [g for family in families for g in family.groups], examples))
    similarities, unseen = {}, []
    for family in families:
        found = [next(measured) for _ in family.groups]
        if all(matrix is None for matrix in found):
            unseen.append((family.name, UNSEEN))
            continue
        matrices = [np.zeros((g.size, g.size)) if m is None else m for g, m in zip(family.groups, found, strict=True)]
        similarities[Match(family, tuple(best_orders(matrices, family.blocks)))] = matrices

    def objective(kept: Sequence[Match]) -> float:
        return sum(
            float(matrix[rows := np.arange(len(matrix)), order if match in kept else rows].sum())
            for match, matrices in similarities.items()
            for matrix, order in zip(matrices, match.orders, strict=True)
        )

    return Matching(tuple(similarities), objective, 1, tuple(unseen))


def _similarities(
    reference: Problem, other: Problem, groups: Sequence[Group], examples: int | None
) -> list[np.ndarray | None]:
    """For each group the correlations of all pairs of units, summed over the group's sites; None without any."""
    totals = [[Correlations() for _ in group.sites] for group in groups]
    wanted = {(site.operation, site.leaf) for group in groups for site in group.sites}
    for inputs in _limited(reference, examples):
        mine, theirs = (_read(problem, inputs, wanted) for problem in (reference, other))
        for group, sums in zip(groups, totals, strict=True):
            for site, total in zip(group.sites, sums, strict=True):
                x, y = (_by_unit(found[site.operation, site.leaf], site) for found in (mine, theirs))
                if x is not None and y is not None:
                    total.add(x, y)
    matrices = [[total.matrix() for total in sums if total.count] for sums in totals]
    return [np.sum(found, 0) if found else None for found in matrices]


class _Reader(Operations):
    """Copies the tensors that are wanted, as they are at their operation: what follows may change them in place."""

    def __init__(self, wanted: Collection[tuple[int, int]]):
        super().__init__()
        self.found: dict[tuple[int, int], Tensor] = {}
        self._wanted: dict[int, list[int]] = {}
        for operation, leaf in wanted:
            self._wanted.setdefault(operation, []).append(leaf)

    def see(self, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
        if self.number in self._wanted:
            leaves = tree_leaves((args, kwargs, result))
            for k in self._wanted[self.number]:
                if k >= len(leaves) or not isinstance(leaves[k], Tensor):
                    raise InputError("the network does other things with other batches. Use how = 'weights'.")
                self.found[self.number, k] = leaves[k].clone()


def _read(problem: Problem, inputs: Any, wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], Tensor]:
    reader = _Reader(wanted)
    run(problem.model, state_of(problem, problem.weights), inputs, reader)
    return reader.found


def _limited(problem: Problem, examples: int | None) -> Iterator[Any]:
    """The inputs of the problem's batches, of the first `examples` if that is given."""
    seen = 0
    for batch in problem.passes(problem.weights):
        inputs, targets = batch if examples is None else first_rows(batch, examples - seen)
        seen += rows_of(targets)
        yield inputs
        if examples is not None and seen >= examples:
            return


def _by_unit(x: Tensor, site: Site) -> Tensor | None:
    """What was read as (samples, units); None where this run's tensor has other features than the traced one."""
    if math.prod(x.shape[axis] for axis in site.axes) != site.features:
        return None
    last = tuple(range(-len(site.axes), 0))
    features = x.movedim(site.axes, last).reshape(-1, site.features)
    index = torch.from_numpy(site.index).to(x.device)
    return features[:, index.T].reshape(-1, len(index))
