"""Scans as ParaView and other VTK programs open them: the surface as a grid, trajectory and checkpoints upon it."""

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from landscape.errors import InputError
from landscape.exchange import vtk
from landscape.results import SurfaceResult

_HIDDEN = 2
"""vtkDataSetAttributes::HIDDENPOINT: a point and the cells around it are not drawn."""


def heights(result: SurfaceResult, quantity: str, logarithmic: bool | None) -> np.ndarray:
    """What points are lifted to: a quantity, or its log₁₀ — if not told, where all its finite values are positive.

    Raises `InputError` when it is not measured, finite nowhere, or not positive where its logarithm is asked for.
    """
    values = result.grid(quantity).astype(float)
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise InputError(f"{quantity} is finite nowhere in this scan. Choose another --quantity.")
    positive = bool((finite > 0).all())
    if logarithmic and not positive:
        raise InputError(f"{quantity} has values that are not positive, without a logarithm. Use --linear.")
    values = np.where(np.isfinite(values), values, np.nan)
    return np.log10(values) if logarithmic or (logarithmic is None and positive) else values


def grid(result: SurfaceResult, quantity: str, logarithmic: bool | None = None) -> bytes:
    """A `.vts` file with every quantity at every point: of one axis a curve (x, 0, height), of two a surface
    (x, y, height), of three a volume (x, y, z) without height.

    Points without a finite height are hidden (`vtkGhostType`), and lie at the lowest; in the arrays they stay NaN.
    `done` says where a value was computed, `interpolated` where it was estimated.
    """
    lifted = heights(result, quantity, logarithmic)
    columns = [axis.ravel(order="F") for axis in np.meshgrid(*result.coordinates, indexing="ij")]
    hidden = np.isnan(lifted).ravel(order="F")
    floor = np.where(hidden, np.nanmin(lifted), lifted.ravel(order="F"))
    data: dict[str, vtk.Values] = {name: result.grid(name).astype(float).ravel(order="F") for name in result.quantities}
    for name in ("done", "interpolated"):
        if getattr(result, name).size:
            data[name] = getattr(result, name).astype(np.uint8).ravel(order="F")
    data |= {"height": lifted.ravel(order="F"), "vtkGhostType": (_HIDDEN * hidden).astype(np.uint8)}
    shape = result.shape if len(result.shape) > 1 else (*result.shape, 1, 1)
    return vtk.structured_grid(shape, _places(columns, floor), data, quantity)


def lines(result: SurfaceResult, quantity: str, logarithmic: bool | None = None) -> bytes:
    """A `.vtp` file: the trajectory as a polyline and the marked checkpoints as points, on the surface of `grid`.

    Heights are interpolated linearly between grid points; where that is not possible (outside the scan, beside
    a point that is not finite) they are the lowest, and `on surface` is 0. `name` holds the checkpoints' names.
    Raises `InputError` when the scan has neither.
    """
    path = result.trajectory if result.trajectory.size else np.zeros((0, len(result.shape)))
    points = np.concatenate([path, result.marks.reshape(-1, len(result.shape))])
    if not len(points):
        raise InputError("this scan has neither a trajectory nor marked checkpoints. Export its surface as .vts.")
    lifted = heights(result, quantity, logarithmic)
    between = RegularGridInterpolator(result.coordinates, lifted, bounds_error=False, fill_value=np.nan)(points)
    hidden = np.isnan(between)
    data: dict[str, vtk.Values] = {
        "height": between,
        "on surface": (~hidden).astype(np.uint8),
        "checkpoint": np.arange(len(points)) - len(path) * (np.arange(len(points)) >= len(path)),
        "trajectory": (np.arange(len(points)) < len(path)).astype(np.uint8),
        "name": (*(result.trajectory_labels or [""] * len(path)), *result.labels),
    }
    floor = np.where(hidden, np.nanmin(lifted), between)
    line = [range(len(path))] if len(path) > 1 else []
    return vtk.poly_data(_places(list(points.T), floor), line, range(len(path), len(points)), data, "height")


def _places(columns: list[np.ndarray], height: np.ndarray) -> np.ndarray:
    """Coordinates in space, from those along one to three axes and a height, which three leave no room for."""
    if len(columns) == 1:
        columns = [columns[0], np.zeros_like(height)]
    return np.stack([*columns, height][:3], axis=1)
