"""The straight line through distances against the logarithm of time."""

from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Float

FEWEST = 3
"""Through two points a line always goes: R² would say nothing."""


@dataclass(frozen=True)
class LogFit:
    """y ≈ intercept + slope·ln t over `points` points with t in `range`; r2 = 1 − Σ(y − fit)²/Σ(y − mean)²."""

    intercept: float = nan
    slope: float = nan
    r2: float = nan
    range: tuple[float, float] = (nan, nan)
    points: int = 0


def fit_logarithm(
    t: Float[np.ndarray, " T"], y: Float[np.ndarray, " T"], first: float | None = None, last: float | None = None
) -> LogFit:
    """Least squares of y on ln t over finite points with t > 0 and first ≤ t ≤ last; NaN for fewer than three.

    Source: Hoffer, Hubara & Soudry 2017 (arXiv 1705.08741), for y = ‖w_t − w_0‖.
    """
    used = np.isfinite(t) & np.isfinite(y) & (t > 0)
    used &= (t >= (first or 0)) & (t <= (np.inf if last is None else last))
    if used.sum() < FEWEST:
        return LogFit(points=int(used.sum()))
    times, values = np.log(t[used]), y[used]
    design = np.stack([np.ones_like(times), times], 1)
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    rest, spread = ((values - design @ coefficients) ** 2).sum(), ((values - values.mean()) ** 2).sum()
    r2 = 1 - rest / spread if spread > 0 else nan
    intercept, slope = map(float, coefficients)
    return LogFit(intercept, slope, float(r2), (float(t[used].min()), float(t[used].max())), int(used.sum()))
