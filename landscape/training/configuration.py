"""What a run is: everything that decides its weights, and the environments that it was trained in."""

import json
import logging
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import landscape
from landscape.checkpoint_files import FORMAT
from landscape.errors import InputError
from landscape.files import read_bytes, write_atomically
from landscape.spec import TrainSpec
from landscape.training.prepare import Data, Training

_log = logging.getLogger(__name__)

CONFIG = "config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """A run's configuration. Raises `InputError` when `folder` holds no run."""
    path = folder / CONFIG
    try:
        config = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Restore it, or choose another folder.") from None
    known = isinstance(config, dict) and config.get("kind") == "run" and config.get("format") == FORMAT
    if not known or not {"train", "record", "environments"} <= config.keys():
        raise InputError(f"{path} does not describe a run of this version. Choose another folder.")
    return config


def _holds_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`. Raises `InputError` when it holds anything else."""
    if (folder / CONFIG).exists():
        return True
    others = sorted(path.name for path in folder.iterdir())
    if others:
        raise InputError(
            f"{folder} holds other files ({', '.join(others[:3])}) and no run. Choose an empty or new folder."
        )
    return False


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back, so that it can be compared with the one on disk."""
    try:
        return json.loads(json.dumps(dict(record), allow_nan=False, default=dict))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the run's record cannot be written as JSON ({error}). Use strings, numbers and lists."
        ) from None


def configuration(training: Training, data: Data, record: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the weights, and the environment, which decides at most their last bits."""
    seed, device = training.spec.seed, training.device
    together = {"processes": torch.distributed.get_world_size()} if training.spec.data_parallel else {}
    return {
        "kind": "run",
        "format": FORMAT,
        "train": plain(training.spec.to_dict()),
        "record": {
            **record,
            "dataset": plain({k: getattr(data, k, None) for k in ("name", "sha256", "preprocessing")}),
        },
        "model": type(training.model).__name__,
        "parameters": sum(p.numel() for p in training.parameters),
        "examples": {"train": len(training.train[1]), "test": len(training.test[1])},
        "loss": training.loss.name,
        "dtype": str(training.parameters[0].dtype).removeprefix("torch."),
        **together,
        "seeds": {"order of examples": seed, "dropout": seed},
        "environments": [
            {
                "landscape": landscape.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                "threads": torch.get_num_threads(),
            }
        ],
    }


def begin(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Begin the run, or find it begun with the same configuration; the configuration on disk is returned."""
    if not _holds_run(folder):
        write_atomically(folder / CONFIG, _text(config))
        return config
    stored = read_config(folder)
    there = {**stored, "train": plain(TrainSpec.from_dict(stored["train"]).to_dict())}
    difference = _first_difference(there, config, "")
    if difference is not None:
        raise InputError(
            f"{folder} holds a run of another configuration: {difference}. Nothing was changed; choose another "
            "folder, or train with the run's own options."
        )
    now = {**config["environments"][0], "threads": stored["environments"][0]["threads"]}
    if now != stored["environments"][-1]:
        _log.warning(
            "%s was begun in another environment; the weights may differ in their last bits from those of an "
            "uninterrupted run. Both environments are in %s.", folder, CONFIG,
        )  # fmt: skip
        stored["environments"].append(now)
        write_atomically(folder / CONFIG, _text(stored))
    return stored


def _text(config: dict[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def _first_difference(there: Any, here: Any, name: str) -> str | None:
    """Where two configurations differ, in words; environments may."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(k for k in here if k not in there)]:
            if name or key != "environments":
                found = _first_difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
                if found is not None:
                    return found
        return None
    return None if there == here else f"{name} is {there!r} there and {here!r} here"
