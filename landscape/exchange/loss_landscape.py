"""Surface files of Li et al. 2018's code (github.com/tomgoldstein/loss-landscape), read and written.

A surface file holds `xcoordinates`, for planes `ycoordinates`, and grids `train_loss`, `train_acc`, `test_loss`,
`test_acc` (accuracies in percent) and `min_eig`, `max_eig`. Cells not computed are −1, in `min_eig` +1. Grids are
created with the shape (X, Y) but filled in the order of `numpy.meshgrid(x, y)`, where x runs fastest: entry k of the
raveled array is the value at (x[k mod X], y[k div X]) (its scheduler.py). Square grids are thus transposed, as its
plots expect, and others scrambled unless they are read in that order. A projection file holds `proj_xcoord` and
`proj_ycoord`, a file of principal directions `explained_variance_ratio_`.
"""

import os
import re
from collections.abc import Sequence

import numpy as np

from landscape.errors import InputError
from landscape.exchange.hdf5 import encode_arrays, read_arrays
from landscape.results import SurfaceResult
from landscape.spec import AxesSpec

_LOSSES = {"train": ("train_loss", "train_acc"), "test": ("test_loss", "test_acc")}
_EIGENVALUES = {"max_eig": "largest eigenvalue", "min_eig": "smallest eigenvalue"}
_MISSING = {"max_eig": -1.0, "min_eig": 1.0}
_GRIDS = (*_LOSSES["train"], *_LOSSES["test"], *_EIGENVALUES)
_PATH = ("proj_xcoord", "proj_ycoord")
_NAMES = ("xcoordinates", "ycoordinates", "dir_file", "explained_variance_ratio_", *_PATH, *_GRIDS)


def read(paths: Sequence[str | os.PathLike[str]]) -> SurfaceResult:
    """A scan from a surface file, and from further files with eigenvalues, a trajectory or principal directions.

    Cells that no quantity was computed for are not done; where one of several is missing it is NaN, and the scan is
    not complete. Of how the axes were made only what the name of the direction file says is known.
    Raises `InputError` for a file that is something else, and for arrays that do not fit each other.
    """
    arrays, texts = _gather(paths)
    where = str(paths[0])
    for name in ("xcoordinates", "train_loss"):
        if name not in arrays:
            raise InputError(f"{where}: no dataset {name}. Name the surface file of loss-landscape first.")
    coordinates = [_coordinates(arrays, name, where) for name in ("xcoordinates", "ycoordinates") if name in arrays]
    shape = tuple(map(len, coordinates))
    grids = {name: _from_file(arrays[name], shape, name, where) for name in _GRIDS if name in arrays}
    done = {name: ~missing for name, missing in _missing(grids).items()}
    values = {name: np.where(done[name], grid, np.nan) for name, grid in grids.items()}
    extra = [name for name in _EIGENVALUES if name in values]
    x, y = (*coordinates, np.zeros(0))[:2]
    trajectory = _trajectory(arrays, len(shape), where)
    return SurfaceResult(
        spec=_spec(texts.get("dir_file", ""), coordinates, "explained_variance_ratio_" in arrays),
        x=x, y=y, train_loss=values["train_loss"], train_accuracy=values.get("train_acc", np.zeros(0)) / 100,
        test_loss=values.get("test_loss", np.zeros(0)), test_accuracy=values.get("test_acc", np.zeros(0)) / 100,
        labels=("checkpoint",), marks=np.zeros((1, len(shape))), complete=bool(np.all(list(done.values()))),
        evaluations=int(sum(done[name].sum() for name in ("train_loss", "test_loss") if name in done)),
        done=np.any(list(done.values()), axis=0), axes=tuple(f"direction {name}" for name in "xy"[: len(shape)]),
        extra_names=tuple(_EIGENVALUES[name] for name in extra),
        extra=np.stack([values[name] for name in extra], axis=-1) if extra else np.zeros(0),
        trajectory=trajectory, trajectory_labels=tuple(map(str, range(len(trajectory)))),
        explained=arrays.get("explained_variance_ratio_", np.zeros(0)).ravel()[: len(shape)],
        provenance={"program": "loss-landscape", "files": [str(path) for path in paths], **texts},
    )  # fmt: skip


def _gather(paths: Sequence[str | os.PathLike[str]]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and texts of all files by name; what two files hold must be the same."""
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, str] = {}
    for path in paths:
        for name, found in read_arrays(path, _NAMES).items():
            if isinstance(found, str):
                texts.setdefault(name, found)
            elif not np.array_equal(arrays.setdefault(name, found), found, equal_nan=True):
                raise InputError(f"{path}: its {name} differs from that in {paths[0]}. Name files of one surface.")
    return arrays, texts


def _coordinates(arrays: dict[str, np.ndarray], name: str, where: str) -> np.ndarray:
    axis = arrays[name]
    if axis.ndim != 1 or len(axis) < 2 or not (np.isfinite(axis).all() and (np.diff(axis) > 0).all()):
        raise InputError(f"{where}: {name} must be two or more increasing numbers. Was the file written to its end?")
    return axis


def _from_file(array: np.ndarray, shape: tuple[int, ...], name: str, where: str) -> np.ndarray:
    """A grid with one array axis per coordinate axis, from its numbers with x running fastest."""
    if array.shape not in (shape, shape[::-1]):
        raise InputError(f"{where}: {name} has shape {array.shape}, its coordinates {shape}. The file is damaged.")
    return array.reshape(shape[::-1]).T


def _missing(grids: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where each quantity was not computed: quantities computed together are missing together."""
    lost: dict[str, np.ndarray] = {}
    for together in (*_LOSSES.values(), tuple(_EIGENVALUES)):
        here = [name for name in together if name in grids]
        marks = [grids[name] == _MISSING.get(name, -1.0) for name in here]
        lost |= {name: np.all(marks, axis=0) for name in here}
    return lost


def _trajectory(arrays: dict[str, np.ndarray], axes: int, where: str) -> np.ndarray:
    """(T, axes) coordinates of checkpoints, (0,) without any."""
    names = _PATH[:axes]
    if not any(name in arrays for name in names):
        return np.zeros(0)
    columns = [arrays.get(name, np.zeros(0)) for name in names]
    if any(column.ndim != 1 or len(column) != len(columns[0]) for column in columns):
        raise InputError(f"{where}: {' and '.join(names)} must be lists of one length. Name the projection file, too.")
    return np.stack(columns, axis=1)


def _spec(directions: str, coordinates: list[np.ndarray], principal: bool) -> AxesSpec:
    """What the name of a direction file says: `PCA_…`, `xnorm=filter`, `xignore=biasbn`."""
    norm = re.search(r"xnorm=(filter|layer|weight)", directions)
    ignored = "zero" if "xignore=biasbn" in directions else "random"
    components = principal or "PCA_" in directions
    return AxesSpec(
        axes=tuple(f"component:{k + 1}" if components else "random" for k in range(len(coordinates))),
        points=tuple(map(len, coordinates)),
        radius=tuple(float(np.abs(axis).max()) for axis in coordinates),
        normalisation=norm.group(1) if norm else "none",
        biases=ignored,
        norms=ignored,
    )


def encode(result: SurfaceResult) -> bytes:
    """The bytes of a surface file, with the trajectory in the same file: its plots take it for all three of theirs.

    Losses and eigenvalues keep every bit, accuracies become percent. The layout has no room for other quantities,
    nor for names and places of checkpoints; a loss of exactly −1 without an accuracy would read as not computed.
    Raises `InputError` for scans of three axes.
    """
    if len(result.shape) > 2:
        raise InputError("loss-landscape knows surfaces of one or two axes. Export three as .vts.")
    arrays: dict[str, np.ndarray] = {}
    arrays.update(zip(("xcoordinates", "ycoordinates"), result.coordinates, strict=False))
    for split, (loss, accuracy) in _LOSSES.items():
        for name, grid, unit in ((loss, f"{split}_loss", 1.0), (accuracy, f"{split}_accuracy", 100.0)):
            if getattr(result, grid).size:
                arrays[name] = _to_file(np.where(result.known, unit * getattr(result, grid), -1.0))
    for name, words in _EIGENVALUES.items():
        if words in result.extra_names:
            arrays[name] = _to_file(np.where(result.known, result.grid(words), _MISSING[name]))
    if result.trajectory.size:
        arrays.update(zip(_PATH, result.trajectory.T, strict=False))
    if result.explained.size:
        arrays["explained_variance_ratio_"] = result.explained
    return encode_arrays(arrays)


def left_out(result: SurfaceResult) -> tuple[str, ...]:
    """The quantities of a scan that `encode` has no room for."""
    return tuple(name for name in result.extra_names if name not in _EIGENVALUES.values())


def _to_file(grid: np.ndarray) -> np.ndarray:
    """The inverse of `_from_file`: the numbers with x running fastest, in an array of shape (X, Y)."""
    return grid.ravel(order="F").reshape(grid.shape)
