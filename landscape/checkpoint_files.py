"""Checkpoints that we write: a state dict under its own names, sealed with a record of how it was made."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.files import seal, write_atomically

FORMAT = 1


def write_checkpoint(path: str | os.PathLike[str], record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state dict with its record (JSON), atomically; the same input always gives the same bytes."""
    write_atomically(path, seal({**record, "kind": "checkpoint", "format": FORMAT}, arrays(state)))


def arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors as arrays on the CPU. Raises `InputError` for what NumPy cannot hold."""
    try:
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    except (TypeError, AttributeError) as error:
        raise InputError(
            f"a checkpoint cannot hold this model ({error}). Use float32 or float64 tensors only."
        ) from None
