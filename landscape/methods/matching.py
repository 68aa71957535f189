"""Which units of one network are which of another: linear assignments, and coordinate ascent over groups of them.

Source: Ainsworth et al. 2023, "Git Re-Basin: merging models modulo permutation symmetries" (arXiv 2209.04836,
section 3): sum of bilinear assignment problems, solved one linear assignment at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

S = TypeVar("S")
Order = np.ndarray
"""A permutation π of n units: the whole numbers π(0), …, π(n−1), shape (n,)."""


@dataclass(frozen=True)
class Ascent(Generic[S]):
    """Where coordinate ascent ended. rounds: over all coordinates, the last without a gain if `converged`."""

    state: S
    objective: float
    rounds: int
    converged: bool


def best_order(similarity: Float[np.ndarray, "n n"]) -> Order:
    """The order π that maximises Σ_u similarity[u, π(u)]."""
    return linear_sum_assignment(similarity, maximize=True)[1]


def best_orders(similarities: Sequence[np.ndarray], blocks: int) -> list[Order]:
    """The orders of several kinds of units that maximise the sum over kinds of Σ_u similarity[u, π(u)].

    similarities: for each kind a matrix (n, n), whose n units are `blocks` blocks of n/blocks (attention heads, each
    with its keys and its values). Blocks change places as wholes, with those of all kinds, and units within their
    block: for each pair of blocks the best orders within are found first, and then the best order of the blocks.
    """
    value, within = np.zeros((blocks, blocks)), []
    for similarity in similarities:
        pairs = similarity.reshape(blocks, len(similarity) // blocks, blocks, -1).swapaxes(1, 2)
        within.append([[best_order(pair) for pair in row] for row in pairs])
        for a, b in np.ndindex(blocks, blocks):
            value[a, b] += pairs[a, b][np.arange(pairs.shape[2]), within[-1][a][b]].sum()
    order = best_order(value)
    return [np.concatenate([b * len(found[a][b]) + found[a][b] for a, b in enumerate(order)]) for found in within]


def ascend(
    start: S,
    step: Callable[[S, int], S],
    objective: Callable[[S], float],
    visits: Iterable[Sequence[int]],
    resolution: float,
) -> Ascent[S]:
    """Coordinate ascent: step(state, k) is the state with coordinate k moved to where it looks best.

    A step is taken when it raises the objective by more than `resolution`, so the objective never falls, even where
    a step maximises a linearisation only. visits: for each round the coordinates in the order of their turns; ends
    after a round without a gain, or with the last round given.
    """
    state, value, rounds, gained = start, objective(start), 0, True
    for rounds, turns in enumerate(visits, 1):  # noqa: B007  # the number of rounds is asked for afterwards
        gained = False
        for k in turns:
            candidate = step(state, k)
            if (raised := objective(candidate)) > value + resolution:
                state, value, gained = candidate, raised, True
        if not gained:
            break
    return Ascent(state, value, rounds, not gained)
