"""The Hessian's trace at equal budgets of products: ours against curvlinops and hessian-eigenthings, if installed.

All contenders use our products. error: root mean square over seeds, relative to the truth, which is the exact
diagonal in float64 for the digits perceptron and a long run of our own for the GPT, ten times as accurate as the
errors it judges. `coverage`: how often the truth lies in our 95 % interval. With --quick fewer seeds and no GPT.
"""

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from benchmarks.harness import conditions, report
from benchmarks.models import digits_problem, gpt, gpt_problem
from landscape import seeds, trace
from landscape.aliases import Matvec
from landscape.blocks import exact_block
from landscape.problem import Problem
from landscape.spec import TraceSpec

BUDGETS = (30, 60, 90)
Estimator = Callable[[Matvec, int, int, int], float]
"""(product, n, budget, seed) -> trace"""


def exact_trace(problem: Problem) -> float:
    """The sum of all the diagonal blocks' diagonals, n products."""
    names = problem.named(problem.weights)
    return sum(exact_block(problem, name).trace().item() for name in names)


def peers() -> dict[str, Estimator]:
    """Estimators of other packages on a product of ours; of those that are installed."""
    found: dict[str, Estimator] = {}
    if find_spec("curvlinops"):
        from curvlinops import hutchinson_trace, hutchpp_trace, xtrace
        from curvlinops.examples import PyTorchLinearOperator  # pyright: ignore

        class Operator(PyTorchLinearOperator):
            """A symmetric product as curvlinops wants it."""

            SELF_ADJOINT = True
            dtype, device = torch.float32, torch.device("cpu")

            def __init__(self, matvec: Matvec, n: int):
                super().__init__([(n,)], [(n,)])
                self.matvec = matvec

            def _matmat(self, M: list[torch.Tensor]) -> list[torch.Tensor]:
                return [torch.stack([self.matvec(v) for v in M[0].T], 1)]

        def curvlinops(function: Callable, multiple: int) -> Estimator:
            def run(matvec: Matvec, n: int, budget: int, seed: int) -> float:
                with seeds.global_stream(seed, "peer"):
                    return float(function(Operator(matvec, n), budget - budget % multiple))

            return run

        found |= {
            "curvlinops hutchinson": curvlinops(hutchinson_trace, 1),
            "curvlinops hutchpp": curvlinops(hutchpp_trace, 3),
            "curvlinops xtrace": curvlinops(xtrace, 2),
        }
    if find_spec("hessian_eigenthings"):
        from hessian_eigenthings.algorithms.trace import trace as eigenthings_trace
        from hessian_eigenthings.operators.base import LambdaOperator

        def eigenthings(matvec: Matvec, n: int, budget: int, seed: int) -> float:
            return eigenthings_trace(LambdaOperator(matvec, n), num_matvecs=budget, seed=seed).estimate

        found["eigenthings hutch++"] = eigenthings
    return found


def compare(problem: Problem, truth: float, what: str, repeats: int, others: dict[str, Estimator]) -> list[dict]:
    """One row of results for each budget; seconds are those of a run."""
    n, rows = problem.weights.numel(), []
    for budget in BUDGETS:
        spec = {"max_matvecs": budget, "tolerance": 1e-9}
        covered = []

        def ours(matvec: Matvec, n: int, budget: int, seed: int, spec: Any = spec, covered: Any = covered) -> float:
            found = trace.measure(problem, TraceSpec(seed=seed, **spec))
            covered.append(found.interval[0] <= truth <= found.interval[1])
            return found.trace

        table: dict[str, dict[str, float]] = {}
        for name, run in {"ours": ours, **others}.items():
            matvec, begun = problem.hessian(problem.weights), time.perf_counter()
            errors = np.array([run(matvec, n, budget, seed) / truth - 1 for seed in range(repeats)])
            seconds = (time.perf_counter() - begun) / repeats
            table[name] = {"seconds": seconds, "error": float(np.sqrt((errors**2).mean())), "products": budget}
        first = table.pop("ours") | {"coverage": float(np.mean(covered))}
        best = min((row["error"] for row in table.values()), default=float("nan"))
        rows.append({
            "name": "trace", "problem": f"{what}, n = {n}, {budget} products, {repeats} seeds", "ours": first,
            "peers": table, "ratio": best / first["error"] if table else None,
            "conditions": {"ratio": "smallest error of a peer / ours, at equal products", **conditions()},
        })  # fmt: skip
        _show(rows[-1])
    return rows


def _show(row: dict[str, Any]) -> None:
    if "--json" in sys.argv:
        report([row])
        return
    print(f"\ntrace: {row['problem']}")
    for name, found in {"ours": row["ours"], **row["peers"]}.items():
        print(f"  {name:24} error {100 * found['error']:6.2f} %  {found['seconds']:7.2f} s")
    print(f"  our interval held the truth in {100 * row['ours']['coverage']:.0f} %", flush=True)


def to_one_percent(problem: Problem, truth: float, repeats: int) -> None:
    """Products for a standard error of 1 %, and how often the truth lies within two of them and in the interval."""
    found = [trace.measure(problem, TraceSpec(tolerance=0.01, seed=seed)) for seed in range(repeats)]
    products = np.array([one.matvecs for one in found])
    errors = np.array([abs(one.trace - truth) / one.standard_error for one in found])
    inside = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found])
    print(
        f"digits, 1 % standard error, {repeats} seeds: products median {np.median(products):.0f}, most "
        f"{products.max()}; truth within 2 standard errors in {100 * np.mean(errors <= 2):.1f} %, in the 95 % "
        f"interval in {100 * inside:.1f} %",
        file=sys.stderr,
    )


def main() -> None:
    quick = "--quick" in sys.argv
    exact = exact_trace(digits_problem(torch.float64))
    digits = digits_problem(torch.float32)
    to_one_percent(digits, exact, 20 if quick else 200)
    compare(digits, exact, "digits MLP, float32", 5 if quick else 50, peers())
    if not quick:
        problem = gpt_problem(gpt(), torch.float32)
        spec = TraceSpec(tolerance=1e-9, max_matvecs=2000, seed=10**6, memory_gib=6.0)
        found = trace.measure(problem, spec)
        print(f"GPT: trace {found.trace:.6g} ± {found.standard_error:.2g}", file=sys.stderr)
        compare(problem, found.trace, "GPT on tinyshakespeare, float32", 10, peers())


if __name__ == "__main__":
    sys.exit(main())
