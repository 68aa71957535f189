"""Plain arrays from and to HDF5 files, whoever made them: numbers of bounded size, stored in the file itself."""

import os
from collections.abc import Iterable, Mapping
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.files import read_bytes

LARGEST = 10**8
"""Entries of the largest array that is read: a file of a few bytes can claim any number."""


def read_arrays(path: str | os.PathLike[str], names: Iterable[str]) -> dict[str, np.ndarray | str]:
    """Those of the named datasets that a file holds: arrays of float64, or texts.

    Raises `InputError` when the file is not HDF5, h5py is missing, or a dataset is not numbers, is larger than
    `LARGEST`, or lies outside the file (links to other files and virtual datasets are not followed).
    """
    h5py = _h5py()
    content = BytesIO(read_bytes(path))
    try:
        with h5py.File(content, "r") as file:
            present = set(file)  # with links that lead nowhere, which `in file` does not see
            return {name: _read(h5py, file, name, path) for name in names if name in present}
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path} cannot be read as HDF5 ({error}). Name the .h5 file of a surface.") from None


def _read(h5py: ModuleType, file: Any, name: str, path: object) -> np.ndarray | str:
    inside = isinstance(file.get(name, getlink=True), h5py.HardLink)
    found: Any = file[name] if inside else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise InputError(f"{path}: {name} is not an array in this file. Copy its numbers into the file.")
    if h5py.check_string_dtype(found.dtype) and found.shape == ():
        return found.asstr(errors="replace")[()]
    if found.dtype.kind not in "fiu" or found.shape is None:
        raise InputError(f"{path}: {name} does not hold numbers ({found.dtype}). It should be an array of floats.")
    if found.size > LARGEST:
        raise InputError(f"{path}: {name} claims {found.size} entries, more than {LARGEST}. Is it a surface?")
    return found[()].astype(float)


def encode_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an HDF5 file with these datasets; the same arrays give the same bytes."""
    content = BytesIO()
    with _h5py().File(content, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
    return content.getvalue()


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise InputError(
            "HDF5 files need the package h5py. Install it: pip install 'landscape-sharpness[h5]'."
        ) from None
    return h5py
