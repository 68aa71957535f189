"""λ1 … λ5 of ResNet-20 to 1 % of λ1, certified on all images: progressive sampling against plain Lanczos.

work: everything in products with all images; error: largest |λ − λ(plain)| / λ1, within what the two residuals allow.
`python -m benchmarks.progressive [--examples 10000] [--json]`. At 10,000 images a run takes half an hour on a CPU.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness import conditions, options, report
from benchmarks.models import resnet20_problem
from landscape import hessian
from landscape.errors import InputError
from landscape.problem import Problem
from landscape.results import HessianResult
from landscape.spec import HessianSpec


def compare(problem: Problem, count: int = 5, tolerance: float = 1e-2) -> dict[str, Any]:
    """One run of each, as DESIGN's object; no repeats, because the work is counted and not timed."""
    spec = HessianSpec(count=count, tolerance=tolerance, sampling_error=False)
    found: dict[bool, HessianResult] = {}
    seconds = {}
    for progressive in (True, False):
        begun = time.perf_counter()
        found[progressive] = hessian.measure(problem, HessianSpec(**{**spec.to_dict(), "progressive": progressive}))
        seconds[progressive] = time.perf_counter() - begun
    apart = float(np.abs(found[True].eigenvalues - found[False].eigenvalues).max() / found[False].scale)

    def row(progressive: bool, work: float) -> dict[str, Any]:
        result = found[progressive]
        return {
            "seconds": seconds[progressive], "error": apart, "work": work,
            "bound": float(result.residuals.max() / result.scale), "converged": bool(result.converged.all()),
        }  # fmt: skip

    c = found[True].conditions
    ours = {**row(True, c["work"]), "sample": c["sample"], "coverage": c["coverage"]}
    return {
        "name": "progressive", "problem": f"top {count} to {tolerance:g}, {problem.size} examples, float32",
        "ours": ours, "peers": {"plain Lanczos": row(False, found[False].matvecs)},
        "ratio": found[False].matvecs / c["work"],
        "conditions": {**conditions(), "ratio_of": "work", "engine": c["engine"]},
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__, (), argv, examples={"type": int, "default": 10000, "help": "training images"})
    try:
        problem = resnet20_problem(chosen.examples)
    except InputError as reason:
        print(f"progressive is skipped: {reason}", file=sys.stderr)
        return
    report([compare(problem)], chosen.json)


if __name__ == "__main__":
    main()
