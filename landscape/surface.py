"""Loss surfaces: losses, accuracies and curvature along lines, over planes, and in boxes of three axes.

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
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape import hessian
from landscape.errors import illegal
from landscape.precision import full_precision
from landscape.problem import Metric, Problem
from landscape.results import SurfaceResult
from landscape.spec import AxesSpec, HessianSpec, LineSpec
from landscape.surface_axes import axes_slice
from landscape.surface_fill import fill
from landscape.surface_geometry import Slice, SurfaceSpec, check_count, line_slice, plane_slice
from landscape.surface_points import Point, placed
from landscape.surface_resume import COLUMNS, digest, kept_directions, resumed
from landscape.surface_values import Values, extra_names, pairs_in_batches
from landscape.units.states import problem_at, state_of

__all__ = ["Point", "SurfaceSpec", "cautions", "measure", "without_warnings"]


@full_precision()
def measure(
    problem: Problem,
    spec: SurfaceSpec,
    points: Sequence[Point],
    test: Problem | None = None,
    *,
    trajectory: Sequence[Point] = (),
    eigenvectors: Float[Tensor, "k n"] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    partial: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    save_every: float = 1.0,
) -> SurfaceResult:
    """Loss and accuracy of `problem` (training data) and `test` on the grid that `spec` describes.

    LineSpec: f((1−α)·w₀ + α·w₁), the arc f(sin(απ/2)·w₁ + cos(απ/2)·w₀) of two points (Keskar et al. 2017, section
    2.2.1), or the polyline through any number. PlaneSpec: f(w₀ + x·u + y·v), u and v orthonormal in the plane of
    three points. AxesSpec: f(w₀ + x·d₁ + y·d₂ + z·d₃) around one point; d Gaussian and rescaled (Li et al. 2018,
    section 4), eigenvectors, principal components of a training (section 7), or towards the further points.

    trajectory: checkpoints of a training in their order, projected onto the axes. eigenvectors: for the axes that
    ask for them; measured when not given. metrics: by name, each summed over a batch, evaluated in the same pass.

    partial: a result file, written first, then every `save_every` seconds, when interrupted, and at the end.
    A scan that finds its own file there goes on from it, and ends with the same arrays as one never
    interrupted. progress is called with (cells done, cells in all). `evaluations` counts passes over a data
    set on the grid. Recomputed statistics come from `problem`, for the test loss too.

    Warns where batch-norm networks are interpolated without recomputing their statistics. Raises `InputError`: wrong
    number or size of points, weights that are not finite, points that span no plane, a batch-norm policy that does
    not fit, another scan's result at `partial` without `overwrite`.
    """
    problems, metrics = [problem] if test is None else [problem, test], dict(metrics or {})
    _check_problems(problems, spec)
    for caution in cautions(problem, spec):
        warnings.warn(caution, stacklevel=2)
    check_count(spec, points)
    points = placed(problem, points, spec.batch_norm in ("running", "interpolated"))
    found = _found_directions(problem, spec, points[0], eigenvectors, kept_directions(partial, overwrite))
    vectors = torch.from_numpy(found) if found.size else eigenvectors
    where = _slice(problem, spec, points, placed(problem, trajectory, False), vectors)
    template = _unmeasured(problems, spec, points, where, [point.label for point in trajectory], metrics)
    template = replace(template, directions=found)
    kept = [
        name
        for each, names in zip(problems, (COLUMNS[:2], COLUMNS[2:]), strict=False)
        for name in names[: 2 if getattr(each.loss, "hits", None) is not None else 1]
    ]
    cells = resumed(template, where.shape, kept, partial, overwrite)
    values = Values(problems, spec, points, where, metrics)
    return cells.result(fill(cells, spec, values, where, partial, progress, save_every))


def cautions(problem: Problem, spec: SurfaceSpec) -> list[str]:
    """What to know before believing such a scan of this problem."""
    between = not isinstance(spec, AxesSpec) or bool(spec.others())
    if between and problem.has_batch_norm and spec.batch_norm in ("running", "interpolated"):
        return [
            f"batch norm with {spec.batch_norm} statistics: between checkpoints activations shrink, and the loss rises "
            "for that reason alone (Jordan et al. 2023). batch_norm = recomputed takes the statistics at each point"
        ]
    return []


@contextmanager
def without_warnings() -> Iterator[None]:
    """Inside, `measure` keeps its cautions to itself; for callers that show them in another way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="batch norm with")
        yield


def _slice(
    problem: Problem, spec: SurfaceSpec, points: Sequence[Point], trajectory: Sequence[Point], vectors: Tensor | None
) -> Slice:
    if isinstance(spec, LineSpec):
        return line_slice(spec, points)
    if not isinstance(spec, AxesSpec):
        return plane_slice(spec, points)
    return axes_slice(problem, spec, points, trajectory, vectors)


def _found_directions(
    problem: Problem, spec: SurfaceSpec, point: Point, given: Tensor | None, kept: np.ndarray
) -> np.ndarray:
    """(k, n): the leading eigenvectors of the Hessian at the point, where axes ask for them and none are given.

    kept: those that an interrupted scan measured; they are not measured again. (0, 0) where none are needed.
    """
    if given is not None or not isinstance(spec, AxesSpec) or not spec.numbers("eigenvector"):
        return kept[:0, :0]
    if kept.size:
        return kept
    asked = HessianSpec(count=max(spec.numbers("eigenvector")), vectors=True, sampling_error=False)
    here = problem_at(problem, {**state_of(problem, point.weights), **point.buffers})
    return hessian.measure(here, asked).vectors


def _unmeasured(
    problems: Sequence[Problem],
    spec: SurfaceSpec,
    points: Sequence[Point],
    where: Slice,
    path: Sequence[str],
    metrics: Mapping[str, Metric],
) -> SurfaceResult:
    empty = np.zeros(0)
    x, y, z = (where.axes[k] if k < len(where.axes) else empty for k in range(3))
    return SurfaceResult(
        spec=spec, labels=tuple(point.label for point in points), marks=where.marks, x=x, y=y, z=z, axes=where.names,
        train_loss=empty, train_accuracy=empty, test_loss=empty, test_accuracy=empty, complete=False, evaluations=0,
        trajectory=where.trajectory, trajectory_labels=tuple(path), explained=where.explained,
        extra_names=extra_names(spec, metrics, len(problems)), conditions=_conditions(problems, spec, points, where),
    )  # fmt: skip


def _conditions(
    problems: Sequence[Problem], spec: SurfaceSpec, points: Sequence[Point], where: Slice
) -> dict[str, Any]:
    """What has to be the same when a scan goes on; the losses at the first checkpoint tell data and model apart."""
    conditions = problems[0].conditions()
    for name, problem in zip(("train", "test"), problems, strict=False):
        with pairs_in_batches():
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
