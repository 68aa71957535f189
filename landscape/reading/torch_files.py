"""Bytes written by `torch.save` to Python objects, by `torch.load(weights_only=True)` behind an audit.

`weights_only` refuses code, but not abuse: a tensor may claim more elements than its file has bytes, and a
flipped bit can ask for terabytes. So the pickle is first read without effect (see `pickles`), and every
class, storage and tensor in it is compared with what the file really holds. Zip archives are verified to the
last bit (see `archives`); the legacy format (before PyTorch 1.6) has no checksum, so there only sizes can be.
"""

import io
import struct
import warnings
from typing import Any

import numpy as np
import torch

from landscape.errors import InputError
from landscape.reading import archives, pickles
from landscape.reading.pickle_audit import REMEDY, SCALARS, refuse_code, storages
from landscape.reading.pickles import UnreadableError

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"


def load(content: bytes, path: object) -> Any:
    """The object saved in `content`; nothing in it is executed and nothing is larger than the file can hold.

    Raises `InputError`, in one line, for anything that `torch.load(weights_only=True)` would refuse, for
    damage (in a zip archive: any flipped bit), and for tensors that do not lie within their storage.
    """
    try:
        if content.startswith(LEGACY_MAGIC):
            _audit_legacy(content, path)
        else:
            _audit_zip(content, path)
    except InputError:
        raise
    except Exception as error:  # the pickle may hold anything in place of what is expected
        reason = error if isinstance(error, UnreadableError) else "its pickle makes no sense"
        raise InputError(f"{path} is truncated or damaged ({reason}). Restore it from a copy.") from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # torch.load documents none, and raises more than a dozen kinds on bad files
        raise InputError(
            f"{path} cannot be read by torch.load(weights_only=True) ({_reason(error)}). {REMEDY}"
        ) from None


def _reason(error: Exception) -> str:
    """The line of torch's message that says what happened."""
    told = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    reason = told.splitlines()[0][:200]
    return f"{reason}: it was saved with a pickle_protocol other than 2" if "Unsupported operand" in reason else reason


def foreign_pickle(content: bytes, path: object) -> InputError:
    """Why a pickle that `torch.save` did not write is refused."""
    try:
        root = pickles.read(io.BytesIO(content))
        refuse_code(root, path)
    except InputError as error:
        return error
    except Exception:  # as above
        return InputError(f"{path} is not a checkpoint: it begins or ends like a Python pickle, but is none. {REMEDY}")
    return InputError(f"{path} is a Python pickle that torch.save did not write; pickles are never run. {REMEDY}")


def _audit_zip(content: bytes, path: object) -> None:
    entries = archives.entries(content, path)
    if "data.pkl" not in entries:
        raise InputError(f"{path} is a zip archive without data.pkl, so torch.save did not write it. {REMEDY}")
    for key, storage in storages(pickles.read(io.BytesIO(entries["data.pkl"])), len(content), path).items():
        held = len(entries.get(f"data/{key}", b""))
        if held != storage.nbytes:
            raise UnreadableError(f"storage {key} should have {storage.nbytes} bytes and has {held}")


def _audit_legacy(content: bytes, path: object) -> None:
    """Magic, protocol, system, object and storage keys are pickles; then (int64 count, bytes) per storage."""
    file = io.BytesIO(content)
    _, _, _, root, keys = _refusing_modules(file, path)
    wanted = storages(root, len(content), path)
    if not isinstance(keys, list) or set(keys) != set(wanted) or len(keys) != len(wanted):
        raise UnreadableError("its list of storages does not match its tensors")
    position = file.tell()
    for key in keys:
        storage = wanted[key]
        if content[position : position + 8] != struct.pack("<q", storage.count):
            raise UnreadableError(f"storage {key} should have {storage.count} elements")
        position += 8 + storage.nbytes
    if position != len(content):
        raise UnreadableError(f"it should have {position} bytes and has {len(content)}")


def _refusing_modules(file: io.BytesIO, path: object) -> list[Any]:
    """The five pickles of a legacy file; code in the fourth is named even when the rest is gone."""
    read: list[Any] = []
    for number in range(5):
        read.append(pickles.read(file))
        if number == 3:
            refuse_code(read[3], path)
    return read


def _numpy_scalars() -> list[Any]:
    """What a NumPy number pickles as; accuracies beside the weights often are ones."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")]
    return [np.dtype, *((scalar, name) for name in sorted(SCALARS)), *kinds]
