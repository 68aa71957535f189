"""Where the points of a loss surface lie: the slice of parameter space that a spec cuts through its checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import InputError, illegal
from landscape.methods.directions import affine_weights, axis_through, normalised, plane_through, symmetric_axis
from landscape.methods.scan import grid
from landscape.parameter_names import norm_parameters
from landscape.problem import Buffers, Problem
from landscape.seeds import gaussian, stream
from landscape.spec import AxesSpec, LineSpec, PlaneSpec

SurfaceSpec = LineSpec | PlaneSpec | AxesSpec


@dataclass(frozen=True, eq=False)
class Point:
    """A checkpoint in parameter space: its label, flat weights, and floating-point buffers by name."""

    label: str
    weights: Vector
    buffers: Mapping[str, Tensor] = field(default_factory=dict)


_NEEDED = {LineSpec: 2, PlaneSpec: 3, AxesSpec: 1}


def placed_points(problem: Problem, spec: SurfaceSpec, points: Sequence[Point]) -> list[Point]:
    """The points on the problem's device and in its dtype; `InputError` unless `spec` can be cut through them."""
    needed = _NEEDED[type(spec)]
    if len(points) != needed:
        raise illegal("points", [p.label for p in points], f"{needed} for a {type(spec).__name__}", "Name as many.")
    own = problem.buffers()
    whole = problem.has_batch_norm and spec.batch_norm in ("running", "interpolated")
    return [_placed(point, problem.weights, own, whole) for point in points]


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


@dataclass(frozen=True, eq=False)
class Slice:
    """The points of a scan: origin + Σ c_i·d_i with c = coefficients[cell].

    means, shares: the checkpoints' weights in the buffers of each cell .
    facts: what the conditions tell about the directions.
    """

    axes: tuple[np.ndarray, ...]
    marks: np.ndarray
    origin: Vector
    directions: Float[Tensor, "axes n"]
    coefficients: Float[np.ndarray, "*grid axes"]
    means: Float[np.ndarray, "*grid points"]
    shares: Float[np.ndarray, "*grid points"]
    facts: Mapping[str, Any] = field(default_factory=dict)


def slice_through(problem: Problem, spec: SurfaceSpec, points: Sequence[Point]) -> Slice:
    """The line, arc or plane that `spec` describes; raises `InputError` when three points span no plane."""
    if isinstance(spec, LineSpec):
        return _line(spec, points)
    return _plane(spec, points) if isinstance(spec, PlaneSpec) else _random_plane(problem, spec, points[0])


def _line(spec: LineSpec, points: Sequence[Point]) -> Slice:
    """Both weights have a coefficient of their own, so that α = 0 and α = 1 are the checkpoints bit for bit."""
    first, second = (point.weights for point in points)
    alpha = np.linspace(*spec.ends(len(points)), spec.points)
    coefficients = np.stack([1 - alpha, alpha], axis=-1)
    shares = coefficients
    if spec.path == "arc":
        coefficients = np.stack([np.cos(alpha * np.pi / 2), np.sin(alpha * np.pi / 2)], axis=-1)
        shares = coefficients**2
    distance = torch.linalg.vector_norm(second.double() - first.double()).item()
    return Slice(
        (alpha,), np.array([[0.0], [1.0]]), torch.zeros_like(first), torch.stack([first, second]),
        coefficients, coefficients, shares, {"distance": distance},
    )  # fmt: skip


def _plane(spec: PlaneSpec, points: Sequence[Point]) -> Slice:
    try:
        plane = plane_through(*(point.weights for point in points))
    except ValueError:
        names = ", ".join(point.label for point in points)
        raise InputError(
            f"the checkpoints {names} do not span a plane: two are equal, or all three lie on one line. "
            "Choose a third one elsewhere, or scan a line."
        ) from None
    low, high = plane.marks.min(axis=0), plane.marks.max(axis=0)
    room = spec.margin * (high - low)
    x, y = (
        axis_through(float(plane.marks[k + 1, k]), float((low - room)[k]), float((high + room)[k]), count)
        for k, count in enumerate((spec.x_points, spec.y_points))
    )
    coordinates = grid(x, y)
    shares = affine_weights(plane.marks, coordinates)
    return Slice((x, y), plane.marks, points[0].weights, plane.directions, coordinates, shares, shares)


def _random_plane(problem: Problem, spec: AxesSpec, point: Point) -> Slice:
    draws = gaussian(stream(spec.seed, "surface", "random plane"), 2, point.weights)
    weights = problem.named(point.weights)
    zero = _unmoved(problem, spec)
    directions = torch.stack([normalised(problem.named(d), weights, spec.normalisation, zero) for d in draws])
    x, y = (symmetric_axis(r or 1.0, n) for r, n in zip(spec.per_axis("radius"), spec.per_axis("points"), strict=True))
    marks, coordinates = np.zeros((1, 2)), grid(x, y)
    shares = affine_weights(marks, coordinates)
    norms = torch.linalg.vector_norm(directions, dim=1, dtype=torch.float64).tolist()
    return Slice(
        (x, y), marks, point.weights, directions, coordinates, shares, shares, {"direction_norms": norms}
    )  # fmt: skip


def _unmoved(problem: Problem, spec: AxesSpec) -> set[str]:
    """The parameters that random directions leave alone: biases, and parameters of normalisation layers."""
    norms = norm_parameters(problem.model)
    shapes = {name: piece.dim() for name, piece in problem.named(problem.weights).items()}
    biases = {name for name, dims in shapes.items() if dims < 2 and name not in norms}
    return (biases if spec.biases == "zero" else set()) | (norms if spec.norms == "zero" else set())
