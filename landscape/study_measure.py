"""The numbers of one run: what its training recorded, and those of the measurements that a study asks for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape import density, hessian, measures, sharpness, trace
from landscape.checkpoints import Opened
from landscape.compare import sharpness_columns
from landscape.errors import UndefinedError
from landscape.fields import Spec
from landscape.metrics import macro_f1
from landscape.results import (
    DensityResult,
    HessianResult,
    MeasuresResult,
    Result,
    SharpnessResult,
    TraceResult,
    load,
    save,
)
from landscape.spec import MeasuresSpec, SharpnessSpec
from landscape.study_spec import digest

Numbers = dict[str, tuple[float, float]]
"""Name -> value and its own error, NaN where it has none."""

_NONE = float("nan")

Undefined = list[tuple[str, str]]
"""(measure, reason) of those without a meaning for a run."""


def outcome_numbers(opened: Opened, history: Sequence[Mapping[str, Any]], epoch: int) -> Numbers:
    """Loss, accuracy and F1 (mean over classes) at the weights over `opened`'s examples, and where the training stood.

    Its best epoch so far is by test accuracy, or test loss where there is none, as in papers that report a best
    iteration; it flatters.
    """
    found: Numbers = {"epoch": _exact(epoch)}
    for split in ("train", "test"):
        loss, accuracy = opened.evaluate(split)
        found[f"{split} loss"] = _exact(loss)
        if accuracy == accuracy:
            found[f"{split} accuracy (%)"] = _exact(100 * accuracy)
    if opened.dataset.task == "classification":
        found["test F1 (%)"] = _exact(100 * macro_f1(opened.test.outputs_and_targets(opened.test.weights)))
    rows = [row for row in history if row["epoch"] <= epoch]
    if not rows:
        return found
    found |= {"step": _exact(rows[-1]["step"]), "distance ‖w−w₀‖": _exact(rows[-1]["distance"])}
    if rows[-1]["test_accuracy"] is not None:
        best = max(rows, key=lambda row: row["test_accuracy"])
        found |= {"best test accuracy (%)": _exact(100 * best["test_accuracy"]), "best epoch": _exact(best["epoch"])}
    elif rows[-1]["test_loss"] is not None:
        best = min(rows, key=lambda row: row["test_loss"])
        found |= {"best test loss": _exact(best["test_loss"]), "best epoch": _exact(best["epoch"])}
    return found | {"training seconds": _exact(round(sum(row["seconds"] for row in rows), 3))}


def start_numbers(history: Sequence[Mapping[str, Any]], epoch: int) -> Numbers:
    """Loss and accuracy that the run had from which another one starts; none at its initial weights."""
    found: Numbers = {"start epoch": _exact(epoch)}
    for row in (row for row in history if row["epoch"] == epoch):
        found["start train loss"] = _exact(row["train_loss"])
        if row["test_accuracy"] is not None:
            found["start test accuracy (%)"] = _exact(100 * row["test_accuracy"])
    return found


def _exact(value: Any) -> tuple[float, float]:
    return float(value), _NONE


def numbers_of(
    opened: Opened, word: str, spec: Spec, asked: Sequence[tuple[str, Spec]], folder: Path, moment: str
) -> tuple[Numbers, Undefined]:
    """Measure, or read what was measured, and give its numbers; the whole result is a file in `folder`.

    asked: all measurements of the study, from which `measures` takes its Keskar sharpness. What has no meaning for
    the run gives no numbers, but its reason.
    """
    others = [other for name, other in asked if name == "sharpness"] if word == "measures" else []
    name = digest(spec, opened.spec, *others, words=opened.weights_sha256)
    path = folder / f"{word}-{moment}-{name}.safetensors"
    if path.exists():
        result = load(path)
    else:
        keskar: Any = others[0] if others else SharpnessSpec()
        try:
            result = _MEASURES[word](opened, spec, keskar)
        except UndefinedError as error:
            return {}, [(word, str(error))]
        save(result, path, **opened.provenance())
    return _NUMBERS[word](result), list(result.undefined) if isinstance(result, MeasuresResult) else []


def _several(opened: Opened, spec: Any, keskar: Any) -> Result:
    assert isinstance(spec, MeasuresSpec)
    return measures.measure(opened.main, spec, initial=opened.initial, keskar=keskar)


_MEASURES: dict[str, Callable[[Opened, Any, SharpnessSpec], Result]] = {
    "hessian": lambda opened, spec, _: hessian.measure(opened.main, spec),
    "density": lambda opened, spec, _: density.measure(opened.main, spec),
    "trace": lambda opened, spec, _: trace.measure(opened.main, spec),
    "sharpness": lambda opened, spec, _: sharpness.measure(opened.main, spec),
    "measures": _several,
}


def _hessian(result: HessianResult) -> Numbers:
    """λ1 … λk as ordered by the spec's end of the spectrum, with their sampling errors, and the ratio λ1/λ5."""
    names = {"smallest": "λmin"}.get(result.spec.ends, "λ")
    found: Numbers = {
        f"{names}{k}": (float(value), float(error))
        for k, (value, error) in enumerate(zip(result.eigenvalues, result.sampling_errors, strict=True), start=1)
    }
    if result.spec.ends == "largest" and len(result.eigenvalues) >= 5:
        with np.errstate(divide="ignore", invalid="ignore"):
            found["λ1/λ5"] = _exact(result.eigenvalues[0] / result.eigenvalues[4])
    return found | {"unconverged eigenvalues": _exact((~result.converged).sum())}


def _density(result: DensityResult) -> Numbers:
    low, high = result.spectrum.range
    share, error = result.negative_mass()
    return {
        "density λmax": _exact(high), "density λmin": _exact(low),
        "share below zero (%)": (float(100 * share), float(100 * error)),
        "tr H/n": (float(result.moments[0]), float(result.moment_errors[0])),
        "tr H²/n": (float(result.moments[1]), float(result.moment_errors[1])),
    }  # fmt: skip


def _trace(result: TraceResult) -> Numbers:
    return {"trace": (result.trace, result.standard_error)}


def _sharpness(result: SharpnessResult) -> Numbers:
    return {name: (float(value), float(error)) for name, (value, error) in sharpness_columns(result).items()}


def _measures(result: MeasuresResult) -> Numbers:
    return dict(zip(result.names, zip(result.values.tolist(), result.errors.tolist(), strict=True), strict=True))


_NUMBERS: dict[str, Callable[[Any], Numbers]] = {
    "hessian": _hessian,
    "density": _density,
    "trace": _trace,
    "sharpness": _sharpness,
    "measures": _measures,
}
