"""Several measures of one minimum, in the order they were asked for."""

import time
from collections.abc import Callable

import numpy as np

from landscape.aliases import Vector
from landscape.errors import InputError, UndefinedError
from landscape.measures import (
    average_case,
    curvature,
    first_order,
    fisher_rao,
    keskar,
    margin,
    norms,
    pac_bayes,
    path_norm,
    relative_flatness,
    spectral,
    worst_case,
)
from landscape.measures.row import Row, Subject
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.results import MeasuresResult
from landscape.spec import MeasuresSpec, SharpnessSpec

Progress = Callable[[int, int | None, str], object]

FILES: dict[str, Callable[[Subject], list[Row]]] = {
    "keskar": keskar.rows,
    "worst-case": worst_case.rows,
    "average-case": average_case.rows,
    "first-order": first_order.rows,
    "pac-bayes": pac_bayes.rows,
    "relative-flatness": relative_flatness.rows,
    "eigenvalues": curvature.eigenvalue_rows,
    "trace": curvature.trace_rows,
    "norm": norms.norm_rows,
    "distance": norms.distance_rows,
    "spectral-norms": spectral.rows,
    "path-norm": path_norm.rows,
    "fisher-rao": fisher_rao.rows,
    "margin": margin.rows,
}


@full_precision()
def measure(
    problem: Problem,
    spec: MeasuresSpec,
    weights: Vector | None = None,
    initial: Vector | None = None,
    keskar: SharpnessSpec | None = None,
    progress: Progress | None = None,
) -> MeasuresResult:
    """The measures that `spec` names, at `weights` (n,), default the problem's own.

    initial: w₀ (n,), for the distance. keskar: the spec of Keskar's measure. progress(done, total, what) is called
    as the work goes on. A measure that has no meaning for this model, loss or data gives no number, and `undefined` of
    the result says why. Raises `InputError` when the loss at the weights is not finite or an option is not legal, and
    `UndefinedError` when no measure at all gives a number.
    """
    began = time.perf_counter()
    w = problem.weights if weights is None else weights
    loss, accuracy = problem.evaluate(w)
    if not np.isfinite(loss):
        raise InputError(f"the loss at the weights is {loss}: sharpness needs a finite one. Check weights and data.")
    rows: list[Row] = []
    groups: list[str] = []
    undefined: dict[str, str] = {}
    names = tuple(dict.fromkeys(spec.measures))
    if "relative-flatness" in names:
        relative_flatness.asked_layer(problem, w, spec.layer)  # a wrong name ends here, not after the other measures
    for done, name in enumerate(names):

        def watch(what: str, done: int = done, name: str = name) -> None:
            if progress is not None:
                progress(done, len(names), f"{name}: {what}" if what else name)

        watch("")
        subject = Subject(problem, w, loss, accuracy, spec, keskar or SharpnessSpec(), initial, watch)
        try:
            found = FILES[name](subject)
        except UndefinedError as reason:
            undefined[name] = str(reason)
            continue
        rows += found
        groups += [name] * len(found)
    if undefined and not rows:
        raise UndefinedError(" ".join(undefined.values()))
    return MeasuresResult(
        spec=spec, loss=loss, seconds=time.perf_counter() - began,
        conditions={**problem.conditions(), "accuracy": accuracy},
        names=tuple(row.name for row in rows), groups=tuple(groups),
        values=np.array([row.value for row in rows]), errors=np.array([row.error for row in rows]),
        certificates=tuple(dict(row.certificate) for row in rows), invariant=tuple(row.invariant for row in rows),
        undefined=tuple(undefined.items()),
    )  # fmt: skip
