"""Full-space ε-sharpness of Keskar's F1 on all 60,000 images of MNIST: our maximiser's own work, and SciPy's maximum.

own share: time of our maximiser outside loss and gradient, as a share of the time inside. SciPy's `fmin_l_bfgs_b` gets
the same box, the centre as its start (moved a little, for it stops at iteration 0 at a minimum), and as many
evaluations as we took. Needs `mnist` in the folder LANDSCAPE_DATA. `--wide` adds the own work at n = 10⁷, where the
function's time is that of evaluations of a network of as many weights on the same images.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import fmin_l_bfgs_b
from torch import Tensor

from benchmarks.harness import conditions, note
from landscape import seeds
from landscape.checkpoints import prepare
from landscape.data import batches, subset
from landscape.losses import loss_by_name
from landscape.methods.box import BoxMaximum, maximise_in_box
from landscape.models import build_model
from landscape.problem import Problem
from landscape.spec import ProblemSpec, TrainSpec
from landscape.training.run import train

EPSILONS, ITERATIONS = (1e-3, 5e-4), 10
WIDE = "2900,2600"
BATCH = 2000


class Timed:
    """A function with the seconds spent in it."""

    def __init__(self, function: Callable[[Tensor], tuple[float, Tensor]]):
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, z: Tensor) -> tuple[float, Tensor]:
        begun = time.perf_counter()
        found = self.function(z)
        self.seconds += time.perf_counter() - begun
        self.calls += 1
        return found


def f1_problem(examples: int | None) -> Problem:
    """F1 after two epochs of Adam on MNIST."""
    spec = ProblemSpec(model="f1", data="mnist")
    model, dataset = prepare(spec, seed=0)
    trained = train(model, dataset, TrainSpec(epochs=2, batch_size=256, optimiser="adam", learning_rate=1e-3))
    data = batches(subset(dataset.train, examples or len(dataset.train), 0), BATCH)
    return Problem(trained.model, loss_by_name("cross_entropy"), data)


def maximised(function: Timed, radius: Tensor) -> tuple[BoxMaximum, float]:
    """Our maximum from the centre, a jittered start and two random corners, as a trial has them; and its seconds."""
    start = seeds.uniform(seeds.stream(0, "start"), 1, radius) * 0.1 * radius
    corners = seeds.rademacher(seeds.stream(0, "corners"), 2, radius) * radius
    begun = time.perf_counter()
    found = maximise_in_box(function, radius, start, ITERATIONS, corners)
    return found, time.perf_counter() - begun


def against_scipy(problem: Problem, epsilon: float) -> dict:
    w = problem.weights
    base, radius = problem.value(w), epsilon * (w.abs() + 1)
    ours = Timed(lambda z: problem.value_and_gradient(w + z))
    found, seconds = maximised(ours, radius)
    best = [base]

    def negative(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.value_and_gradient(w + torch.from_numpy(z).to(w))
        best[0] = max(best[0], value)
        return -value, -gradient.double().numpy()

    half = radius.double().numpy()
    start = seeds.uniform(seeds.stream(0, "start"), 1, radius)[0].double().numpy() * 0.1 * half
    begun = time.perf_counter()
    *_, details = fmin_l_bfgs_b(
        negative, start, bounds=list(zip(-half, half, strict=True)), maxfun=ours.calls, maxiter=10**6, factr=0, pgtol=0
    )
    return {
        "epsilon": epsilon, "parameters": len(w), "examples": problem.size, "loss": base, "seconds": seconds,
        "evaluations": ours.calls, "own_share": (seconds - ours.seconds) / ours.seconds, "maximum": found.value,
        "converged": found.converged, "scipy_maximum": best[0], "scipy_evaluations": details["funcalls"],
        "scipy_seconds": time.perf_counter() - begun,
    }  # fmt: skip


def own_work(examples: int | None) -> dict:
    """The own work at n = 10⁷ on a cheap function, against the evaluation of a network of as many weights."""
    model = build_model("mlp", (("widths", WIDE),), input_shape=(1, 28, 28), outputs=10)
    dataset = prepare(ProblemSpec(model="f1", data="mnist"), seed=0)[1]
    data = batches(subset(dataset.train, examples or len(dataset.train), 0), BATCH)
    problem = Problem(model, loss_by_name("cross_entropy"), data)
    w = problem.weights
    curvature = seeds.uniform(seeds.stream(0, "curvature"), 1, w)[0].exp() * w.new_tensor(1e-2)
    slope = seeds.gaussian(seeds.stream(0, "slope"), 1, w)[0] * 1e-3

    def cheap(z: Tensor) -> tuple[float, Tensor]:
        pull = torch.cos(z.sum())
        return (
            0.5 * (curvature * z * z).sum() + (slope * z).sum() + torch.sin(z.sum())
        ).item(), curvature * z + slope + pull

    function = Timed(cheap)
    _, seconds = maximised(function, EPSILONS[0] * (w.abs() + 1))
    begun = time.perf_counter()
    problem.value_and_gradient(w)
    evaluation = time.perf_counter() - begun
    own = (seconds - function.seconds) / function.calls
    return {"parameters": len(w), "examples": problem.size, "own_seconds": own, "evaluation_seconds": evaluation,
            "own_share": own / evaluation, "evaluations": function.calls}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, help="images of MNIST; default all 60,000")
    parser.add_argument("--epsilon", type=float, action="append", help=f"default {EPSILONS}")
    parser.add_argument("--wide", action="store_true", help="the own work at n = 10⁷, too")
    asked = parser.parse_args()
    problem, found = f1_problem(asked.examples), []
    for epsilon in asked.epsilon or EPSILONS:
        found.append(against_scipy(problem, epsilon))
        note(json.dumps(found[-1]))
    if asked.wide:
        found.append(own_work(asked.examples))
        note(json.dumps(found[-1]))
    print(json.dumps({"name": "keskar_mnist", "rows": found, "conditions": conditions()}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
