"""The spectral measures of random probes by stochastic Lanczos quadrature, all probes in one Krylov space.

For a probe z, zᵀf(A)z = Σ_k ω_k f(θ_k), with θ the Ritz values and ω the squared components of z on the Ritz
vectors, exact for polynomials up to degree 2·steps − 1 (Golub & Meurant 1994; Ubaru, Chen & Saad 2017). The
probes share the space that band Lanczos builds from all of them (Ruhe 1979): it contains each probe's own, so
that no quadrature is worse than alone, and it holds as many copies of a repeated eigenvalue as there are probes.

Where a Ritz pair has converged, the squared component of a random probe is nothing but noise around 1/n, the
weight of one eigenvalue. Taking 1/n instead removes what the largest eigenvalues add to the variance, at no
product (Bhattacharjee, Jayaram, Musco, Musco & Ray 2024, "implicit deflation").
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import chi2
from torch import Tensor

from landscape.aliases import Matvec, Vector
from landscape.errors import illegal
from landscape.methods.inner import norm
from landscape.methods.lanczos import breakdown, orthogonalise, require_finite, unit_or_zero

CROWDED = 1e-3
"""Probability with which the weights of a single eigenvalue are taken for those of several, and kept."""

APART = 0.1
"""A residual at most this fraction of the distance to the next Ritz value: one eigenvalue, not a few close ones."""

_LOOK_EVERY = 10


@dataclass(frozen=True)
class Quadrature:
    """values (k,): Ritz values, ascending. weights (probes, k): squared components of each probe, of sum 1.

    residuals (k,): ‖Ax − θx‖ on the complement of the locked vectors. dimension: of that complement.
    invariant: the space is an invariant subspace, so that values are eigenvalues up to `rounding`, which is
    the length below which a remainder counts as zero. products: rows multiplied.
    """

    values: np.ndarray
    weights: np.ndarray
    residuals: np.ndarray
    dimension: int
    invariant: bool
    rounding: float
    products: int


def by_rows(matvec: Matvec) -> Matvec:
    """The product of rows (b, n) ↦ (b, n), one after the other, from that of a vector (n,) ↦ (n,)."""
    return lambda rows: torch.stack([matvec(row) for row in rows])


def quadrature(
    matvec: Matvec,
    probes: Float[Tensor, "p n"],
    steps: int,
    locked: Float[Tensor, "l n"] | None = None,
    watch: Callable[[int], object] | None = None,
) -> Quadrature:
    """Gauss quadratures of the probes' spectral measures, from `steps` products with each.

    matvec: rows (b, n) ↦ rows (b, n), a symmetric A applied to each (`by_rows`). locked: orthonormal rows;
    probes and operator are projected on their complement, which is deflation when they are eigenvectors.
    Stops early when nothing is left outside the space. watch(products) is told of progress. Holds
    l + p·(steps + 1) rows of length n. Raises `InputError` when a probe is zero, or it or a product not finite.
    """
    count, n = probes.shape
    fixed = 0 if locked is None else len(locked)
    steps = min(steps, -(-(n - fixed) // count))
    rows = probes.new_zeros(fixed + count * (steps + 1), n)
    if locked is not None:
        rows[:fixed] = locked
    floor = breakdown(probes[0])
    mixing = torch.zeros(count, count, dtype=torch.float64, device=probes.device)
    for i, probe in enumerate(_units(probes)):
        along, rest, length = orthogonalise(rows[: fixed + i], probe)
        mixing[i, :i] = along[fixed:]
        mixing[i, i], rows[fixed + i] = unit_or_zero(rest, length, torch.full_like(length, floor))

    # Row j of the space multiplied is column j of H; a row that a breakdown left empty stays zero, and so do
    # its descendants, so that nothing has to be known on the host.
    H = torch.zeros(count * (steps + 1), count * steps, dtype=torch.float64, device=probes.device)
    births = torch.cat([mixing.diagonal(), H.new_zeros(count * steps)])
    scale = H.new_zeros(())
    done = 0
    for step in range(steps):
        first, new = count * step, count * (step + 1)
        parents = rows[fixed + first : fixed + new]
        images = torch.where((births[first:new] > 0)[:, None], matvec(parents), torch.zeros_like(parents))
        for i in range(count):
            along, rest, length = orthogonalise(rows[: fixed + new + i], images[i])
            scale = torch.maximum(scale, torch.linalg.vector_norm(torch.cat([along, length[None]])))
            births[new + i], rows[fixed + new + i] = unit_or_zero(rest, length, floor * scale)
            H[: new + i, first + i] = along[fixed:]
            H[new + i, first + i] = births[new + i]
        done = new
        if watch is not None:
            watch(done)
        if step % _LOOK_EVERY == _LOOK_EVERY - 1 and not (births[new : new + count] > 0).any().item():
            break
    return _read(H, births, mixing, done, n - fixed, floor * scale.item())


def _units(probes: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
    lengths = torch.stack([norm(z) for z in probes])
    for length in lengths.tolist():
        if not 0 < length < float("inf"):
            raise illegal("norm of a probe", length, "positive and finite", "Draw another one.")
    return probes * (1 / lengths).to(probes.dtype)[:, None]


def _read(H: Tensor, births: Vector, mixing: Tensor, done: int, dimension: int, rounding: float) -> Quadrature:
    """Rayleigh-Ritz on the first `done` rows; mixing (p, p) has the probes' coordinates in the first p of them."""
    coefficients, start, lengths = H.cpu().numpy(), mixing.cpu().numpy(), births.cpu().numpy()
    require_finite(coefficients, start, lengths)
    alive = np.flatnonzero(lengths > 0)[:dimension]  # further rows can only be rounding
    expanded = alive[alive < done]
    T = coefficients[np.ix_(expanded, expanded)]
    values, coordinates = np.linalg.eigh((T + T.T) / 2)
    along = coefficients[np.ix_(alive, expanded)] @ coordinates
    along[: len(expanded)] -= coordinates * values
    components = start[:, expanded[expanded < len(start)]] @ coordinates[: (expanded < len(start)).sum()]
    weights = np.square(components)
    total = weights.sum(1, keepdims=True)
    return Quadrature(
        values=values,
        weights=np.divide(weights, total, out=np.zeros_like(weights), where=total > 0),
        residuals=np.linalg.norm(along, axis=0),
        dimension=dimension,
        invariant=len(expanded) == len(alive),
        rounding=rounding,
        products=done,
    )


def resolved(found: Quadrature, tolerance: float) -> np.ndarray:
    """(k,) Ritz values that stand for one eigenvalue each, for Gaussian probes.

    The residual is at most tolerance·max|θ|, and at most `APART` of the distance to the next Ritz value; the
    weights are not too large for a single eigenvalue, dimension·Σ ω ~ χ² with as many degrees of freedom as
    probes. An invariant subspace smaller than its surroundings says that eigenvalues repeat: then one found
    as often as there are probes may have more copies, and is not resolved. A cluster narrower than the
    residual can still pass for a single eigenvalue.
    """
    values, probes = found.values, len(found.weights)
    if not len(values) or len(values) == found.dimension:
        return np.ones(len(values), bool)
    distances = np.diff(values, prepend=-np.inf, append=np.inf)
    nearest = np.minimum(distances[:-1], distances[1:])
    close = found.residuals <= tolerance * np.abs(values).max()
    single = found.residuals <= np.maximum(APART * nearest, found.rounding)
    alone = found.dimension * found.weights.sum(0) <= chi2.isf(CROWDED, probes)
    if found.invariant:
        family = np.cumsum(distances[:-1] > 2 * found.rounding)
        alone &= np.bincount(family)[family] < probes
    return close & single & alone
