"""What Keskar's φ depends on: iterations, restarts, arithmetic, the law of A's columns and their number p.

Two minima of the demo's network, a small-batch and a large-batch one, are measured with one setting changed at a
time. So that it is seen what the whole search adds, one L-BFGS-B climb from one jittered start is measured too.

    python -m landscape.study_keskar FOLDER RESULT
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape import demo, seeds, sharpness
from landscape.aliases import Vector
from landscape.checkpoints import open_checkpoint
from landscape.methods import scipy_box
from landscape.methods.box_record import Record
from landscape.methods.box_search import CONVERGED, plain_climb
from landscape.methods.lockstep import alone
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.results import DependenceResult, save
from landscape.spec import SharpnessSpec

LABELS = ("small batch", "large batch")
DTYPES = ("float32", "float64")
SPEC = SharpnessSpec(epsilons=(1e-3,))

Report = Callable[..., None]


@dataclass(frozen=True)
class Settings:
    """The values that each setting takes in turn."""

    iterations: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    restarts: tuple[int, ...] = (1, 2, 4, 8)
    laws: tuple[str, ...] = ("gaussian", "unit", "orthonormal")
    dimensions: tuple[int, ...] = (10, 30, 100, 300, 1000)
    dimension_laws: tuple[str, ...] = ("gaussian", "orthonormal")


@dataclass(frozen=True)
class Case:
    """One setting: what is changed, to what, and the measurement that follows."""

    factor: str
    setting: str
    spec: SharpnessSpec
    dtype: str = DTYPES[0]
    search: str = "whole"


@dataclass(frozen=True)
class Found:
    """values: (trials,) φ in percent. converged: share of the trials."""

    values: np.ndarray = field(repr=False)
    converged: float
    evaluations: int


def cases(spec: SharpnessSpec, settings: Settings) -> Iterator[Case]:
    """Every setting in the order of the figure: full space, subspace, then the law of A and p."""
    for space in ("full", "subspace"):
        here = replace(spec, spaces=(space,))
        for count in settings.iterations:
            yield Case("iterations", str(count), replace(here, iterations=count))
        yield Case("iterations", "until converged", replace(here, until_converged=True))
        if space == "full":
            for count in settings.iterations:
                yield Case("iterations", str(count), replace(here, iterations=count), search="climb")
        for count in settings.restarts:
            yield Case("restarts", str(count), replace(here, restarts=count))
        for dtype in DTYPES:
            yield Case("dtype", dtype, here, dtype)
    here = replace(spec, spaces=("subspace",))
    for law in settings.laws:
        yield Case("law", law, replace(here, law=law))
    for law in settings.dimension_laws:
        for count in settings.dimensions:
            yield Case("dimension", str(count), replace(here, law=law, dimension=count))


def measure(
    networks: Mapping[str, Mapping[str, Problem]],
    spec: SharpnessSpec = SPEC,
    settings: Settings | None = None,
    report: Report | None = None,
) -> DependenceResult:
    """φ of each network, {label: {dtype: problem}}, under each setting; ε is the spec's first.

    Settings that agree share their measurement, and all of them their draws of A and of the starts.
    """
    begun = time.perf_counter()
    spec = replace(spec, epsilons=spec.epsilons[:1])
    asked = [(label, case) for label in networks for case in cases(spec, settings or Settings())]
    known: dict[tuple[str, SharpnessSpec, str, str], Found] = {}
    rows = []
    for number, (label, case) in enumerate(asked):
        if report is not None:
            report(number, len(asked), f"{label}, {case.factor} {case.setting}")
        key = label, case.spec, case.dtype, case.search
        if key not in known:
            known[key] = _MEASURED[case.search](networks[label][case.dtype], case.spec)
        rows.append(known[key])
    values = np.stack([found.values for found in rows])
    chosen = [case for _, case in asked]
    return DependenceResult(
        spec=spec, labels=tuple(label for label, _ in asked), factors=tuple(case.factor for case in chosen),
        settings=tuple(case.setting for case in chosen), spaces=tuple(case.spec.spaces[0] for case in chosen),
        laws=tuple(case.spec.law if case.spec.spaces == ("subspace",) else "" for case in chosen),
        searches=tuple(case.search for case in chosen), values=values, sharpness=values.mean(-1),
        deviation=values.std(-1, ddof=1) if spec.trials > 1 else np.full(len(rows), np.nan),
        converged=np.array([found.converged for found in rows]),
        evaluations=np.array([found.evaluations for found in rows]), seconds=time.perf_counter() - begun,
        conditions={label: _conditions(problems) for label, problems in networks.items()},
    )  # fmt: skip


def _conditions(problems: Mapping[str, Problem]) -> dict[str, Any]:
    problem = problems[DTYPES[0]]
    loss, accuracy = problem.evaluate(problem.weights)
    return {**problem.conditions(), "loss": loss, "accuracy": accuracy}


def _whole(problem: Problem, spec: SharpnessSpec) -> Found:
    result = sharpness.measure(problem, spec)
    return Found(result.values[0, 0], float(np.mean(result.conditions["converged"])), result.evaluations)


@full_precision()
def _climb(problem: Problem, spec: SharpnessSpec) -> Found:
    """One climb of SciPy's L-BFGS-B in the full box, from the first of the starts that the whole search has."""
    x = problem.weights
    loss, radius = problem.evaluate(x).loss, spec.epsilons[0] * (x.abs() + 1)

    def function(z: Vector) -> tuple[float, Vector]:
        return problem.value_and_gradient(x + z)

    records = []
    for trial in range(spec.trials):
        rng = seeds.stream(spec.seed, "sharpness", "full", "starts", trial)
        start = 0.1 * seeds.uniform(rng, 1, x.double())[0].to(x.dtype) * radius
        records.append(record := Record(function, radius))
        alone(plain_climb(record, scipy_box.minimise, start, spec.iterations), record)
    rises = np.array([max(record.value - loss, 0.0) for record in records])
    sure = [record.gap() <= CONVERGED * record.rise for record in records]
    return Found(100 * rises / (1 + loss), float(np.mean(sure)), sum(record.evaluations for record in records))


_MEASURED = {"whole": _whole, "climb": _climb}


def run(
    folder: Path, spec: SharpnessSpec = SPEC, settings: Settings | None = None, report: Report | None = None
) -> DependenceResult:
    """Train the networks below `folder` (or find them trained) with seed 0, and measure them."""
    with demo.one_thread():
        networks, provenance = {}, {}
        for label in LABELS:
            run_folder = demo.train_one(folder, label, seed=0)
            opened = {dtype: open_checkpoint(run_folder, replace(demo.PROBLEM, dtype=dtype)) for dtype in DTYPES}
            networks[label] = {dtype: one.main for dtype, one in opened.items()}
            provenance[label] = opened[DTYPES[0]].provenance()
        return replace(measure(networks, spec, settings, report), provenance={"networks": provenance})


if __name__ == "__main__":
    save(run(Path(sys.argv[1]), report=lambda done, total, what: print(f"{done}/{total} {what}")), sys.argv[2])
