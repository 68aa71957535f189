"""The loss and its gradient at several weights in one run, for networks so small that this is faster."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad_and_value, vmap

from landscape.aliases import Vector
from landscape.devices import timed
from landscape.methods.lockstep import EvaluateSeveral
from landscape.problem import Problem
from landscape.products.engines import FAILURES, same

_QUICK = 0.02
"""Networks whose evaluation takes longer keep a device busy, and are evaluated one by one."""

_WORTH = 0.9
"""Several at once are used when they take at most this fraction of the time of one after the other."""

_REPEATS = 3


def several_at_once(problem: Problem, w: Vector, count: int) -> EvaluateSeveral | None:
    """`Problem.value_and_gradient` at `count` weights (count, n) at once; None where that is no faster, or fails.

    Found out by a trial around w, which also compares the outcomes; they agree up to rounding. A processor with one
    thread gains nothing, and is not tried, so that its numbers repeat to the last bit.
    """
    idle = w.device.type == "cpu" and torch.get_num_threads() == 1
    if count < 2 or problem.batch_norm == "batch" or idle:
        return None
    rows = w + 1e-3 * w.abs().mean() * torch.linspace(-1, 1, count, device=w.device, dtype=w.dtype)[:, None]

    def one_by_one(rows: Float[Tensor, "k n"]) -> tuple[list[float], Float[Tensor, "k n"]]:
        found = [problem.value_and_gradient(row) for row in rows]
        return [value for value, _ in found], torch.stack([gradient for _, gradient in found])

    def together(rows: Float[Tensor, "k n"]) -> tuple[list[float], Float[Tensor, "k n"]]:
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        gradients = torch.zeros_like(rows)
        for batch in problem.parts(w):
            found, values = vmap(grad_and_value(lambda x, batch=batch: problem.summed_loss(x, batch)))(rows)
            gradients += found
            total += values
        return (total / problem.size).tolist(), gradients.div_(problem.size)

    try:
        if timed(lambda: problem.value_and_gradient(w), w.device)[0] > _QUICK:
            return None
        (_, expected), (_, found) = one_by_one(rows), together(rows)
        if not same(found, expected):
            return None
        seconds = [
            min(timed(partial(run, rows), w.device)[0] for _ in range(_REPEATS)) for run in (one_by_one, together)
        ]
    except (*FAILURES, torch.OutOfMemoryError):
        return None
    return together if seconds[1] <= _WORTH * seconds[0] else None
