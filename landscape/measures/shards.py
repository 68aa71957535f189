"""The shards of m-sharpness, and the losses and gradients of several of them at several weights at once.

m-sharpness lets every m examples find a maximum of their own (Foret et al. 2021, arXiv 2010.01412, section 4). For
small models all shards, and all starts of a maximisation, go through the network in one batched program.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves, tree_map

from landscape import seeds
from landscape.aliases import Batch, Vector
from landscape.batches import chosen_rows, joined, rows_of, split
from landscape.devices import available_bytes
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.products.engines import FAILURES, same

_SMALL = 1 << 20
"""Parameters up to which the start of an operation costs as much as its arithmetic."""

_STATE = 12
"""Vectors that a maximisation holds for each row."""


@dataclass(frozen=True)
class Group:
    """Some shards of one size, maximised together: δ (rows, shards, n) ↦ (f_S(w + δ), ∇f_S(w + δ)).

    stacked: their batches with the shards along the first axis, None where they are evaluated one by one.
    """

    w: Vector
    shards: tuple[Problem, ...]
    stacked: tuple[Batch, ...] | None = None

    def __call__(
        self, moves: Float[Tensor, "rows shards n"]
    ) -> tuple[Float[Tensor, "rows shards"], Float[Tensor, "rows shards n"]]:
        if self.stacked is not None:
            return self._together(self.w + moves)
        values = torch.empty(moves.shape[:2], dtype=torch.float64)
        gradients = torch.empty_like(moves)
        for row, move in enumerate(moves):
            for number, shard in enumerate(self.shards):
                value, gradients[row, number] = shard.value_and_gradient(self.w + move[number])
                values[row, number] = value
        return values.to(moves.device), gradients

    @full_precision()
    def _together(
        self, weights: Float[Tensor, "rows shards n"]
    ) -> tuple[Float[Tensor, "rows shards"], Float[Tensor, "rows shards n"]]:
        assert self.stacked is not None
        shard = self.shards[0]
        losses = vmap(vmap(shard.summed_loss, (0, None)), (1, 0), 1)
        gradients, values = torch.zeros_like(weights), weights.new_zeros(weights.shape[:2], dtype=torch.float64)
        for batch in self.stacked:
            with torch.enable_grad():
                leaf = weights.detach().requires_grad_(True)
                value = losses(leaf, batch)
            gradients += torch.autograd.grad(value.sum(), leaf, materialize_grads=True)[0]  # each row is of its own
            values += value.detach()
        return values / shard.size, gradients.div_(shard.size)


def shards_of(problem: Problem, w: Vector, m: int | None, seed: int) -> list[Problem]:
    """The problem cut by a fixed permutation into shards of m examples, a smaller last one, in passes order.

    All of it for m = None or m ≥ N. Shards without a term of the loss (labels that are ignored) are left out.
    """
    if m is None or m >= problem.rows:
        return [problem]
    shard_of = torch.empty(problem.rows, dtype=torch.int64)
    shard_of[seeds.permutation(seeds.stream(seed, "worst-case", "shards"), problem.rows)] = (
        torch.arange(problem.rows) // m
    )
    pieces: list[list[Batch]] = [[] for _ in range(-(-problem.rows // m))]
    before, widest = 0, 1
    for batch in problem.passes(w):
        count = rows_of(batch[1])
        mine = shard_of[before : before + count]
        for number in mine.unique().tolist():
            pieces[number].append(chosen_rows(batch, (mine == number).nonzero()[:, 0]))
        before, widest = before + count, max(widest, count)
    found = [problem.only([part for batch, _ in joined(kept, m) for part in split(batch, widest)]) for kept in pieces]
    return [shard for shard in found if shard.size]


def groups_of(shards: Sequence[Problem], w: Vector, rows: int) -> list[Group]:
    """The shards in groups that are evaluated together where model, data and memory allow it, else one by one.

    rows: displacements that a maximisation evaluates at once.
    """
    groups: list[Group] = []
    for size in dict.fromkeys((shard.rows, shard.size) for shard in shards):
        equal = [shard for shard in shards if (shard.rows, shard.size) == size]
        at_once = _at_once(equal[0], w, rows)
        for start in range(0, len(equal), max(1, at_once)):
            some = tuple(equal[start : start + max(1, at_once)])
            together = _stacked(some, w) if at_once else None
            groups += [Group(w, (shard,)) for shard in some] if together is None else [together]
    return groups


def _at_once(shard: Problem, w: Vector, rows: int) -> int:
    """How many shards like this one may be evaluated together in half of the free memory; 0 for none.

    On a CPU convolutions with weights of their own for each shard are slower than the shards one by one.
    """
    convolutions = any(isinstance(module, _ConvNd) for module in shard.model.modules())
    if len(w) > _SMALL or (w.is_cpu and convolutions):
        return 0
    kept = 0

    def noted(x: Tensor) -> Tensor:
        nonlocal kept
        kept += x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda x: x):
        shard.value_and_gradient(w)
    each = rows * (2 * kept + _STATE * len(w) * w.element_size())
    return int(min(available_bytes(w.device) // 2 // max(each, 1), 1 << 16))


def _stacked(shards: tuple[Problem, ...], w: Vector) -> Group | None:
    """The shards as one group with their batches side by side, if that gives what they give one by one."""
    try:
        stacked = tuple(_side_by_side(batches) for batches in zip(*(s.passes(w) for s in shards), strict=True))
        group, point = Group(w, shards, stacked), (w * 0.01).expand(1, len(shards), -1)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*performance drop.*")
            values, gradients = group(point)
        expected, slopes = Group(w, shards)(point)
    except (*FAILURES, UserWarning, torch.OutOfMemoryError):
        return None
    close = torch.allclose(values, expected, rtol=math.sqrt(torch.finfo(w.dtype).eps), atol=0, equal_nan=True)
    return group if close and same(gradients, slopes) else None


def _side_by_side(batches: Sequence[Batch]) -> Batch:
    """One batch of each shard, stacked; `ValueError` for what is not tensors of one row per example."""
    rows = rows_of(batches[0][1])
    if not all(isinstance(x, Tensor) and x.dim() and len(x) == rows for x in tree_leaves(batches)):
        raise ValueError("shards of other things than rows of tensors")
    return tree_map(lambda *leaves: torch.stack(leaves), *batches)
