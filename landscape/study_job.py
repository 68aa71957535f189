"""A run of a study as a process is given it, and its training: in its folder, and in turn with others.

RUN/config.json, checkpoints/, …     the run, as `landscape.training.run.train` keeps it
../starts/NAME/                      a run that others start from
"""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from landscape.checkpoints import begun_from, choose_device, load_into, prepare
from landscape.errors import InputError
from landscape.fields import Spec
from landscape.spec import ProblemSpec, SourceSpec, TrainSpec
from landscape.study_spec import StudyRun
from landscape.training.claim import claimed
from landscape.training.folder import checkpoint_path
from landscape.training.run import train

PATIENCE = 20.0
"""Seconds that a run waits for a process that still trains in its folder, such as one whose study was killed."""

_ONE = threading.Lock()
"""Runs that share a process take turns: initial weights and dropout are drawn from its global random state."""


@dataclass(frozen=True)
class Job:
    """Everything a process needs to know of a run. where: the folder that relative names are relative to.

    measured: a digest of what is measured, to tell an outcome that lacks something.
    """

    run: StudyRun
    folder: str
    where: str
    problem: ProblemSpec
    measurements: tuple[tuple[str, Spec], ...]
    at: tuple[int | str, ...]
    measured: str
    threads: int


def train_alone(job: Job) -> None:
    """Train the run in its folder, or go on there; a finished one is left as it is. So is what it starts from."""
    begun = None
    if job.run.start is not None:
        _train_start(job)
        begun = checkpoint_path(start_folder(job), job.run.start.epoch)
    _train(job.run.source, job.run.train, job.folder, begun)


def begin(job: Job) -> None:
    """Train the run that this one starts from; what goes wrong is told by every run that would start from it."""
    with in_turn(job), suppress(Exception):
        _train_start(job)


def _train_start(job: Job) -> None:
    assert job.run.start is not None
    wait_for(start_folder(job), patience=math.inf)
    _train(job.run.start.source, job.run.start.train, str(start_folder(job)))


def start_folder(job: Job) -> Path:
    """Where the run lies that this one starts from: beside the study's runs, shared by those of one seed."""
    assert job.run.start is not None
    return Path(job.folder).parent.parent / "starts" / job.run.start.name


def _train(source: SourceSpec, spec: TrainSpec, folder: str, begun: Path | None = None) -> None:
    """begun: the checkpoint whose weights it starts from, None for initial weights."""
    problem, record = ProblemSpec.from_dict(source.to_dict()), record_of(source)
    model, dataset = prepare(problem, spec.seed)
    if begun is not None:
        _, weights, record["start"] = begun_from(problem, begun, source.data or "digits")
        load_into(model, weights)
    train(model, dataset, spec, folder, record, None, choose_device(source.device), source.loss)


def record_of(source: SourceSpec) -> dict[str, Any]:
    """How a run's model and data are made, as `landscape train` records it."""
    return {name: getattr(source, name) for name in ("model", "model_args", "data", "data_args", "loss")}


def wait_for(folder: Path, patience: float) -> None:
    """Wait for another process to leave the folder. Raises `InputError` when it does not for so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with claimed(folder):
                return
        except InputError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def in_turn(job: Job) -> Iterator[None]:
    """Inside: alone in this process, with the study's folder and number of threads."""
    with _ONE, _setting(job):
        yield


@contextmanager
def _setting(job: Job) -> Iterator[None]:
    threads, where = torch.get_num_threads(), Path.cwd()
    try:
        if Path(job.where) != where and Path(job.where).is_dir():
            os.chdir(job.where)
        if threads != job.threads:
            torch.set_num_threads(job.threads)
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        os.chdir(where)
