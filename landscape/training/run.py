"""Training a model, in a run folder that survives a kill at any moment."""

import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import landscape
from landscape.errors import InputError, illegal
from landscape.files import write_atomically
from landscape.spec import TrainSpec
from landscape.training.board import event_writer
from landscape.training.folder import CONFIG, FORMAT, RunFolder, claimed, holds_run, read_config
from landscape.training.loop import Report, epochs, is_last
from landscape.training.outcome import DivergedError, Row
from landscape.training.prepare import Data, Training, prepare
from landscape.training.processes import from_first, is_first

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A trained model (a copy of the caller's, in eval mode), one row of metrics per epoch, the run's folder.

    averages: by name ("ema", "swa") the models with averaged weights that the spec asked for.

    For the rows see `landscape.training.loop.epochs`, for the folder `landscape.training.folder`.
    """

    model: nn.Module
    history: tuple[Row, ...]
    folder: Path | None
    averages: Mapping[str, nn.Module] = field(default_factory=dict)


def train(
    model: nn.Module,
    dataset: Data,
    spec: TrainSpec,
    folder: str | os.PathLike[str] | None = None,
    record: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    device: str | torch.device = "cpu",
    loss: str | None = None,
    pause: float = 1.0,
) -> Trained:
    """Train a copy of `model` on `dataset.train`, measuring `dataset.test` after every epoch.

    Initial weights and dtype are the model's. record: JSON-able values that say how model and data were
    made (`model`, `model_args`, `data`, `data_args`, …); they are part of the run's configuration and go
    into every checkpoint. loss: its name, by default as `dataset.task` says.
    progress(steps done, steps in all, note) is called after every step. pause: epochs shorter than so many
    seconds are written down together, and repeated together after a kill.

    `folder` may be new, empty, or hold a run of the same configuration: an unfinished one resumes, with
    its own number of threads, to the bits it would have reached without interruption; a finished one
    returns at once. With `data_parallel` rank 0 alone reads and writes it, and a run resumes with as many processes.

    Raises `InputError`, having changed nothing, when the folder holds another configuration or other
    files, and when model, data and spec do not fit together; `DivergedError`, one of its kind, when loss
    or weights are no longer finite, with what was saved kept.
    """
    training = prepare(model, dataset, spec, loss, device)
    if folder is None and spec.tensorboard:
        raise illegal("tensorboard", True, "False without a run folder", "Name a folder to keep the event files in.")
    parallel, history, kept = spec.data_parallel, list[Row](), 0
    with ExitStack() as stack:
        run, write_events = None, None
        if folder is not None:
            path, configuration = Path(folder), _configuration(training, dataset, _plain(record or {}))

            def opened() -> dict[str, Any]:
                stack.enter_context(claimed(path))
                return _open(path, configuration)

            config = from_first(opened, parallel)
            stack.enter_context(threads(config["environments"][0]["threads"]))
            run = RunFolder(path, config["record"], pause)
            stopped = from_first(partial(run.begin, training), parallel)
            stopped.resume(training)
            history, kept = stopped.rows, len(stopped.rows)
            if history and is_last(history[-1], spec):
                return _trained(training, history, path)
            if spec.tensorboard and is_first(parallel):
                write_events = stack.enter_context(event_writer(path / "tensorboard", len(history)))
        try:
            for row in epochs(training, done=len(history), report=progress):
                history.append(row)
                if write_events is not None:
                    write_events(row)
                if run is not None:
                    kept = from_first(partial(run.commit, training, history), parallel)
        except DivergedError as error:
            saved = f" Everything up to epoch {kept} is kept in {folder}." if run is not None else ""
            raise DivergedError(f"{error}{saved}", error.epoch) from None
    return _trained(training, history, Path(folder) if folder is not None else None)


def _trained(training: Training, history: list[Row], folder: Path | None) -> Trained:
    return Trained(training.model.eval(), tuple(history), folder, dict(training.averages.models))


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back, so that it can be compared with the one on disk."""
    try:
        return json.loads(json.dumps(dict(record), allow_nan=False, default=dict))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the run's record cannot be written as JSON ({error}). Use strings, numbers and lists."
        ) from None


def _configuration(training: Training, data: Data, record: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the weights, and the environment, which decides at most their last bits."""
    seed, device = training.spec.seed, training.device
    together = {"processes": torch.distributed.get_world_size()} if training.spec.data_parallel else {}
    return {
        "kind": "run",
        "format": FORMAT,
        "train": _plain(training.spec.to_dict()),
        "record": {
            **record,
            "dataset": _plain({k: getattr(data, k, None) for k in ("name", "sha256", "preprocessing")}),
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


def _open(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Begin the run, or find it begun with the same configuration; the configuration on disk is returned."""
    if not holds_run(folder):
        write_atomically(folder / CONFIG, _text(config))
        return config
    stored = read_config(folder)
    there = {**stored, "train": _plain(TrainSpec.from_dict(stored["train"]).to_dict())}
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


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch computes with `count` threads: sums of another number of threads have other bits."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_finished(
    training: Training,
    history: Sequence[Row],
    dataset: Data,
    folder: str | os.PathLike[str],
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a training that ended elsewhere as the folder of its run: `training.model` is final, `initial` its start.

    Only the first and last checkpoint are there. Raises `InputError` as `train` does for a folder in use.
    """
    path, final = Path(folder), [p.detach().clone() for p in training.parameters]
    with claimed(path), torch.no_grad():
        run = RunFolder(path, _open(path, _configuration(training, dataset, _plain(record or {})))["record"])
        for parameter, initial in zip(training.parameters, training.initial, strict=True):
            parameter.copy_(initial)
        try:
            stopped = run.begin(training)
            stopped.resume(training)
        finally:
            for parameter, value in zip(training.parameters, final, strict=True):
                parameter.copy_(value)
        if not stopped.rows:
            run.commit(training, list(history))
