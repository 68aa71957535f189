"""A folder held by one process: two trainings in one folder would mix their files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landscape.errors import InputError
from landscape.training.configuration import CONFIG
from landscape.training.folder import METRICS, STATE


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for this process: two trainings in one folder would mix their files.

    The claim ends with the process, however it ends. Raises `InputError` when another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot use {folder} for a run: {error.strerror}. Choose another folder.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is training in {folder}. Wait for it, or choose another folder."
            ) from None
        except OSError:  # a file system without locks
            pass
        _remove_leftovers(folder)
        yield
    finally:
        os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of atomic writes that a kill interrupted."""
    for path in [*folder.glob(".*.part"), *folder.glob("checkpoints/.*.part")]:
        if path.name.startswith((f".{CONFIG}.", f".{STATE}.", f".{METRICS}.", ".epoch_", ".ema.", ".swa.")):
            path.unlink()
