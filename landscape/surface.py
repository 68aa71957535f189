"""Loss surfaces: train and test loss along a line, an arc or a plane through checkpoints, or a random plane.

Every point is evaluated on the same data in the same order. Batch norm follows the spec's policy:

- "recomputed": the statistics of the training data at each point;
- "interpolated": the checkpoints' statistics, combined like the weights. On lines and planes that is the
  same affine combination. On the arc, means take cos and sin, and everything else their squares, which sum
  to 1 (variances of independent activations). A variance extrapolated below 0 is set to 0, which can make
  the loss beyond the checkpoints very large;
- "running": the statistics of the first checkpoint;
- "batch": each batch's own, which needs problems made with batch_norm="batch".
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import InputError, illegal
from landscape.methods.scan import Index, scan
from landscape.problem import Buffers, Problem
from landscape.results import SurfaceResult
from landscape.surface_geometry import Point, Slice, SurfaceSpec, placed_points, slice_through
from landscape.surface_resume import COLUMNS, Cells, digest, resumed


def measure(
    problem: Problem,
    spec: SurfaceSpec,
    points: Sequence[Point],
    test: Problem | None = None,
    *,
    partial: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    save_every: float = 1.0,
) -> SurfaceResult:
    """Loss and accuracy of `problem` (training data) and `test` on the grid that `spec` describes.

    LineSpec: f((1−α)·w₀ + α·w₁), or the arc f(sin(απ/2)·w₁ + cos(απ/2)·w₀), of two points (Keskar et al.
    2017, section 2.2.1). PlaneSpec: f(w₀ + x·u + y·v), u and v orthonormal in the plane of three points.
    AxesSpec: f(w₀ + x·d₁ + y·d₂) around one point, d Gaussian and rescaled (Li et al. 2018, section 4).

    partial: a result file, written first, then every `save_every` seconds, when interrupted, and at the end.
    A scan that finds its own file there goes on from it, and ends with the same arrays as one never
    interrupted. progress is called with (cells done, cells in all). `evaluations` counts passes over a data
    set on the grid. Recomputed statistics come from `problem`, for the test loss too.

    Raises `InputError`: wrong number or size of points, weights that are not finite, points that span no
    plane, a batch-norm policy that does not fit, another scan's result at `partial` without `overwrite`.
    """
    problems = [problem] if test is None else [problem, test]
    _check_problems(problems, spec)
    points = placed_points(problem, spec, points)
    where = slice_through(problem, spec, points)
    kept = [
        name
        for each, names in zip(problems, (COLUMNS[:2], COLUMNS[2:]), strict=False)
        for name in names[: 2 if getattr(each.loss, "hits", None) is not None else 1]
    ]
    template = _unmeasured(problems, spec, points, where)
    cells = resumed(template, where.coefficients.shape[:-1], kept, partial, overwrite)
    function = _losses(problems, spec, points, where)
    seconds = _fill(cells, function, where, partial, progress, save_every)
    return cells.result(seconds)


def _fill(
    cells: Cells,
    function: Callable[[Vector, Index], Sequence[float]],
    where: Slice,
    partial: str | os.PathLike[str] | None,
    progress: Callable[[int, int], None] | None,
    save_every: float,
) -> float:
    """Evaluate what is not done yet; returns the seconds that took. What is done when it ends, however, is saved."""
    started = saved = perf_counter()

    def after() -> None:
        nonlocal saved
        if progress is not None:
            progress(int(cells.done.sum()), cells.done.size)
        if partial is not None and perf_counter() - saved >= save_every:
            cells.store(partial, perf_counter() - started)
            saved = perf_counter()

    if partial is not None:
        cells.store(partial, 0.0)
    try:
        state = {"values": cells.values, "done": cells.done}
        scan(function, where.origin, where.directions, where.coefficients, after=after, **state)
    finally:
        if partial is not None:
            cells.store(partial, perf_counter() - started)
    return perf_counter() - started


def _unmeasured(problems: Sequence[Problem], spec: SurfaceSpec, points: Sequence[Point], where: Slice) -> SurfaceResult:
    empty = np.zeros(0)
    return SurfaceResult(
        spec=spec, labels=tuple(point.label for point in points), marks=where.marks,
        x=where.axes[0], y=where.axes[1] if len(where.axes) == 2 else empty,
        train_loss=empty, train_accuracy=empty, test_loss=empty, test_accuracy=empty,
        complete=False, evaluations=0, conditions=_conditions(problems, spec, points, where),
    )  # fmt: skip


def _losses(
    problems: Sequence[Problem], spec: SurfaceSpec, points: Sequence[Point], where: Slice
) -> Callable[[Vector, Index], list[float]]:
    """(w, cell) ↦ train loss, train accuracy, test loss, test accuracy."""
    statistics = _statistics(problems[0], spec, points, where)

    def losses(w: Vector, cell: Index) -> list[float]:
        with _pairs_in_batches():
            buffers = statistics(w, cell)
            found = [number for problem in problems for number in problem.evaluate(w, buffers)]
        return found + [float("nan")] * (len(COLUMNS) - len(found))

    return losses


def _statistics(
    problem: Problem, spec: SurfaceSpec, points: Sequence[Point], where: Slice
) -> Callable[[Vector, Index], Buffers]:
    first = points[0].buffers
    if spec.batch_norm == "interpolated":
        return lambda w, cell: _combined([p.buffers for p in points], where.means[cell], where.shares[cell])
    if spec.batch_norm == "recomputed" and problem.has_batch_norm:
        others = {name: buffer for name, buffer in first.items() if not name.endswith(_STATISTICS)}
        return lambda w, cell: {**problem.recomputed_buffers(w, spec.recompute_examples), **others}
    return lambda w, cell: first


_STATISTICS = ("running_mean", "running_var")


def _combined(buffers: Sequence[Buffers], means: np.ndarray, shares: np.ndarray) -> Buffers:
    """Running means weighted by `means`, all other buffers by `shares`; variances never below 0."""
    total: dict[str, Tensor] = {}
    for name in set.intersection(*map(set, buffers)):
        weights = (means if name.endswith("running_mean") else shares).tolist()
        total[name] = torch.stack([w * own[name] for w, own in zip(weights, buffers, strict=True)]).sum(0)
        if name.endswith("running_var"):
            total[name].clamp_(min=0)
    return total


@contextmanager
def _pairs_in_batches() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "the last batch holds a single example, which has no batch statistics. Choose another batch size."
        ) from None


def _conditions(
    problems: Sequence[Problem], spec: SurfaceSpec, points: Sequence[Point], where: Slice
) -> dict[str, Any]:
    """What has to be the same when a scan goes on; the losses at the first checkpoint tell data and model apart."""
    conditions = problems[0].conditions()
    for name, problem in zip(("train", "test"), problems, strict=False):
        with _pairs_in_batches():
            loss, accuracy = problem.evaluate(points[0].weights, points[0].buffers)
        conditions |= {f"first_{name}_loss": loss, f"first_{name}_accuracy": accuracy}
    if len(problems) == 2:
        conditions["test_examples"] = problems[1].size
    conditions["has_batch_norm"] = problems[0].has_batch_norm
    conditions["batch_norm"] = spec.batch_norm if problems[0].has_batch_norm else "none"
    conditions["points_sha256"] = [digest(point.weights, point.buffers) for point in points]
    return {**conditions, **where.facts}


def _check_problems(problems: Sequence[Problem], spec: SurfaceSpec) -> None:
    size = len(problems[0].weights)
    for problem in problems:
        if len(problem.weights) != size:
            raise illegal("test", f"{len(problem.weights)} parameters", f"of {size} parameters", "Use the same model.")
        if problem.has_batch_norm and (problem.batch_norm == "batch") != (spec.batch_norm == "batch"):
            raise illegal(
                "batch_norm", spec.batch_norm, f"compatible with a problem that has batch_norm={problem.batch_norm!r}",
                'Make the problems with batch_norm="batch" for the policy batch, and "running" for every other.',
            )  # fmt: skip
