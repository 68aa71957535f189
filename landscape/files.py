"""Files that are whole or absent: atomic writes, and sealed containers in which any flipped bit is noticed.

A sealed file is an ordinary `.safetensors` file (other tools read it) whose one metadata entry,
`landscape`, is a JSON record. The record holds the SHA-256 of the whole file, taken with the digest's own
64 characters set to zero.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _parse
from safetensors.numpy import save as _serialise

from landscape.errors import InputError

_BLANK = b"landscape-sha256:" + b"0" * 64
_SEAL = re.compile(rb"landscape-sha256:([0-9a-f]{64})")
_OURS = re.compile(rb'\{"__metadata__":\{"landscape":|landscape-sha256:')
_HEADER_LIMIT = 1 << 26


@dataclass(frozen=True)
class Sealed:
    """What a sealed file holds: a JSON record and named arrays, and the file's own digest."""

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]
    sha256: str


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace `path` by `content`, or leave it as it was: temporary file beside it, fsync, rename."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}. Choose a folder that exists and is writable."
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path}: {error.strerror}. Nothing was changed; free space and try again."
        ) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a sealed file; the same record and arrays always give the same bytes."""
    text = json.dumps({"seal": _BLANK.decode(), **record}, sort_keys=True)
    data = {name: np.asarray(array, order="C") for name, array in sorted(arrays.items())}
    content = _serialise(data, {"landscape": text})
    return content.replace(_BLANK, b"landscape-sha256:" + hashlib.sha256(content).hexdigest().encode(), 1)


def unseal(content: bytes, path: object) -> Sealed | None:
    """Read the bytes of a sealed file, `None` when they are not one of ours.

    Raises `InputError` when the file is ours and a single bit differs from what was written.
    """
    head = content[:_HEADER_LIMIT]
    if not _OURS.search(head):
        return None
    found = _SEAL.search(head)
    damaged = InputError(
        f"{path} is damaged: its contents do not match the checksum inside it. Restore a copy, or make it again."
    )
    if found is None:
        raise damaged
    digest = found.group(1).decode()
    blank = content[: found.start()] + _BLANK + content[found.end() :]
    if hashlib.sha256(blank).hexdigest() != digest:
        raise damaged
    try:
        arrays = _parse(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        record = json.loads(header["__metadata__"]["landscape"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}). It was sealed by another program; make it again.") from None
    record.pop("seal")
    return Sealed(record, arrays, digest)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The file's bytes, or one line that says why there are none."""
    path = Path(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the path (current folder: {Path.cwd()}).") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, and a file is needed. Name a file in it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
