"""Minimise a function inside a box with SciPy's L-BFGS-B: float64 on the host, f wherever it lives."""

import math
import threading
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from landscape.aliases import Vector
from landscape.methods.lockstep import Method


class _AbandonedError(Exception):
    """Raised inside SciPy when nobody will evaluate any more."""


def minimise(radius: Vector, start: Vector, iterations: int, memory: int = 10) -> Method[int]:
    """Run L-BFGS-B from `start` inside |z_i| ≤ radius_i; returns the number of iterations taken.

    Yields points z and is sent (F, ∇F) there. SciPy calls where a generator yields, so that it runs in a thread of
    its own, which waits while others work. The tolerances are zero: with SciPy's defaults a start at a minimum ends
    at iteration 0. Where F is not finite, SciPy is told a value above all it has seen.
    """
    half = radius.double().cpu().numpy()
    begin = np.clip(start.double().cpu().numpy(), -half, half)
    asked: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    told: SimpleQueue[tuple[float, np.ndarray] | None] = SimpleQueue()

    def on_host(z: np.ndarray) -> tuple[float, np.ndarray]:
        asked.put(("point", z.copy()))
        answer = told.get()
        if answer is None:
            raise _AbandonedError
        return answer

    def work() -> None:
        try:
            result = minimize(
                on_host, begin, jac=True, method="L-BFGS-B", bounds=np.stack([-half, half], 1),
                options={"maxiter": iterations, "maxcor": memory, "ftol": 0.0, "gtol": 0.0},
            )  # fmt: skip
            asked.put(("end", int(result.nit)))
        except _AbandonedError:
            pass
        except BaseException as error:  # to be raised where the thread was started
            asked.put(("error", error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    highest = -math.inf
    try:
        while True:
            kind, content = asked.get()
            if kind == "end":
                return content
            if kind == "error":
                raise content
            point = torch.as_tensor(content).to(radius.device, radius.dtype)
            value, gradient = yield torch.clamp(point, -radius, radius)
            if not math.isfinite(value):
                known = highest if math.isfinite(highest) else 0.0
                told.put((known + 1 + abs(known), np.zeros_like(content)))
                continue
            highest = max(highest, value)
            told.put((value, gradient.double().cpu().numpy()))
    finally:
        told.put(None)
        thread.join()
