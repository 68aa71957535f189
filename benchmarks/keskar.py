"""Full-space ε-sharpness of a digits network: our maximiser on the device against SciPy's L-BFGS-B.

error: how far the maximum falls short of the best one found by anybody, relative to the rise of the loss.
"""

import sys

import numpy as np
import torch
from scipy.optimize import Bounds, minimize

from benchmarks.harness import race, report
from benchmarks.models import digits_problem
from landscape import sharpness
from landscape.spec import SharpnessSpec

EPSILON, ITERATIONS = 1e-3, 10


def main() -> None:
    problem = digits_problem(torch.float32)
    w = problem.weights
    base = problem.value(w)
    radius = (EPSILON * (w.abs() + 1)).double().numpy()
    maxima: dict[str, float] = {}

    def ours() -> dict[str, float]:
        spec = SharpnessSpec(epsilons=(EPSILON,), spaces=("full",), trials=1, iterations=ITERATIONS)
        found = sharpness.measure(problem, spec)
        maxima["ours"] = float(found.maxima.max())
        return {"rise": maxima["ours"] - base, "evaluations": found.evaluations, "error": 0.0}

    def scipy(starts: int) -> dict[str, float]:
        def negative(z: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = problem.value_and_gradient(w + torch.from_numpy(z).float())
            return -value, -gradient.double().numpy()

        rng, best, evaluations = np.random.default_rng(0), base, 0
        for start in range(starts):
            z = rng.uniform(-1, 1, len(radius)) * radius * (0.1 if start % 2 == 0 else 1.0)
            options = {"maxiter": ITERATIONS, "ftol": 0.0, "gtol": 0.0}
            done = minimize(negative, z, jac=True, method="L-BFGS-B", bounds=Bounds(-radius, radius), options=options)
            best, evaluations = max(best, -done.fun), evaluations + done.nfev
        top = max(maxima.get("ours", best), best)
        return {"rise": best - base, "evaluations": evaluations, "error": (top - best) / (top - base)}

    peers = {"SciPy, 1 start": lambda: scipy(1), "SciPy, 5 starts": lambda: scipy(5)}
    report([race("keskar", f"full space, ε = {EPSILON:g}, digits MLP, n = {len(w)}, float32", ours, peers, repeats=3)])


if __name__ == "__main__":
    sys.exit(main())
