"""The checkpoints of one training, one after the other: sharpness, edge of stability, distance from the start."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan

import numpy as np
import torch
from torch import Tensor

from landscape import hessian, trace
from landscape.aliases import Vector
from landscape.errors import InputError, illegal
from landscape.problem import Problem
from landscape.results import HessianResult, TrackResult
from landscape.spec import HessianSpec, TraceSpec, TrackSpec
from landscape.track_resume import Rows, Step, resumed

Progress = Callable[[int, int | None, str], object]


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint of the series, read only when its turn comes.

    label: its name. digest: what it holds, so that a series finds its own file again. state: gives the model's whole
    state dict. taken: how the optimiser stepped there. trouble: why it has no usable weights; then `state` is
    never called.
    """

    label: str
    digest: str
    state: Callable[[], Mapping[str, Tensor]]
    step: float = nan
    epoch: float = nan
    taken: Step = Step()
    trouble: str = ""


def measure(
    problem: Problem,
    spec: TrackSpec,
    snapshots: Sequence[Snapshot],
    initial: Snapshot | None = None,
    *,
    partial: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TrackResult:
    """λ₁ … λₖ, loss, ‖∇f‖₂, ‖w_t − w_0‖₂ and, when asked for, the trace at every snapshot, on the problem's data.

    snapshots: in the order of their steps (or epochs); each is measured with `problem.with_state`, so that data and
    loss are prepared once. initial: w_0, default the first snapshot. The eigenvectors of one snapshot start the
    search at the next (`spec.warm`). A snapshot without usable weights or with a loss that is not finite gets a
    line in `troubles` and NaN, and the series goes on.

    partial: a result file, written after every snapshot. A series that finds its own file there goes on from it, and
    ends with the same numbers as one never interrupted; it may have grown at its end. progress(snapshots done, in
    all, note) is called at every look.

    Raises `InputError`: fewer than two snapshots, no order among them, none usable, another series' result at
    `partial` without `overwrite`.
    """
    _check(snapshots)
    origin = initial or next(snapshot for snapshot in snapshots if not snapshot.trouble)
    first = problem.with_state(origin.state())
    start = first.weights
    count = min(spec.count, problem.weights.numel())
    named = "the initial weights" if initial is not None or origin.step == 0 else f"the checkpoint {origin.label}"
    conditions = {**problem.conditions(), "initial_sha256": origin.digest, "initial_loss": first.value(start)}
    rows = Rows(
        spec=spec, labels=tuple(s.label for s in snapshots), digests=tuple(s.digest for s in snapshots),
        steps=np.array([s.step for s in snapshots], float), epochs=np.array([s.epoch for s in snapshots], float),
        taken=tuple(s.taken for s in snapshots), count=count, origin=named, conditions=conditions,
    )  # fmt: skip
    rows = resumed(rows, partial, overwrite)
    for number in range(int(rows.done.sum()), len(snapshots)):
        began = time.perf_counter()
        snapshot = snapshots[number]

        def told(_done: int, _total: int | None, note: str, number: int = number) -> None:
            if progress is not None:
                progress(number, len(snapshots), f"{snapshots[number].label} {note}")

        told(0, None, "")
        if snapshot.trouble:
            rows.fail(number, snapshot.trouble)
        else:
            _measure(problem.with_state(snapshot.state()), spec, number, rows, start, told)
        rows.finish(number, time.perf_counter() - began)
        if partial is not None:
            rows.store(partial)
    if not any(trouble == "" for trouble in rows.troubles):
        raise InputError(f"no checkpoint of the series can be measured; the first: {rows.troubles[0]}")
    return rows.result()


def _measure(problem: Problem, spec: TrackSpec, number: int, rows: Rows, start: Vector, progress: Progress) -> None:
    """One row, and the eigenvectors for the next one."""
    w = problem.weights
    loss, gradient = problem.value_and_gradient(w)
    if not np.isfinite(loss) or not bool(gradient.isfinite().all()):
        rows.fail(number, f"the loss at the weights is {loss}, or its gradient is not finite")
        return
    found = _eigenpairs(problem, spec, rows.vectors, progress)
    row = {
        "losses": loss,
        "accuracies": found.conditions["accuracy"],
        "gradient_norms": gradient.double().norm().item(),
        "distances": (w.double() - start.to(w.device).double()).norm().item(),
        "matvecs": found.matvecs,
    }
    if spec.trace:
        estimate = trace.measure(problem, TraceSpec(tolerance=spec.trace_tolerance, seed=spec.seed), progress=progress)
        row |= {
            "traces": estimate.trace, "trace_errors": estimate.standard_error, "trace_matvecs": estimate.matvecs,
        }  # fmt: skip
    rows.fill(number, row, found)


def _eigenpairs(problem: Problem, spec: TrackSpec, vectors: np.ndarray, progress: Progress) -> HessianResult:
    w = problem.weights
    asked = HessianSpec(
        operator=spec.operator, count=spec.count, tolerance=spec.tolerance, max_matvecs=spec.max_matvecs,
        basis_gib=spec.basis_gib, sampling_error=False, vectors=True, seed=spec.seed,
    )  # fmt: skip
    warm = spec.warm and len(vectors)
    start = torch.from_numpy(vectors).to(w.device, w.dtype) if warm else None
    return hessian.measure(problem, asked, progress=progress, start=start)


def _check(snapshots: Sequence[Snapshot]) -> None:
    if len(snapshots) < 2:
        raise InputError(f"a series needs at least two checkpoints, and this one has {len(snapshots)}. Name more.")
    if all(snapshot.trouble for snapshot in snapshots):
        raise InputError(f"no checkpoint of the series can be measured; the first: {snapshots[0].trouble}")
    for name in ("step", "epoch"):
        places = [getattr(snapshot, name) for snapshot in snapshots]
        if np.isfinite(places).all():
            if any(b <= a for a, b in pairwise(places)):
                raise illegal(f"{name}s", places, "ascending, each once", "Sort the checkpoints, or leave doubles out.")
            return
    raise InputError("every checkpoint of a series needs its step, or every one its epoch. Give the steps.")
