"""Where the points of a loss surface lie: the slice of parameter space that a spec cuts through its checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import InputError, illegal
from landscape.methods.directions import affine_weights, axis_through, plane_through, polyline_weights
from landscape.methods.scan import grid
from landscape.spec import AxesSpec, LineSpec, PlaneSpec
from landscape.surface_points import Point

SurfaceSpec = LineSpec | PlaneSpec | AxesSpec


@dataclass(frozen=True, eq=False)
class Slice:
    """The points of a scan: origin + Σ c_i·d_i with c = coefficients[cell].

    axes: the coordinates along each; names: what each axis is. marks: coordinates of the checkpoints.
    means, shares: the checkpoints' weights in the buffers of each cell.
    trajectory (T, axes), explained (axes,): of a training, empty without one. facts: what the conditions tell about
    the directions.
    """

    axes: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    marks: np.ndarray
    origin: Vector
    directions: Float[Tensor, "directions n"]
    coefficients: Float[np.ndarray, "*grid directions"]
    means: Float[np.ndarray, "*grid points"]
    shares: Float[np.ndarray, "*grid points"]
    trajectory: np.ndarray = field(default_factory=lambda: np.zeros(0))
    explained: np.ndarray = field(default_factory=lambda: np.zeros(0))
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid."""
        return self.coefficients.shape[:-1]


def check_count(spec: SurfaceSpec, points: Sequence[Point]) -> None:
    """Raises `InputError` unless `spec` can be cut through so many points."""
    if isinstance(spec, LineSpec):
        right, wanted = (len(points) >= 2, "at least 2") if spec.path == "polyline" else (len(points) == 2, "2")
    elif isinstance(spec, PlaneSpec):
        right, wanted = len(points) == 3, "3"
    else:
        count = 1 + len(spec.others())
        right, wanted = len(points) == count, str(count)
    if not right:
        named = [point.label for point in points]
        raise illegal("points", named, f"{wanted} for a {type(spec).__name__}", "Name as many.")


def line_slice(spec: LineSpec, points: Sequence[Point]) -> Slice:
    """Every checkpoint has a coefficient of its own, so that at whole α the points are checkpoints bit for bit."""
    weights = [point.weights for point in points]
    alpha = np.linspace(*spec.ends(len(points)), spec.points)
    coefficients = polyline_weights(alpha, len(points))
    shares = coefficients
    if spec.path == "arc":
        coefficients = np.stack([np.cos(alpha * np.pi / 2), np.sin(alpha * np.pi / 2)], axis=-1)
        shares = coefficients**2
    lengths = [torch.linalg.vector_norm(b.double() - a.double()).item() for a, b in pairwise(weights)]
    facts = {"distance": lengths[0]} if len(points) == 2 else {"distances": lengths}
    return Slice(
        (alpha,), ("α",), np.arange(len(points), dtype=float)[:, None], torch.zeros_like(weights[0]),
        torch.stack(weights), coefficients, coefficients, shares, facts=facts,
    )  # fmt: skip


def plane_slice(spec: PlaneSpec, points: Sequence[Point]) -> Slice:
    """Raises `InputError` where three points span no plane."""
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
    names = f"distance towards {points[1].label} (ℓ₂)", "distance across (ℓ₂)"
    return Slice((x, y), names, plane.marks, points[0].weights, plane.directions, coordinates, shares, shares)
