"""Which paths lead from one minimum to another, and the batch-norm statistics along each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from landscape.aliases import Vector
from landscape.batch_norms import STATISTICS, combined
from landscape.errors import InputError, illegal
from landscape.methods.curves import Curve
from landscape.problem import Buffers, Problem
from landscape.spec import PathSpec
from landscape.surface_points import Point
from landscape.units.alignment import Aligned, align
from landscape.units.states import problem_at, state_of

_WORDS = {"interpolated": "", "running": "running statistics", "recomputed": "recalibrated"}


@dataclass(frozen=True, eq=False)
class Route:
    """One path by name: weights along a curve from end to end, and where its buffers come from.

    batch_norm: statistics are "interpolated" like the weights of a straight line, the first end's ("running"), or
    those of the training data at each point ("recomputed"). Other buffers are the first end's.
    """

    name: str
    curve: Curve
    ends: tuple[Point, Point]
    batch_norm: str

    def buffers(self, problem: Problem, t: float, w: Vector, examples: int | None) -> Buffers:
        """The buffers at w = γ(t); `problem` is the training data, of which `examples` are used to recompute them."""
        first, second = (end.buffers for end in self.ends)
        if self.batch_norm == "running" or not problem.has_batch_norm:
            return first
        if self.batch_norm == "interpolated":
            return combined((first, second), (1 - t, t), (1 - t, t))
        others = {name: buffer for name, buffer in first.items() if not name.endswith(STATISTICS)}
        return {**problem.recomputed_buffers(w, examples), **others}


def routes_between(
    problem: Problem, spec: PathSpec, ends: tuple[Point, Point], curve: Curve | None
) -> tuple[list[Route], dict[str, Any]]:
    """The paths that `spec` asks for, and facts about them for a result's conditions.

    Raises `InputError` for a curve that does not begin and end at the two points, and for alignment where some
    parameters are fixed.
    """
    facts: dict[str, Any] = {}
    routes = list(_lines("", problem, spec, ends))
    if spec.align != "none":
        found = _aligned(problem, spec, ends)
        aligned = ends[0], Point(ends[1].label, found.problem.weights, found.problem.buffers())
        routes += _lines("aligned", problem, spec, aligned)
        facts["units_moved"] = [[group.name, round(group.moved * group.size), group.size] for group in found.groups]
        facts["units_left_out"] = [list(pair) for pair in found.left_out]
    if curve is not None:
        routes.append(Route("curve", _fitting(curve, ends), ends, "recomputed"))
    return routes, facts


def _lines(word: str, problem: Problem, spec: PathSpec, ends: tuple[Point, Point]) -> Iterator[Route]:
    line = Curve("chain", torch.stack([end.weights for end in ends]))
    for policy in spec.batch_norm if problem.has_batch_norm else ("interpolated",):
        words = [w for w in (word, _WORDS[policy]) if w]
        yield Route(", ".join(words) or "raw", line, ends, policy)


def _aligned(problem: Problem, spec: PathSpec, ends: tuple[Point, Point]) -> Aligned:
    """The second end with its hidden units in the order that matches the first's."""
    if problem.named(problem.weights).keys() != dict(problem.model.named_parameters()).keys():
        legal = "none where some parameters are fixed"
        raise illegal("align", spec.align, legal, "Units cannot change places without all of their weights.")
    first, second = (problem_at(problem, {**state_of(problem, end.weights), **end.buffers}) for end in ends)
    return align(first, second, spec.align, spec.seed)


def _fitting(curve: Curve, ends: tuple[Point, Point]) -> Curve:
    """The curve in the ends' dtype, on their device."""
    like = ends[0].weights
    if curve.points.shape[1] != len(like):
        legal = f"one through points of {len(like)} parameters"
        raise illegal("curve", f"{curve.points.shape[1]} parameters", legal, "Train it for this model.")
    points = curve.points.to(like)
    for end, point in zip(ends, (points[0], points[-1]), strict=True):
        if not torch.equal(end.weights, point):
            raise InputError(f"the curve does not end at {end.label}. Train one between these two checkpoints.")
    return Curve(curve.kind, points)
