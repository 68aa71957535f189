"""Axes around one checkpoint: random directions, eigenvectors, principal components, other checkpoints, mixtures."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.errors import InputError, illegal
from landscape.methods.components import coordinates_along, gram, orthogonalised, principal_components
from landscape.methods.directions import axis_covering, normalised, symmetric_axis
from landscape.methods.scan import grid
from landscape.problem import Problem
from landscape.seeds import gaussian, stream
from landscape.spec import AxesSpec
from landscape.surface_geometry import Slice
from landscape.surface_points import Point


def axes_slice(
    problem: Problem,
    spec: AxesSpec,
    points: Sequence[Point],
    trajectory: Sequence[Point] = (),
    eigenvectors: Float[Tensor, "k n"] | None = None,
) -> Slice:
    """The slice around points[0]; points[1:] belong to the axes `to:…`, in their order.

    trajectory: the training's checkpoints in their order, for `component:K`, and to be projected onto the axes.
    eigenvectors: rows, for `eigenvector:K`. Raises `InputError` where what an axis needs is not given, where the
    trajectory spans fewer components, and where axes to be orthogonalised depend on each other.
    """
    _check(spec, trajectory, eigenvectors)
    anchor, others = points[0], list(points[1:])
    moved = torch.stack([p.weights - anchor.weights for p in trajectory]) if trajectory else None
    components = _components(spec, moved)
    draws = max(2, spec.axes.count("random")) if "random" in spec.axes else 0
    drawn = iter(gaussian(stream(spec.seed, "surface", "random plane"), draws, anchor.weights))
    ends = iter(others)
    rows = []
    for axis in spec.axes:
        kind, _, which = axis.partition(":")
        if kind == "random":
            rows.append(_random(problem, spec, anchor, next(drawn)))
        elif kind == "to":
            rows.append(_unit(next(ends).weights - anchor.weights, axis))
        else:
            source = components if kind == "component" else eigenvectors
            assert source is not None
            rows.append(source[int(which) - 1].to(anchor.weights))
    directions = torch.stack(rows)
    if spec.orthogonal:
        try:
            directions = orthogonalised(directions)
        except ValueError as error:
            message = f"axes {', '.join(spec.axes)}: {error}. Choose other axes, or leave out --orthogonal."
            raise InputError(message) from None
    return _placed(spec, anchor, others, directions, moved)


def _check(spec: AxesSpec, trajectory: Sequence[Point], eigenvectors: Tensor | None) -> None:
    if spec.numbers("component") and len(trajectory) < 2:
        raise InputError("an axis component:K needs the checkpoints of a training. Give a trajectory of two or more.")
    have, last = 0 if eigenvectors is None else len(eigenvectors), max(spec.numbers("eigenvector"), default=0)
    if last > have:
        raise illegal("axes", f"eigenvector:{last}", f"one of the {have} eigenvectors given", "Measure more vectors.")
    if spec.batch_norm == "interpolated" and len(spec.others()) < len(spec.axes):
        raise illegal(
            "batch_norm", "interpolated", "recomputed, running or batch along such axes",
            "Only axes to other checkpoints have statistics to interpolate.",
        )  # fmt: skip


def _components(spec: AxesSpec, moved: Tensor | None) -> Tensor | None:
    last = max(spec.numbers("component"), default=0)
    if not last or moved is None:
        return None
    try:
        return principal_components(moved, last)[0]
    except ValueError as error:
        legal = f"a component of the trajectory ({error})"
        raise illegal("axes", f"component:{last}", legal, "Ask for fewer, or give more checkpoints.") from None


def _random(problem: Problem, spec: AxesSpec, anchor: Point, draw: Tensor) -> Tensor:
    norms = problem.norm_parameters()
    pieces = problem.named(anchor.weights)
    biases = {name for name, piece in pieces.items() if piece.dim() < 2 and name not in norms}
    zero = (biases if spec.biases == "zero" else set()) | (norms if spec.norms == "zero" else set())
    return normalised(problem.named(draw), pieces, spec.normalisation, zero)


def _unit(step: Tensor, axis: str) -> Tensor:
    length = torch.linalg.vector_norm(step.double())
    if not length > 0:
        raise illegal("axes", axis, "a checkpoint other than the one in the centre", "Choose another.")
    return (step.double() / length).to(step.dtype)


def _placed(spec: AxesSpec, anchor: Point, others: Sequence[Point], directions: Tensor, moved: Tensor | None) -> Slice:
    steps = torch.stack([torch.zeros_like(anchor.weights), *(p.weights - anchor.weights for p in others)])
    marks = coordinates_along(steps, directions).cpu().numpy()
    marks[0] = 0.0
    path = np.zeros(0) if moved is None else coordinates_along(moved, directions).cpu().numpy()
    axes = tuple(_axis(spec, k, marks[:, k], path[:, k] if path.size else np.zeros(0)) for k in range(len(spec.axes)))
    coordinates = grid(*axes)
    shares = _shares(spec, marks, coordinates)
    norms = torch.linalg.vector_norm(directions, dim=1, dtype=torch.float64)
    facts: dict[str, object] = {"direction_norms": norms.tolist()}
    explained = np.zeros(0)
    if moved is not None:
        along, squares = gram(directions, moved) / norms[:, None], gram(moved, moved)
        variance = squares.diagonal().mean() - squares.mean()
        explained = (along.var(1, correction=0) / variance).cpu().numpy()
        inside = (coordinates_along(moved, directions) * gram(moved, directions)).sum(1)
        facts["distances_from_slice"] = (squares.diagonal() - inside).clamp_min(0).sqrt().tolist()
    return Slice(
        axes, _names(spec, others), marks, anchor.weights, directions, coordinates, shares, shares, path, explained,
        facts,
    )  # fmt: skip


def _axis(spec: AxesSpec, k: int, marks: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Symmetric where a radius is given, or nothing is to be covered; 0 is on it where the count allows."""
    radius, count = spec.per_axis("radius")[k], spec.per_axis("points")[k]
    kind = spec.axes[k].partition(":")[0]
    if radius is not None or kind in ("random", "eigenvector"):
        return symmetric_axis(radius or 1.0, count)
    covered = marks if kind == "to" else np.append(path, 0.0)
    room = spec.margin * float(np.ptp(covered))
    return axis_covering(float(covered.min()) - room, float(covered.max()) + room, count)


def _shares(spec: AxesSpec, marks: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Of the checkpoints in the buffers: along axes to other checkpoints, what makes the combination affine."""
    share = np.zeros((*coordinates.shape[:-1], len(marks)))
    if spec.batch_norm != "interpolated":
        share[..., 0] = 1.0
        return share
    share[..., 1:] = np.einsum("...k,kj->...j", coordinates, np.linalg.inv(marks[1:]))
    share[..., 0] = 1.0 - share[..., 1:].sum(-1)
    return share


def _names(spec: AxesSpec, others: Sequence[Point]) -> tuple[str, ...]:
    scale = {"filter": " (filter norms)", "layer": " (layer norms)", "weight": " (weights)", "none": ""}
    ends, single = iter(others), spec.axes.count("random") == 1
    names = []
    for k, axis in enumerate(spec.axes):
        kind, _, which = axis.partition(":")
        number = "" if single else f" {spec.axes[: k + 1].count('random')}"
        names.append({
            "random": f"random direction{number}{scale[spec.normalisation]}",
            "to": f"distance towards {next(ends).label if kind == 'to' else ''} (ℓ₂)",
            "eigenvector": f"eigenvector {which} (ℓ₂)",
            "component": f"PC {which} (ℓ₂)",
        }[kind])  # fmt: skip
    return tuple(names)
