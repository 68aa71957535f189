"""Surface files of Landscaper (github.com/Vis4SciML/Landscaper, 1.x), read: a `.npz` with `loss` and `coordinates`."""

import os
import zipfile
import zlib
from io import BytesIO
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.exchange.hdf5 import LARGEST
from landscape.files import read_bytes
from landscape.results import SurfaceResult
from landscape.spec import AxesSpec

_CAVEAT = (
    "Landscaper replaces values that are not finite by the mean, largest or smallest, and adds noise to the largest"
)


def read(path: str | os.PathLike[str]) -> SurfaceResult:
    """A scan from the file that `LossLandscape.save` writes: loss[i, j, …] is at (coordinates[0][i], …[1][j], …).

    Which directions were taken, how they were scaled and which of the cells were changed (see the provenance) it
    does not say; every cell counts as done. Raises `InputError` for a file that is something else, needs pickles, or
    has more than three axes.
    """
    arrays = _arrays(path)
    loss, coordinates = (arrays[name] for name in ("loss", "coordinates"))
    if not 1 <= loss.ndim <= 3 or coordinates.ndim != 2 or loss.shape != (coordinates.shape[1],) * len(coordinates):
        raise InputError(
            f"{path}: loss of shape {loss.shape} and coordinates of shape {coordinates.shape} do not fit each other, "
            "or have more than three axes. Save one to three axes with equally many points on each."
        )
    if loss.shape[0] < 2 or not np.isfinite(coordinates).all() or not (np.diff(coordinates, axis=1) > 0).all():
        raise InputError(f"{path}: coordinates must be two or more increasing numbers on each axis.")
    x, y, z = (*coordinates, np.zeros(0), np.zeros(0))[:3]
    return SurfaceResult(
        spec=AxesSpec(
            axes=("random",) * loss.ndim, points=loss.shape, radius=tuple(np.abs(coordinates).max(axis=1).tolist()),
            normalisation="none", biases="random", norms="random",
        ),
        x=x, y=y, z=z, train_loss=loss, train_accuracy=np.zeros(0), test_loss=np.zeros(0), test_accuracy=np.zeros(0),
        labels=("checkpoint",), marks=np.zeros((1, loss.ndim)), complete=True, evaluations=loss.size,
        done=np.ones(loss.shape, bool), axes=tuple(f"direction {name}" for name in "xyz"[: loss.ndim]),
        provenance={"program": "Landscaper", "files": [str(path)], "caveat": _CAVEAT},
    )  # fmt: skip


def _arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """`loss` and `coordinates` as float64; sizes are read before the numbers, and pickles never."""
    wrong = f"{path} is not a surface of Landscaper"
    found = {}
    try:
        with zipfile.ZipFile(BytesIO(read_bytes(path))) as archive:
            for name in ("loss", "coordinates"):
                with archive.open(f"{name}.npy") as file:
                    shape, dtype = _header(file)
                    if dtype.kind not in "fiu" or np.prod(shape, dtype=float) > LARGEST:
                        raise InputError(f"{wrong}: {name} is {dtype} of shape {shape}, not at most {LARGEST} numbers.")
                with archive.open(f"{name}.npy") as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False).astype(float)
    except KeyError as error:
        raise InputError(f"{wrong}: {error.args[0]}. It needs loss and coordinates.") from None
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{wrong} ({error}). Name the .npz file that it saved.") from None
    return found


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return shape, dtype
