"""Which eigenvalues are wanted, and when it is settled that no further one is."""

import numpy as np

MISS = 1e-3
"""Probability of overlooking a further wanted eigenvalue, given that there is one."""

INSIDE = 0.1
"""See `evidence`."""


def by_wantedness(values: np.ndarray, ends: str) -> np.ndarray:
    """Indices of `values`, the most wanted first; `both` takes turns between the two ends."""
    if ends == "magnitude":
        return np.argsort(-np.abs(values), kind="stable")
    ascending = np.argsort(values, kind="stable")
    if ends == "smallest":
        return ascending
    if ends == "largest":
        return ascending[::-1]
    turns = np.stack([ascending[::-1], ascending], 1).reshape(-1)
    return turns[np.sort(np.unique(turns, return_index=True)[1])]


def in_order(values: np.ndarray, ends: str) -> np.ndarray:
    """Indices of wanted `values` as they are reported: most wanted first, descending for `both`."""
    return np.argsort(-values, kind="stable") if ends == "both" else by_wantedness(values, ends)


def bars(values: np.ndarray, ends: str) -> tuple[float, float]:
    """(low, high): with the wanted `values` in hand, a further one must be below low or above high."""
    if ends == "magnitude":
        least = float(np.abs(values).min())
        return -least, least
    ranked = np.sort(values)
    half = {"largest": 0, "smallest": len(ranked), "both": len(ranked) // 2}[ends]
    low = float(ranked[half - 1]) if half else -np.inf
    high = float(ranked[half]) if half < len(ranked) else np.inf
    return low, high


def evidence(bar: float, ritz_values: np.ndarray, betas: np.ndarray) -> float:
    """ln(|p(t)|/‖p(A)g‖) for the Lanczos polynomial p of a random unit start g, with t a little inside `bar`.

    p(t) = Π(t − θ_i) and ‖p(A)g‖ = Πβ_i. An eigenvalue beyond t whose eigenvector has component γ in g obeys
    |γ||p(t)| ≤ ‖p(A)g‖ (van Dorsselaer, Hochstenbach & van der Vorst 2000, section 3). -∞ when a Ritz value
    is beyond t. t is the bar moved by INSIDE of its distance to the mean Ritz value, because a chain that is
    orthogonal to a part of an eigenvector sees its eigenvalue moved so.
    """
    if np.isinf(bar):
        return np.inf
    centre = float(ritz_values.mean())
    t = bar - INSIDE * (bar - centre)
    if ((ritz_values - t) * (bar - centre) >= 0).any():
        return -np.inf
    return float(np.log(np.abs(t - ritz_values)).sum() - np.log(betas).sum())


def evidence_needed(dimension: int) -> float:
    """Evidence at which a Gaussian start in `dimension` dimensions misses an eigenvector with probability MISS."""
    return float(np.log(dimension**0.5 / (MISS * (np.pi / 2) ** 0.5)))
