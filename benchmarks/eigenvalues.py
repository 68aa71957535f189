"""Ten leading Hessian eigenvalues: ours against PyHessian, hessian-eigenthings and curvlinops with ARPACK.

    python -m benchmarks.eigenvalues [mlp] [gpt] [resnet] [--repeats N] [--compiled] [--json]

mlp: a digits perceptron, 1,437 examples. gpt: a trained four-layer transformer, 2,048 characters. resnet: a
public ResNet-20 with 512 images of CIFAR-10. All in float32 on the same batches. error: largest |λ − truth| over
the wanted eigenvalues, relative to λ1, against float64 (`benchmarks/results/reference-*.json`); PyHessian's
are by magnitude, and are judged so. PyHessian runs at its defaults. The others run at the least work, of a
ladder of budgets or tolerances tried on our products, that reaches an error of 1e-5; ours at the loosest
tolerance of a ladder with an error no larger than the best peer's. `ours` starts from nothing, so the recording of
its products counts; `ours, prepared` has them recorded already, as a second measurement at the same weights has;
with --compiled a variant has them compiled, too.
`ours` does what the peers do; `exhaustive`, the default, also looks for copies with a second random start.
"""

import bisect
import copy
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.harness import EQUAL, attempt, available_problems, because, note, options, race, report
from benchmarks.models import digits_problem, gpt, gpt_problem, resnet20_problem
from benchmarks.peers import (
    Found,
    arpack,
    available,
    curvlinops_eigenvalues,
    eigenthings_eigenvalues,
    pyhessian_eigenvalues,
)
from benchmarks.references import Reference, reference
from landscape import hessian
from landscape.aliases import Matvec, Vector
from landscape.problem import Problem
from landscape.products.product import Product
from landscape.spec import HessianSpec

COUNT = 10
PEERS_ERROR = 1e-5
TOLERANCES = tuple(round(a * 10.0**-b, 6) for b in range(2, 6) for a in (10, 7, 5, 3, 2))
STEPS = (20, 25, 30, 35, 40, 45, 50, 55, 60, 70, 80, 100, 130, 160)

SETTINGS: dict[str, Callable[[], Problem]] = {
    "mlp": digits_problem,
    "gpt": lambda: gpt_problem(gpt(), torch.float32, sequences=32),
    "resnet": resnet20_problem,
}


class Prepared(Problem):
    """A problem that gives the same product again and again, so that it is recorded only once."""

    def hessian(self, w: Vector, many: bool = True) -> Product:
        kept = self.__dict__.get("kept")
        if kept is None or kept.w is not w:
            kept = self.__dict__["kept"] = super().hessian(w, many)
        return kept


def prepared(problem: Problem, engine: str = "auto") -> Problem:
    """The problem with its product recorded, and compiled if that is the engine."""
    model = copy.deepcopy(problem.model).requires_grad_(True)
    twin = Prepared(model, problem.loss, problem.batches, problem.batch_norm, engine)
    for _ in range(3):  # the second call records one batch, the third compiles
        twin.hessian(twin.weights)(torch.ones_like(twin.weights))
    return twin


def measured(problem: Problem, tolerance: float, count: int = COUNT, exhaustive: bool = False) -> Found:
    spec = HessianSpec(count=count, tolerance=tolerance, sampling_error=False, exhaustive=exhaustive)
    found = hessian.measure(problem, spec)
    return Found(found.eigenvalues, found.matvecs)


def least(ladder: Sequence[Any], error: Callable[[Any], float], enough: float) -> Any:
    """The first of the ladder whose error is small enough; if none is, the first that is about as good as the last.

    By bisection: errors are taken to fall along the ladder.
    """
    measured = functools.cache(lambda rung: error(ladder[rung]))

    def first(bar: float) -> int:
        return bisect.bisect_left(range(len(ladder)), True, key=lambda rung: measured(rung) <= bar)

    found = first(enough)
    return ladder[found if found < len(ladder) else first(EQUAL * measured(len(ladder) - 1))]


def lanczos_steps(product: Matvec, w: Vector, count: int, truth: Reference) -> int:
    """Steps after which hessian-eigenthings' Lanczos has errors of PEERS_ERROR, found on a product of ours."""
    from hessian_eigenthings import LambdaOperator, lanczos

    operator = LambdaOperator(product, len(w))

    def error(steps: int) -> float:
        found = lanczos(operator, k=count, max_iter=steps, which="LA", seed=0, reorthogonalize=True)
        return truth.error(found.eigenvalues.double().cpu().numpy())

    return least([steps for steps in STEPS if steps >= count], error, PEERS_ERROR)


def arpack_tolerance(product: Matvec, w: Vector, count: int, truth: Reference) -> float:
    """Tolerance at which ARPACK has errors of PEERS_ERROR, found on a product of ours."""

    def error(tolerance: float) -> float:
        return truth.error(arpack(lambda v: product(torch.from_numpy(v)).numpy(), len(w), count, tolerance).eigenvalues)

    return least(TOLERANCES, error, PEERS_ERROR)


def rivals_of(
    problem: Problem, product: Matvec, truth: Reference, count: int
) -> dict[str, Callable[[], dict[str, float]]]:
    """The peers that are installed, each with what it takes to reach PEERS_ERROR."""

    def outcome(found: Found, ends: str = "largest") -> dict[str, float]:
        return {"error": truth.error(found.eigenvalues, ends), "products": found.products}

    w, rivals = problem.weights, {}
    names = available()
    if "pyhessian" in names:
        rivals["PyHessian, its defaults"] = lambda: outcome(pyhessian_eigenvalues(problem, count), "magnitude")
    if "hessian_eigenthings" in names:
        steps = lanczos_steps(product, w, count, truth)
        rivals[f"hessian-eigenthings, {steps} steps"] = lambda: outcome(eigenthings_eigenvalues(problem, count, steps))
    if "curvlinops" in names:
        tolerance = arpack_tolerance(product, w, count, truth)
        rivals[f"curvlinops + ARPACK, tol {tolerance:g}"] = lambda: outcome(
            curvlinops_eigenvalues(problem, count, tolerance)
        )
    return rivals


def compare(
    name: str, problem: Problem, truth: Reference, count: int = COUNT, repeats: int = 3, peers: bool = True,
    compiled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The race on one problem; compiled: with a variant of ours whose products are."""

    def ours(problem: Problem, tolerance: float, exhaustive: bool = False) -> dict[str, float]:
        found = measured(problem, tolerance, count, exhaustive)
        return {"error": truth.error(found.eigenvalues), "products": found.products}

    kept, before = prepared(problem), {}
    rivals = rivals_of(problem, kept.hessian(kept.weights), truth, count) if peers else {}
    for title, run in rivals.items():
        try:
            before[title] = attempt(run)
        except Exception as reason:  # the race will meet it again, and report it
            note(f"{title}: {because(reason)}")
    bar = EQUAL * min((found["error"] for _, found in before.values()), default=PEERS_ERROR)
    tolerance = least(TOLERANCES, lambda x: ours(kept, x)["error"], bar)
    where = (
        f"top {count}, {name}, n = {problem.weights.numel()}, {problem.size} terms, float32, tolerance {tolerance:g}"
    )
    variants = {
        "ours, prepared": lambda: ours(kept, tolerance),
        "ours, exhaustive (default)": lambda: ours(problem, tolerance, exhaustive=True),
    }
    if compiled:
        quick = prepared(problem, "compiled")
        variants["ours, compiled, prepared"] = lambda: ours(quick, tolerance)
    result = race("eigenvalues", where, lambda: ours(problem, tolerance), rivals, repeats, variants, before)
    result["conditions"]["engine"] = kept.hessian(kept.weights).chosen
    if not np.array_equal(truth.largest, truth.magnitude):
        result["conditions"]["note"] = "the leading eigenvalues by magnitude are not the largest"
    return result


def main(argv: Sequence[str] | None = None) -> None:
    also = {"action": "store_true", "help": "ours with compiled products, too (compiling takes minutes)"}
    chosen = options(__doc__, list(SETTINGS), argv, compiled=also)
    for name, problem in available_problems(SETTINGS, chosen.settings):
        truth = reference(name, problem, COUNT)
        report([compare(name, problem, truth, repeats=chosen.repeats, compiled=chosen.compiled)], chosen.json)


if __name__ == "__main__":
    sys.exit(main())
