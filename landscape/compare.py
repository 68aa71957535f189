"""Several checkpoints in one table: loss, accuracy, eigenvalues, trace, ε-sharpness, distance from the start."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from landscape import hessian, measures, sharpness, trace
from landscape.errors import InputError, UndefinedError
from landscape.results import ComparisonResult, SharpnessResult
from landscape.spec import CompareSpec, HessianSpec, MeasuresSpec, SharpnessSpec, TraceSpec

if TYPE_CHECKING:
    from landscape.checkpoints import Opened

Column = tuple[float, float]
"""A value and its own error (NaN where it has none)."""


def measure(
    entries: "Iterable[tuple[str, Opened]]",
    spec: CompareSpec,
    sharpness_spec: SharpnessSpec | None = None,
    progress: Callable[..., None] | None = None,
    measures_spec: MeasuresSpec | None = None,
) -> ComparisonResult:
    """One row per (label, checkpoint); equal labels are repetitions (seeds) of one recipe.

    Columns a checkpoint lacks (a distance without initial weights, an accuracy of a regression, a path norm of a
    network with tanh) are NaN; columns that every checkpoint lacks are left out. Errors: the sampling standard
    error of an eigenvalue, the standard error of the trace, the standard deviation over trials of a sharpness.
    measures_spec: further measures (`landscape.measures`), each number a column; Keskar's is `spec.sharpness`.
    Raises `InputError` when there is no checkpoint.
    """
    begun = time.perf_counter()
    rows: list[dict[str, Column]] = []
    labels, names, provenance, settings, undefined = [], [], [], [], []
    conditions: dict = {}
    for number, (label, opened) in enumerate(entries):
        if progress is not None:
            progress(number, None, label)
        row = _row(opened, spec, sharpness_spec or SharpnessSpec())
        others, without = _others(opened, measures_spec or MeasuresSpec())
        rows.append(row | others)
        undefined += [(str(opened.path), name, reason) for name, reason in without]
        labels.append(label)
        names.append(str(opened.path))
        provenance.append(opened.provenance())
        settings.append(opened.settings)
        conditions = opened.main.conditions()
    if not rows:
        raise InputError("compare needs at least one checkpoint. Name files or run folders.")
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    table = np.array([[row.get(name, (np.nan, np.nan)) for name in columns] for row in rows], dtype=float)
    return ComparisonResult(
        labels=tuple(labels), checkpoints=tuple(names), columns=columns, values=table[..., 0], errors=table[..., 1],
        seconds=time.perf_counter() - begun, conditions=conditions, provenance={"rows": provenance},
        settings=tuple(settings), undefined=tuple(undefined),
    )  # fmt: skip


def _row(opened: "Opened", spec: CompareSpec, sharpness_spec: SharpnessSpec) -> dict[str, Column]:
    row: dict[str, Column] = {}
    for split, problem in (("train", opened.train), ("test", opened.test)):
        found = opened.evaluate(split)
        row[f"{split} loss"] = (found.loss, np.nan)
        if found.accuracy == found.accuracy:
            row[f"{split} accuracy (%)"] = (100 * found.accuracy, 100 * _binomial_error(found.accuracy, problem.size))
    problem = opened.main
    if spec.eigenvalues:
        pairs = hessian.measure(problem, HessianSpec(count=spec.eigenvalues))
        for k, (value, error) in enumerate(zip(pairs.eigenvalues, pairs.sampling_errors, strict=True)):
            row[f"λ{k + 1}"] = (value, error)
    if spec.trace:
        estimate = trace.measure(problem, TraceSpec())
        row["trace"] = (estimate.trace, estimate.standard_error)
    if spec.sharpness:
        row |= sharpness_columns(sharpness.measure(problem, sharpness_spec))
    if spec.distance and opened.initial is not None:
        row["distance ‖w−w₀‖"] = ((problem.weights - opened.initial).double().norm().item(), np.nan)
    return row


def _others(opened: "Opened", spec: MeasuresSpec) -> tuple[dict[str, Column], tuple[tuple[str, str], ...]]:
    """The columns of further measures, and (measure, reason) of those that have no meaning for the checkpoint."""
    names = tuple(name for name in spec.measures if name != "keskar")
    if not names:
        return {}, ()
    try:
        found = measures.measure(opened.main, replace(spec, measures=names), initial=opened.initial)
    except UndefinedError as reason:
        return {}, ((", ".join(names), str(reason)),)
    return dict(zip(found.names, zip(found.values, found.errors, strict=True), strict=True)), found.undefined


def _binomial_error(share: float, count: int) -> float:
    return (share * (1 - share) / count) ** 0.5


def sharpness_columns(result: SharpnessResult) -> dict[str, Column]:
    """A sharpness result as named columns: mean over trials, standard deviation over trials."""
    return {
        f"sharpness {space} ε={epsilon:g} (%)": (result.sharpness[i, j], result.deviation[i, j])
        for i, space in enumerate(result.spec.spaces)
        for j, epsilon in enumerate(result.spec.epsilons)
    }
