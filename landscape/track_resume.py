"""The rows of a series under way: kept in a result file, taken up again, refused when the series is another one."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.methods.log_fit import fit_logarithm
from landscape.methods.stability import gradient_descent_edge, sharpness_aware_edge
from landscape.results import HessianResult, TrackResult, load, save
from landscape.spec import TrackSpec

_NUMBERS = ("losses", "accuracies", "gradient_norms", "distances", "traces", "trace_errors", "durations")
_COUNTS = ("matvecs", "trace_matvecs")
_PAIRS = ("eigenvalues", "residuals")
_DERIVED = ("learning_rate", "momentum", "rho", "fit_from", "fit_until")
"""Settings that change what is made of the measurements, and none of them."""


@dataclass(frozen=True)
class Step:
    """How the optimiser stepped when it wrote a checkpoint.

    learning_rate: NaN where unknown. obstacle: why no edge of stability is known for it, "" for gradient descent
    and, with rho > 0, SAM. weight_decay: of the L2 penalty.
    """

    learning_rate: float = nan
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    rho: float = 0.0
    obstacle: str = ""


@dataclass
class Rows:
    """What a series asks for, and the numbers of the checkpoints that are done. Arrays as in `TrackResult`."""

    spec: TrackSpec
    labels: tuple[str, ...]
    digests: tuple[str, ...]
    steps: np.ndarray
    epochs: np.ndarray
    taken: tuple[Step, ...]
    count: int
    origin: str
    conditions: Mapping[str, Any]
    arrays: dict[str, Any] = field(init=False)
    done: np.ndarray = field(init=False)
    troubles: list[str] = field(init=False)
    vectors: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        size = len(self.labels)
        self.arrays = {name: np.full(size, nan) for name in _NUMBERS}
        self.arrays |= {name: np.zeros(size, np.int64) for name in _COUNTS}
        self.arrays |= {name: np.full((size, self.count), nan) for name in _PAIRS}
        self.arrays["converged"] = np.zeros((size, self.count), bool)
        self.done = np.zeros(size, bool)
        self.troubles = [""] * size
        self.vectors = np.zeros((0, 0), np.float32)
        self.taken = tuple(_overridden(step, self.spec) for step in self.taken)

    def fail(self, number: int, trouble: str) -> None:
        self.troubles[number] = trouble

    def fill(self, number: int, row: Mapping[str, float], found: HessianResult) -> None:
        for name, value in row.items():
            self.arrays[name][number] = value
        for name in (*_PAIRS, "converged"):
            self.arrays[name][number] = getattr(found, name)
        self.vectors = found.vectors

    def finish(self, number: int, seconds: float) -> None:
        self.arrays["durations"][number] = seconds
        self.done[number] = True

    def result(self) -> TrackResult:
        """The record of what is done so far, with edges and fit."""
        rates = np.array([step.learning_rate for step in self.taken], float)
        rhos = np.array([step.rho for step in self.taken], float)
        edges = np.array([_edge(step) for step in self.taken], float)
        norms = self.arrays["gradient_norms"]
        sam_edges = [
            sharpness_aware_edge(edge, rho, norm) if rho > 0 and np.isfinite(norm) else nan
            for edge, rho, norm in zip(edges, rhos, norms, strict=True)
        ]
        complete = bool(self.done.all())
        where = self.steps if np.isfinite(self.steps).all() else self.epochs
        fit = fit_logarithm(where, self._fitted(), self.spec.fit_from, self.spec.fit_until)
        return TrackResult(
            spec=self.spec, labels=self.labels, digests=self.digests, steps=self.steps, epochs=self.epochs,
            learning_rates=rates, rhos=rhos, edges=edges, sam_edges=np.array(sam_edges, float),
            done=self.done.copy(), troubles=tuple(self.troubles), origin=self.origin, edge_formula=_formula(self.taken),
            fit=(fit.intercept, fit.slope), fit_r2=fit.r2, fit_range=fit.range, fit_points=fit.points,
            vectors=np.zeros((0, 0), np.float32) if complete else self.vectors, conditions=self.conditions,
            seconds=float(np.nansum(self.arrays["durations"])),
            **{name: array.copy() for name, array in self.arrays.items()},
        )  # fmt: skip

    def _fitted(self) -> np.ndarray:
        """The distances, without that of w_0 from itself, which lies at t = 0 whatever its number."""
        distances = self.arrays["distances"]
        return np.where(distances > 0, distances, nan)

    def store(self, path: str | os.PathLike[str]) -> None:
        save(self.result(), path)


def _overridden(step: Step, spec: TrackSpec) -> Step:
    """The step with what the spec says in place of what the run recorded."""
    values = {name: getattr(step, name) for name in (item.name for item in fields(step))}
    asked = {"learning_rate": spec.learning_rate, "momentum": spec.momentum, "rho": spec.rho}
    return Step(**{**values, **{name: value for name, value in asked.items() if value is not None}})


def _edge(step: Step) -> float:
    if step.obstacle:
        return nan
    return gradient_descent_edge(step.learning_rate, step.momentum, step.nesterov, step.weight_decay)


def _formula(taken: tuple[Step, ...]) -> str:
    """What the edges are, in words; why there are none, if so."""
    obstacles = [step.obstacle for step in taken if step.obstacle]
    if obstacles:
        return obstacles[0]
    known = [step for step in taken if step.learning_rate > 0]
    if not known:
        return "no learning rate is known"
    momentum, nesterov = any(s.momentum for s in known), any(s.nesterov for s in known)
    edge = "(2+2β)/((1+2β)η)" if nesterov else "(2+2β)/η" if momentum else "2/η"
    if momentum and len(betas := {s.momentum for s in known}) == 1:
        edge += f", β = {betas.pop():g}"
    return edge + (", less weight decay" if any(s.weight_decay for s in known) else "")


def resumed(rows: Rows, path: str | os.PathLike[str] | None, fresh: bool) -> Rows:
    """The rows to start from: with those in the file at `path` if there is one and it is not to be replaced.

    Raises `InputError` when that file is not a result of this series or of its beginning.
    """
    if path is None or fresh or not Path(path).exists():
        return rows
    found = load(path)
    if not isinstance(found, TrackResult):
        raise InputError(f"{path} holds a {found.kind} result, not a series to continue. Choose another file.")
    if different := _differences(found, rows):
        raise InputError(
            f"{path} holds another series ({'; '.join(different[:3])}). "
            "Repeat the settings it was made with, choose another file, or overwrite it."
        )
    kept = len(found.labels)
    for name, array in rows.arrays.items():
        array[:kept] = getattr(found, name)
    rows.done[:kept] = found.done
    rows.troubles[:kept] = found.troubles
    rows.vectors = found.vectors
    return rows


def _differences(found: TrackResult, rows: Rows) -> list[str]:
    """In words, how the measurements in a file differ from those of the beginning of this series."""
    kept = len(found.labels)
    old = {**found.spec.to_dict(), **found.conditions, "origin": found.origin, "digests": found.digests}
    new = {**rows.spec.to_dict(), **rows.conditions, "origin": rows.origin, "digests": rows.digests[:kept]}
    for name in ("steps", "epochs"):
        old[name], new[name] = repr(getattr(found, name).tolist()), repr(getattr(rows, name)[:kept].tolist())
    old, new = json.loads(json.dumps(old)), json.loads(json.dumps(new))
    return [
        f"{name}: {_brief(old.get(name))} in the file, {_brief(new.get(name))} now"
        for name in dict.fromkeys([*old, *new])
        if name not in _DERIVED and not _agree(old.get(name), new.get(name))
    ]


def _agree(a: Any, b: Any) -> bool:
    """Equal, NaN included; numbers up to what rounding in another run on the same device can do to a loss."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b) or math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9)
    return a == b


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
