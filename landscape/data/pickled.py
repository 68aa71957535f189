"""Pickled dicts of numpy arrays, read without running anything that the pickle asks for.

A pickle is a program. This reader lets it build lists, dicts, numbers and strings, and stands in for the
few numpy functions that rebuild an array of plain numbers; any other name is refused before it is touched.
"""

import io
import math
import pickle
from typing import Any

import numpy as np

from landscape.errors import InputError

_NUMERIC = "biuf"


def read_pickle(content: bytes, name: str) -> Any:
    """The object in a pickle, byte strings of Python 2 as Latin-1 text keys; `name` is for messages.

    Raises `InputError`, one line, when it is damaged or names anything but numpy arrays.
    """
    try:
        return _plain(_ArrayUnpickler(io.BytesIO(content), encoding="bytes").load())
    except InputError:
        raise
    except _RefusedError as refused:
        raise InputError(
            f"{name} asks to run {refused}, which no data file needs. Nothing was run; fetch the file from its source."
        ) from None
    except Exception as error:  # damage can surface as almost any exception of the unpickler
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} is damaged or not a pickle ({type(error).__name__}: {text}). Fetch it again."
        ) from None


class _RefusedError(Exception):
    pass


class _Stored:
    """What stands in for an array or a dtype until the pickle is read: its pickled state, nothing live."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Stored):
    pass


class _Dtype(_Stored):
    pass


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Bound methods: unlike a function or a class, a pickle cannot set attributes on them.
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return self._array
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return self._array_from_buffer
        if (module, name) == ("numpy", "dtype"):
            return self._dtype
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"
        if (module, name) == ("_codecs", "encode"):
            return self._encoded
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("a persistent object")

    def _array(self, *arguments: Any) -> _Array:
        return _Array(*arguments)

    def _dtype(self, *arguments: Any) -> _Dtype:
        return _Dtype(*arguments)

    def _array_from_buffer(self, content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        if not isinstance(content, bytes | bytearray):
            raise ValueError("an array without bytes")
        array = _Array()
        array.state = (1, shape, dtype, order == "F", bytes(content))
        return array

    def _encoded(self, text: str, encoding: str) -> bytes:
        return text.encode("latin-1")


def _plain(value: Any) -> Any:
    """The value with its top-level keys as text and its top-level arrays as numpy arrays."""
    if isinstance(value, dict):
        return {_text(k): _rebuilt(v) for k, v in value.items()}
    return _rebuilt(value)


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _rebuilt(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    _, shape, stored, fortran, content = value.state
    dtype = np.dtype(str(_text(stored.arguments[0])))
    if dtype.kind not in _NUMERIC:
        raise ValueError(f"an array of {dtype}, not of numbers")
    if stored.state is not None and _text(stored.state[1]) in ("<", ">"):
        dtype = dtype.newbyteorder(_text(stored.state[1]))
    content = content.encode("latin-1") if isinstance(content, str) else content
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} with {len(content)} bytes")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("=")))
