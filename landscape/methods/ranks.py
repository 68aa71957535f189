"""Rank correlation: Kendall's τ_b, also of resampled points, and its average over one factor at a time."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def kendall(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], counts: Int[np.ndarray, "b n"] | None = None
) -> Float[np.ndarray, " b"]:
    """Kendall's τ_b of the points (x_i, y_i), each taken counts[k, i] times; NaN where x or y is constant.

    τ_b = Σ_ij s_ij t_ij / √(Σ_ij s_ij² · Σ_ij t_ij²) with the signs s_ij of x_i − x_j and t_ij of y_i − y_j, each
    pair as often as its points. counts: b resamples, default one that has each point once. Source: Kendall 1945,
    "The treatment of ties in ranking problems".
    """
    weights = np.ones((1, len(x))) if counts is None else counts.astype(float)
    s, t = (np.sign(np.subtract.outer(values, values)) for values in (x, y))
    agreement, in_x, in_y = (((weights @ signs) * weights).sum(1) for signs in (s * t, s * s, t * t))
    size = np.sqrt(in_x * in_y)
    return np.divide(agreement, size, out=np.full(len(weights), np.nan), where=size > 0)


def granulated(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], groups: Sequence[Sequence[int]]
) -> tuple[float, int]:
    """The mean τ_b over groups of points (given by their numbers), and how many of them had one.

    With groups that differ in one factor alone this is ψ_i of Jiang et al. 2020, "Fantastic generalization measures
    and where to find them" (equation 4): a correlation that no other factor can feign.
    """
    found = np.array([kendall(x[list(group)], y[list(group)])[0] for group in groups])
    known = found[np.isfinite(found)]
    return (float(known.mean()) if len(known) else float("nan")), len(known)
