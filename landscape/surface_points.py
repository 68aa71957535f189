"""Checkpoints as points of parameter space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import InputError, illegal
from landscape.problem import Buffers, Problem


@dataclass(frozen=True, eq=False)
class Point:
    """A checkpoint in parameter space: its label, flat weights, and floating-point buffers by name."""

    label: str
    weights: Vector
    buffers: Mapping[str, Tensor] = field(default_factory=dict)


def placed(problem: Problem, points: Sequence[Point], whole: bool) -> list[Point]:
    """The points on the problem's device and in its dtype.

    whole: whether every point has to bring all of the model's buffers. Raises `InputError` where one does not fit
    the problem's model, or is not finite.
    """
    own = problem.buffers()
    return [_placed(point, problem.weights, own, whole and problem.has_batch_norm) for point in points]


def _placed(point: Point, like: Vector, own: Buffers, whole: bool) -> Point:
    if point.weights.shape != like.shape:
        raise illegal(
            f"weights of {point.label}", tuple(point.weights.shape), f"a vector of {len(like)} parameters",
            "All checkpoints must be of the problem's model.",
        )  # fmt: skip
    if not bool(torch.isfinite(point.weights).all()):
        raise InputError(f"the weights of {point.label} hold NaN or Inf. Choose a checkpoint from before it diverged.")
    for name, buffer in point.buffers.items():
        if name not in own or own[name].shape != buffer.shape:
            raise illegal(
                f"buffer of {point.label}", f"{name} {tuple(buffer.shape)}", "one of the model's, in its shape",
                "Take them from Problem.buffers().",
            )  # fmt: skip
    missing = [name for name in own if name not in point.buffers] if whole else []
    if missing:
        raise InputError(f"{point.label} comes without the buffer {missing[0]}. Take buffers from Problem.buffers().")
    return Point(
        point.label, point.weights.detach().to(like), {k: b.detach().to(like) for k, b in point.buffers.items()}
    )
