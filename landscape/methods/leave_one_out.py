"""The trace from probes that are each other's control variates: a leave-one-out Nyström approximation.

For probes z_i and their images y_i = B z_i, the matrix Â_i = Σ_{j,l ≠ i} y_j M_jl y_lᵀ does not depend on z_i. So

    t_i = tr Â_i + z_iᵀ (B − Â_i) z_i                                                                     (1)

has mean tr B whatever M is, and little variance where Â_i is close to B. No product is needed beyond those of
Hutchinson's estimator. M = Re (G + iτ)⁻¹ with G_jl = z_jᵀ B z_l is Tikhonov's inverse, eigenvalue by
eigenvalue λ/(λ² + τ²), which keeps (1) tame also for an indefinite B, where the inverse of G would not be.

Epperly, Tropp & Webber 2024, "XTrace: making the most of every sample in stochastic trace estimation" (XNysTrace,
section 2.3, for positive semidefinite B and τ = 0). The closed forms below follow from the inverse of G + iτ with
one row and column left out, S − s_i s_iᵀ/S_ii.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Control:
    """S = (G + iτ)⁻¹, complex symmetric (m, m), of G (m, m) divided by `scale`."""

    inverse: np.ndarray
    scale: float

    @property
    def pivots(self) -> np.ndarray:
        return np.diag(self.inverse)


def control(G: np.ndarray) -> Control:
    """τ is the noise in G: √m times the root mean square of its entries off the diagonal."""
    m = len(G)
    scale = float(np.abs(G).max()) or 1.0
    G = (G + G.T) / (2 * scale)
    off = np.square(G).sum() - np.square(np.diag(G)).sum()
    tau = max(float(np.sqrt(max(off, 0.0) / max(m - 1, 1))), 1e-10)
    return Control(np.linalg.inv(G + 1j * tau * np.eye(m)), scale)


def samples(c: Control, G: np.ndarray, W: np.ndarray) -> np.ndarray:
    """(m,) the t_i of (1), from G_ij = z_iᵀ y_j and W_ij = y_iᵀ y_j.

    With inner products over some coordinates only, in both G (then not symmetric) and W, these are the samples
    of the trace of B's diagonal block on them; over disjoint sets of coordinates they add up.
    """
    E, F, along = _parts(c, G, W)
    return c.scale * ((np.diag(E) - np.diag(F)) / c.pivots + along).real


def standard_error(c: Control, G: np.ndarray, W: np.ndarray) -> float:
    """Standard error of the samples' mean, NaN for a single one.

    The t_i share their probes. Of the variance's part that comes from pairs of probes (the second-order term of
    its Hoeffding decomposition), s²/m counts one half and the jackknife twice, so that a third of the way from
    the first to the second is right (Efron & Stein 1981, "The jackknife estimate of variance", section 2).
    """
    m = len(G)
    if m < 2:
        return float("nan")
    naive = samples(c, G, W).var(ddof=1) / m
    E, F, along = _parts(c, G, W)
    ratios = c.inverse / c.pivots  # S_ij / S_jj
    pivots = c.pivots[:, None] - c.inverse * ratios
    np.fill_diagonal(pivots, 1)
    first = np.diag(E)[:, None] - E * ratios
    second = np.diag(F)[:, None] - 2 * ratios * F + ratios**2 * np.diag(F)
    without = ((first - second) / pivots + along - np.diag(F) / c.pivots).real  # t_i when probe j is left out, too
    np.fill_diagonal(without, 0)
    means = c.scale * without.sum(0) / (m - 1)
    jackknife = (m - 1) / m * np.square(means - means.mean()).sum()
    return float(np.sqrt(naive + max(jackknife - naive, 0.0) / 3))


def coordinate_samples(c: Control, Z: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(m, n) samples of B's diagonal, from z_i and y_i as rows of Z and Y (m, n)."""
    Y = Y / c.scale
    X = c.inverse @ Y
    return c.scale * ((Z * X - X**2) / c.pivots[:, None] + (X * Y).sum(0)).real


def _parts(c: Control, G: np.ndarray, W: np.ndarray) -> tuple[np.ndarray, np.ndarray, complex]:
    """G S, S W S and tr S W."""
    S, W = c.inverse, W / c.scale**2
    return (G / c.scale) @ S, S @ W @ S, complex((S * W).sum())
