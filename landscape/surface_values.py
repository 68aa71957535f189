"""What a scan measures at each of its points: losses, accuracies and metrics on both sets, and curvature."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from landscape import surface_curvature
from landscape.aliases import Vector
from landscape.batch_norms import STATISTICS, combined
from landscape.errors import InputError
from landscape.evaluation.evaluator import Evaluator
from landscape.methods.scan import Index, displaced
from landscape.problem import Buffers, Metric, Problem
from landscape.surface_geometry import Slice, SurfaceSpec
from landscape.surface_points import Point

_SETS = ("train", "test")


def extra_names(spec: SurfaceSpec, metrics: Mapping[str, Metric], sets: int) -> tuple[str, ...]:
    """The columns after the standard ones."""
    return (*(f"{name} {metric}" for name in _SETS[:sets] for metric in metrics), *surface_curvature.names(spec))


class Values:
    """(w, cell) ↦ train loss, train accuracy, test loss, test accuracy, then the columns of `extra_names`.

    For several points and their cells at a time.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        spec: SurfaceSpec,
        points: Sequence[Point],
        where: Slice,
        metrics: Mapping[str, Metric],
    ):
        self.where, self.statistics = where, _statistics(problems[0], spec, points, where)
        origin = bool(where.origin.any())
        self.first = [1.0] if origin else []
        basis = [where.origin, *where.directions] if origin else list(where.directions)
        varying = problems[0].has_batch_norm and spec.batch_norm in ("recomputed", "interpolated")
        self.evaluators = [
            Evaluator(problem, basis, tuple(metrics.values()), varying, spec.half, spec.at_once) for problem in problems
        ]
        self.curvature = surface_curvature.Curvature(problems[0], spec) if spec.curvature != "none" else None

    def __call__(self, points: Sequence[Vector], cells: Sequence[Index]) -> list[list[float]]:
        coordinates = [self._coordinates(cell) for cell in cells]
        buffers = [self.statistics(w, cell) for w, cell in zip(points, cells, strict=True)]
        found = [evaluator.several(points, coordinates, buffers) for evaluator in self.evaluators]
        return [self._row(w, each, own) for w, each, *own in zip(points, buffers, *found, strict=True)]

    def _row(self, w: Vector, buffers: Buffers, found: Sequence[Sequence[float]]) -> list[float]:
        standard = [number for row in found for number in row[:2]]
        standard += [float("nan")] * (4 - len(standard))
        curvature = self.curvature(w, buffers) if self.curvature is not None else []
        return [*standard, *(number for row in found for number in row[2:]), *curvature]

    def _coordinates(self, cell: Index) -> list[float]:
        return self.first + self.where.coefficients[cell].tolist()

    def at_once(self) -> int:
        """How many points to give at a time. Where several may do, that is found out at the grid's first one."""
        if all(evaluator.alone for evaluator in self.evaluators):
            return 1
        cell = (0,) * len(self.where.shape)
        w = displaced(self.where.origin, self.where.directions, self.where.coefficients[cell].tolist())
        buffers = self.statistics(w, cell)
        for evaluator in self.evaluators:
            evaluator(w, self._coordinates(cell), buffers)
        several = [evaluator.together for evaluator in self.evaluators if evaluator.together > 1]
        return min(several, default=1)

    def losses_by_model(self, w: Vector, cell: Index) -> list[float]:
        """The loss on each set, by the model itself in full precision."""
        buffers = self.statistics(w, cell)
        return [evaluator.by_model(w, buffers)[0] for evaluator in self.evaluators]

    @property
    def how(self) -> str:
        """How the losses are evaluated."""
        return self.evaluators[0].how


def _statistics(
    problem: Problem, spec: SurfaceSpec, points: Sequence[Point], where: Slice
) -> Callable[[Vector, Index], Buffers]:
    first = points[0].buffers
    if spec.batch_norm == "interpolated":
        buffers = [point.buffers for point in points]
        return lambda w, cell: combined(buffers, where.means[cell].tolist(), where.shares[cell].tolist())
    if spec.batch_norm == "recomputed" and problem.has_batch_norm:
        others = {name: buffer for name, buffer in first.items() if not name.endswith(STATISTICS)}
        return lambda w, cell: {**problem.recomputed_buffers(w, spec.recompute_examples), **others}
    return lambda w, cell: first


@contextmanager
def pairs_in_batches() -> Iterator[None]:
    """One line for a batch of a single example, which has no statistics of its own."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "the last batch holds a single example, which has no batch statistics. Choose another batch size."
        ) from None
