"""Minimise a function inside a box with SciPy's L-BFGS-B: float64 on the host, f wherever it lives."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from landscape.aliases import Vector

Objective = Callable[[Tensor], tuple[float, Tensor]]


def minimise(objective: Objective, radius: Vector, start: Vector, iterations: int, memory: int = 10) -> int:
    """Run L-BFGS-B from `start` inside |z_i| ≤ radius_i; returns the number of iterations taken.

    objective(z) gives (F, ∇F) and keeps what its caller wants kept. The tolerances are zero: with SciPy's
    defaults a start at a minimum ends at iteration 0. Where F is not finite, SciPy is told a value above
    all it has seen.
    """
    highest = -math.inf
    half = radius.double().cpu().numpy()

    def on_host(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal highest
        point = torch.as_tensor(z).to(radius.device, radius.dtype)
        value, gradient = objective(torch.clamp(point, -radius, radius))
        if not math.isfinite(value):
            known = highest if math.isfinite(highest) else 0.0
            return known + 1 + abs(known), np.zeros_like(z)
        highest = max(highest, value)
        return value, gradient.double().cpu().numpy()

    begin = np.clip(start.double().cpu().numpy(), -half, half)
    result = minimize(
        on_host, begin, jac=True, method="L-BFGS-B", bounds=np.stack([-half, half], 1),
        options={"maxiter": iterations, "maxcor": memory, "ftol": 0.0, "gtol": 0.0},
    )  # fmt: skip
    return int(result.nit)
