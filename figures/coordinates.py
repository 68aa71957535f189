"""Where the points of a scan lie: on a line or a plane, and what its axes are called."""

from collections.abc import Sequence

import numpy as np

from landscape.errors import InputError
from landscape.results import Result, SurfaceResult
from landscape.spec import LineSpec, PlaneSpec

from .layout import wrap

_PATHS = {
    "line": "α\u00a0\u00a0 (w = (1−α) w₀ + α w₁)",
    "arc": "α\u00a0\u00a0 (w = cos(απ/2) w₀ + sin(απ/2) w₁)",
    "polyline": "α\u00a0\u00a0 (k at the k-th checkpoint)",
}
_NORMS = {"filter": " (filter norms)", "layer": " (layer norms)", "weight": " (weights)", "none": ""}
_WIDEST = 5.0


def is_line(result: Result) -> bool:
    """Whether the result is a scan of one axis."""
    return isinstance(result, SurfaceResult) and len(result.shape) == 1


def is_plane(result: Result) -> bool:
    """Whether the result is a scan of two axes."""
    return isinstance(result, SurfaceResult) and len(result.shape) == 2


def only_plane(results: Sequence[Result], recipe: str) -> SurfaceResult:
    """The one plane scan among the results. Raises `InputError` when there are others, or none."""
    if len(results) == 1 and isinstance(results[0], SurfaceResult) and is_plane(results[0]):
        return results[0]
    raise InputError(f"{recipe} needs exactly one plane scan (`landscape surface plane` or `random`).")


def axis_names(result: SurfaceResult, names: Sequence[str] = ()) -> tuple[str, ...]:
    """What each coordinate is, in words with its unit and, of a trajectory, the share of its variance.

    names: of the marked checkpoints, when they are others than the result's labels.
    """
    known = result.axes if result.axes and not isinstance(result.spec, LineSpec) else ()
    found = [_renamed(axis, result.labels, names) for axis in known] or _usual(result, names or result.labels)
    shares = result.explained if len(result.explained) == len(found) else np.full(len(found), np.nan)
    return tuple(
        f"{name} ({_percent(share)} of the variance)" if np.isfinite(share) else name
        for name, share in zip(found, shares, strict=True)
    )


def _renamed(axis: str, labels: Sequence[str], names: Sequence[str]) -> str:
    """The words of an axis with the checkpoint that it leads to called by its name."""
    for label, name in zip(labels, names, strict=False):
        axis = axis.replace(f"towards {label} (", f"towards {wrap(name, 26, 1)} (")
    return axis


def _usual(result: SurfaceResult, names: Sequence[str]) -> tuple[str, ...]:
    """The names of axes in results that do not tell them."""
    spec = result.spec
    if isinstance(spec, LineSpec):
        return (_PATHS[spec.path],)
    if isinstance(spec, PlaneSpec):
        return f"distance towards {wrap(names[1], 26, 1)} (ℓ₂)", "distance across (ℓ₂)"
    return tuple(
        f"direction {number}{_NORMS[spec.normalisation] if axis == 'random' else ''}"
        for number, axis in enumerate(spec.axes, start=1)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if 0.01 <= share <= 0.99 or share == 1 else 1}f} %"


def aspect_of(result: SurfaceResult) -> float | None:
    """Height over width of a plane at one scale for both axes; None when that would be too flat or tall to read."""
    aspect = float(np.ptp(result.y) / np.ptp(result.x))
    return aspect if 1 / _WIDEST <= aspect <= _WIDEST else None


def default_names(result: SurfaceResult, names: Sequence[str] | None) -> list[str]:
    """Names of the marked checkpoints: those given, else their labels. Raises `InputError` for another number."""
    found = list(names or result.labels)
    if len(found) != len(result.marks):
        raise InputError(f"names: {len(found)} given for {len(result.marks)} checkpoints. Give one name for each.")
    return found


def has_own_marks(result: Result) -> bool:
    """Whether a plane goes through several checkpoints, or shows a training, rather than lie around one."""
    return isinstance(result, SurfaceResult) and (isinstance(result.spec, PlaneSpec) or len(result.trajectory) > 0)
