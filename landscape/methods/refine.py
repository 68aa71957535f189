"""Eigenpairs of an operator from good approximations: Rayleigh-Ritz with few products, and explicit residuals."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec, Vector
from landscape.methods.basis import Basis
from landscape.methods.restart import ROUNDING, Eigenpairs
from landscape.methods.rows import rows_at
from landscape.methods.wanted import by_wantedness, in_order


def refine(
    matvec: Matvec,
    like: Vector,
    start: Float[Tensor, "k n"],
    ends: str,
    total: int,
    tolerance: float,
    max_matvecs: int,
    max_basis: int,
    store: torch.device | None = None,
    noise: float = 0.0,
    watch: Callable[[int, int], object] = lambda matvecs, converged: None,
) -> Eigenpairs:
    """`total` eigenpairs of A near the span of the rows of `start`, until every residual ≤ tolerance·max|θ|.

    One product for each row, then one at a time along the remainder on which the residuals lean most (a block
    Lanczos method that adds single vectors); a full basis restarts with the most wanted Ritz vectors. like: where
    and in which type products are taken. max_basis: rows held at once, at least `restart.smallest_basis` of the
    search that gave `start`; store: device whose memory holds them. noise: error of a product as a fraction of
    max|λ|, added to every residual. `complete` of the outcome is False: nobody has looked for eigenvalues outside
    the span. Source: Parlett 1980, ch. 11 and 13.
    """
    rows = min(max_basis, len(start) + max_matvecs + 1)
    basis = Basis(like, rows, rows_at(like, rows, store))
    for row in start:
        basis.inject(row.to(like))
    matvecs, restarts, scale = 0, 0, 0.0
    for row in list(basis.pending)[:max_matvecs]:
        basis.expand(matvec, row)
        matvecs += 1
    while True:
        ritz = basis.ritz()
        scale = max(scale, float(np.abs(ritz.values).max()))
        wanted = by_wantedness(ritz.values, ends)[:total]
        floor = (noise + ROUNDING * torch.finfo(like.dtype).eps) * scale
        residuals = ritz.residuals[wanted] + basis.dropped + floor
        unsettled = wanted[residuals > tolerance * scale]
        watch(matvecs, len(wanted) - len(unsettled))
        if not len(unsettled) or matvecs >= max_matvecs or not basis.pending:
            break
        if not basis.room:
            kept = max(total, (total + len(ritz.values)) // 2)
            basis.compress(ritz.coordinates[:, by_wantedness(ritz.values, ends)[:kept]])
            restarts += 1
            continue
        leaning = np.square(ritz.couplings[:, unsettled]).sum(1)
        basis.expand(matvec, basis.pending[int(leaning.argmax())])
        matvecs += 1
    order = in_order(ritz.values[wanted], ends)
    chosen = wanted[order]
    return Eigenpairs(
        values=ritz.values[chosen], vectors=basis.vectors(ritz.coordinates[:, chosen]), residuals=residuals[order],
        converged=residuals[order] <= tolerance * scale, scale=scale, complete=False, matvecs=matvecs,
        restarts=restarts, noise=floor,
    )  # fmt: skip
