"""Extreme eigenpairs of a symmetric operator: thick-restart Lanczos that also finds repeated eigenvalues.

Wu & Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems".

A Krylov space holds one copy of each eigenvalue, however often it repeats. So when the wanted pairs have
converged, a fresh random vector starts a second Lanczos chain, orthogonal to everything known. Either it
brings in a new wanted eigenvalue, and the search goes on; or after a few steps it shows that a further one
would have been seen, unless the random vector happened to be a thousand times closer to orthogonal to it
than usual (`wanted.evidence`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec, Vector
from landscape.methods.basis import Basis, RitzValues
from landscape.methods.inner import norm
from landscape.methods.rows import Rows, rows_at
from landscape.methods.wanted import bars, by_wantedness, evidence, evidence_needed, in_order

ROUNDING = 16.0
"""Residual bounds allow for so many units of rounding of max|λ|, besides the noise measured in the products."""

SETTLED = 0.01
"""A second chain's outermost Ritz value counts as an eigenvalue, and as its outermost, at so much of the tolerance:
with a residual as large as the tolerance it may be a mixture of two, the outer of which goes unseen."""

CHAIN_ROOM = 16
"""Rows to set free before a second chain starts, where the wanted pairs leave so many."""


@dataclass(frozen=True)
class Eigenpairs:
    """values (k,): largest first, smallest first, by magnitude, or descending for `both`.

    vectors: (k, n) orthonormal rows. residuals: (k,) bounds on ‖Av − λv‖, rounding included, so that an
    eigenvalue lies within residual of λ. complete: a fresh random start has shown that no further wanted
    eigenvalue exists; False when the budget ended first. converged: (k,) residual ≤ tolerance·scale, and complete
    unless that was not asked for. scale: max|θ| over all Ritz values. restarts: times the basis was full.
    """

    values: np.ndarray
    vectors: Float[Tensor, "k n"]
    residuals: np.ndarray
    converged: np.ndarray
    scale: float
    complete: bool
    matvecs: int
    restarts: int
    noise: float = 0.0


def smallest_basis(count: int, ends: str, n: int) -> int:
    """Rows of length n that `extreme_eigenpairs` cannot do without."""
    return 2 * _total(count, ends, n) + 12


def extreme_eigenpairs(
    matvec: Matvec,
    fresh: Callable[[int], Vector],
    count: int,
    ends: str = "largest",
    tolerance: float = 1e-4,
    max_matvecs: int = 2000,
    max_basis: int = 400,
    watch: Callable[[int, int], object] | None = None,
    exact: Matvec | None = None,
    start: Float[Tensor, "m n"] | None = None,
    store: torch.device | None = None,
    stored: torch.dtype | None = None,
    exhaustive: bool = True,
) -> Eigenpairs:
    """`count` eigenpairs at each wanted end of A: `largest`, `smallest`, `magnitude` or `both`.

    matvec: v ↦ Av, A symmetric (n, n). fresh(i): the i-th of independent Gaussian vectors (n,); fresh(0) is
    the start and carries dimension, dtype and device. Runs until every residual ‖Av − λv‖ ≤ tolerance·max|λ|
    (or is down to rounding) and no wanted eigenvalue is missing, or until `max_matvecs` products are used.
    max_basis: rows held at once, at least `smallest_basis`. watch(matvecs, converged) is told of progress.
    exact: the same operator on float64 vectors; used once, to measure the rounding error of matvec that the
    bounds have to allow for (the operator itself by default, which only shows errors that vary).
    start: approximate eigenvectors as rows, of a nearby operator say; their sum is the first vector instead of
    fresh(0). Exact rows take one product each, poor ones no more products than a random start.
    store: device whose memory holds the rows and the vectors found; by default the start vector's. stored: type of
    the rows there, `rows.HALF` for half the memory, bounds of a few 1e-4·max|λ| at best, and a product more a pair.
    exhaustive: False leaves the second chain out: `complete` stays False, and `converged` speaks of the residuals
    alone. A copy of an eigenvalue, and at a loose tolerance a close neighbour of one, can then be missing.
    Gives all n pairs when n is less than what is asked, and fewer than asked when the budget is smaller.
    Raises `InputError` for a product that is not finite.
    """
    like = fresh(0)
    n = like.numel()
    capacity = max(min(max_basis, 2 * n), smallest_basis(count, ends, n))
    exact = exact or (lambda v: matvec(v.to(like.dtype)).double())
    total = _total(count, ends, n)
    basis = Basis(like, capacity, rows_at(like, capacity, store, stored))
    if basis.rows.half:
        max_matvecs = max(max_matvecs - total, 1)  # the products that the explicit residuals take
    search = _Search(matvec, fresh, basis, ends, total, tolerance, max_matvecs, exact, exhaustive)
    return search.run(watch or (lambda matvecs, converged: None), start)


def _total(count: int, ends: str, n: int) -> int:
    return min(2 * count if ends == "both" else count, n)


@dataclass
class _Search:
    """One search: stretches of products without the host, then a look at where it stands."""

    matvec: Matvec
    fresh: Callable[[int], Vector]
    basis: Basis
    ends: str
    total: int
    tolerance: float
    max_matvecs: int
    exact: Matvec
    exhaustive: bool = True
    matvecs: int = 0
    restarts: int = 0
    rotations: int = 0
    """Restarts that rotated the wanted pairs, and added to their rounding."""
    draws: int = 0
    scale: float = 0.0
    complete: bool = False
    audit: float | None = None
    """Error of the products, measured by one more of them when the wanted pairs have first converged."""
    cut_short: bool = False
    """The budget ended before the second chain had said what it was asked."""

    def run(self, watch: Callable[[int, int], object], start: Tensor | None) -> Eigenpairs:
        if start is None or not self.basis.inject(start.to(self.basis.rows.like).sum(0)):
            self._inject()
        self._expand(self.basis.pending[0], self.total + 5)
        while True:
            self._look()
            unsettled = self._unsettled()
            if not len(unsettled) and self.audit is None and self.matvecs < self.max_matvecs:
                self._audit()
                continue
            spanned = len(self.ritz.values) == self.basis.rows.shape[1]
            if not len(unsettled) and self.exhaustive and (spanned or self.matvecs < self.max_matvecs):
                self.complete = self._nothing_is_missing()
            watch(self.matvecs, int((self.ritz.residuals[self.wanted] <= self.target).sum()))
            done = self.complete or (not len(unsettled) and not self.exhaustive)
            if done or self.matvecs >= self.max_matvecs:
                return self._result()
            if len(unsettled):
                self._extend(unsettled)

    # -- where it stands ---------------------------------------------------------------------------

    def _look(self) -> None:
        self.ritz: RitzValues = self.basis.ritz()
        self.scale = max(self.scale, float(np.abs(self.ritz.values).max()))
        rounding = ROUNDING * torch.finfo(self.basis.rows.dtype).eps * (1 + self.rotations) ** 0.5
        self.noise = rounding * self.scale + self.basis.dropped + (self.audit or 0.0)
        self.target = max(self.tolerance * self.scale - self.noise, self.noise, self.ritz.asymmetry)
        self.wanted = by_wantedness(self.ritz.values, self.ends)[: self.total]

    def _audit(self) -> None:
        """Compare one more product with what the basis says it should be, at an even mixture of the wanted pairs."""
        mixture = self.ritz.coordinates[:, self.wanted].sum(1) / len(self.wanted) ** 0.5
        self.audit = len(self.wanted) ** 0.5 * self.basis.defect(self.exact, mixture)
        self.matvecs += 1

    def _unsettled(self) -> np.ndarray:
        """Indices of wanted pairs not yet converged, and of others that may still become wanted."""
        values, residuals = self.ritz.values, self.ritz.residuals
        if len(values) < self.total:
            return np.arange(len(values))
        low, high = bars(values[self.wanted], self.ends)
        allowed = np.maximum(np.minimum(high - values, values - low), self.target)
        allowed[self.wanted] = self.target
        return np.flatnonzero(residuals > allowed)

    # -- the main search ---------------------------------------------------------------------------

    def _inject(self) -> bool:
        self.draws += 1
        return self.basis.inject(self.fresh(self.draws - 1))

    def _expand(self, row: int, steps: int) -> None:
        room = min(self.basis.room, self.basis.rows.shape[1] - self.basis.count + 1)
        for _ in range(min(steps, room, self.max_matvecs - self.matvecs)):
            row = self.basis.expand(self.matvec, row)
            self.matvecs += 1

    def _extend(self, unsettled: np.ndarray) -> None:
        """Expand the pending row on which the unsettled residuals lean most."""
        expanded, choice = len(self.ritz.values), 0
        if self.basis.pending:
            choice = int(np.square(self.ritz.couplings[:, unsettled]).sum(1).argmax())
        elif not self._inject():
            self.complete = True  # the basis spans everything, and its residuals are rounding
            return
        if not self.basis.room:
            kept = (self.total + expanded) // 2
            waiting = len(self.basis.pending)
            self._compress(kept if expanded - kept > 4 else self.total)
            choice = choice if len(self.basis.pending) == waiting else 0
        self._expand(self.basis.pending[choice], max(1, expanded // 16))

    def _compress(self, kept: int) -> None:
        """Restart with the `kept` most wanted Ritz vectors."""
        best = by_wantedness(self.ritz.values, self.ends)[:kept]
        self.basis.compress(self.ritz.coordinates[:, best])
        self.restarts, self.rotations = self.restarts + 1, self.rotations + 1

    # -- the second chain --------------------------------------------------------------------------

    def _nothing_is_missing(self) -> bool:
        """Run a second chain; when it brings in wanted eigenvalues, its rows join the search."""
        lacking = min(CHAIN_ROOM, self.basis.rows.shape[1] - self.basis.count) - self.basis.room
        if lacking > 0:
            self._compress(max(self.total, len(self.ritz.values) - lacking))
            self._look()
            if len(self._unsettled()):
                return False
        known = self.ritz.values[self.wanted]
        self.basis.set_aside()
        found = self._inject() and self._run_chain(self.basis.count - 1, *bars(known, self.ends))
        self.basis.bring_back()
        self._look()
        moved = np.abs(self.ritz.values[self.wanted] - known).max() > self.target
        if found or moved or self.ritz.residuals[self.wanted].max() > self.target:
            return False
        self.basis.roll_back()
        return not self.cut_short

    def _run_chain(self, first: int, low: float, high: float) -> bool:
        """Extend the chain from row `first` until it has an eigenvalue beyond low or high, or proof that none is."""
        needed = evidence_needed(self.basis.rows.shape[1] - first)
        steps, restarted, proven = 3, False, np.zeros(2, bool)
        while True:
            self._expand(self.basis.pending[-1], steps)
            ritz = self.basis.ritz(first)
            if ritz.values[0] < low - self.target or ritz.values[-1] > high + self.target:
                return True
            found = np.zeros(2) if restarted else self._evidence(ritz, first, low, high)
            settled = ritz.residuals[[0, -1]] <= max(4 * self.noise, SETTLED * self.target)
            proven |= settled | (found >= needed)
            if proven.all() or not self.basis.pending:
                return False
            if self.matvecs >= self.max_matvecs:
                self.cut_short = True
                return False
            found = found[~proven].min()
            steps = int(np.clip(np.ceil((needed / found - 1) * len(ritz.values)), 1, 8)) if found > 0 else 1
            if not self.basis.room:
                both = "both" if self.ends == "magnitude" else self.ends
                kept = by_wantedness(ritz.values, both)[: (len(ritz.values) + 1) // 2]
                self.basis.compress(ritz.coordinates[:, kept], first)
                self.restarts, restarted = self.restarts + 1, True

    def _evidence(self, ritz: RitzValues, first: int, low: float, high: float) -> np.ndarray:
        betas = np.diag(self.basis.coefficients(), -1)[first:]
        return np.array([evidence(bar, ritz.values, betas) for bar in (low, high)])

    # -- the outcome -------------------------------------------------------------------------------

    def _result(self) -> Eigenpairs:
        self._look()
        chosen = self.wanted[in_order(self.ritz.values[self.wanted], self.ends)]
        values, residuals = self.ritz.values[chosen], self.ritz.residuals[chosen]
        vectors = self.basis.vectors(self.ritz.coordinates[:, chosen])
        if self.basis.rows.half:
            residuals = self._explicit(values, self.basis.rows.over(vectors))
        residuals = residuals + self.noise
        return Eigenpairs(
            values=values,
            vectors=vectors,
            residuals=residuals,
            converged=(residuals <= self.tolerance * self.scale) & (self.complete or not self.exhaustive),
            scale=self.scale,
            complete=self.complete,
            matvecs=self.matvecs,
            restarts=self.restarts,
            noise=float(self.noise),
        )

    def _explicit(self, values: np.ndarray, vectors: Rows) -> np.ndarray:
        """‖Ax − θx‖ by one product each, for rows whose rounding equation (1) of `basis` does not show."""
        self.matvecs += len(values)
        pairs = zip(values.tolist(), map(vectors.__getitem__, range(len(values))), strict=True)
        return np.array([norm(self.matvec(x) - value * x).item() for value, x in pairs])
