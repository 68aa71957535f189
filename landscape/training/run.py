"""Training a model, in a run folder that survives a kill at any moment."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.errors import illegal
from landscape.spec import TrainSpec
from landscape.training.board import event_writer
from landscape.training.claim import claimed
from landscape.training.configuration import begin, configuration, plain
from landscape.training.folder import RunFolder
from landscape.training.loop import Report, epochs, is_last
from landscape.training.outcome import DivergedError, Row
from landscape.training.prepare import Data, Training, prepare
from landscape.training.processes import from_first, is_first


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
            path, config = Path(folder), configuration(training, dataset, plain(record or {}))

            def opened() -> dict[str, Any]:
                stack.enter_context(claimed(path))
                return begin(path, config)

            there = from_first(opened, parallel)
            stack.enter_context(threads(there["environments"][0]["threads"]))
            run = RunFolder(path, there["record"], pause)
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
        run = RunFolder(path, begin(path, configuration(training, dataset, plain(record or {})))["record"])
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
