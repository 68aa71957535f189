"""One run of a study: trained in its folder, measured, its outcome written down; what goes wrong is its outcome, too.

RUN/config.json, checkpoints/, …     the run, as `landscape.training.run.train` keeps it
RUN/measured/WORD-MOMENT-DIGEST      a result file for each measurement; the digest is of what was asked
RUN/study.json                       the outcome: written last, so that what has none is not done
../starts/NAME/                      a run that others start from
"""

import json
import math
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from landscape.checkpoints import begun_from, choose_device, load_into, open_checkpoint, prepare
from landscape.errors import InputError
from landscape.fields import Spec
from landscape.files import read_bytes, write_atomically
from landscape.spec import ProblemSpec, SourceSpec, TrainSpec
from landscape.study_measure import Numbers, Undefined, numbers_of, outcome_numbers, start_numbers
from landscape.study_spec import LAST, StudyRun
from landscape.training.folder import checkpoint_path, claimed, read_history
from landscape.training.run import train

OUTCOME = "study.json"
_FORMAT = 1
_PATIENCE = 20.0
"""Seconds that a run waits for a process that still trains in its folder, such as one whose study was killed."""

DONE, FAILED = "done", "failed"

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


def perform(job: Job) -> dict[str, Any]:
    """Train the run (or find it trained), measure it, write its outcome down and return it.

    Whatever is raised becomes an outcome with status "failed" and the reason; training and measurements that were
    done stay, and a repetition goes on from there. A folder that another process holds gets no outcome.
    """
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    status, reason, trace = DONE, "", ""
    with _ONE, _setting(job):
        try:
            _wait_for(Path(job.folder))
        except InputError as error:
            return _outcome(job, FAILED, str(error))
        found = read_outcome(job)
        if found is not None and found["status"] == DONE:  # a cluster that lost the answer asks again
            return found
        try:
            forget(job.folder)
            train_alone(job)
            for row in _measured(job):
                rows.append(row)
        except InputError as error:
            status, reason = FAILED, str(error)
        except Exception as error:  # a study goes on whatever one run raises
            status, reason = FAILED, f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
    outcome = _outcome(job, status, reason, rows, trace, round(time.perf_counter() - began, 3))
    write_outcome(job, outcome)
    return outcome


def train_alone(job: Job) -> None:
    """Train the run in its folder, or go on there; a finished one is left as it is. So is what it starts from."""
    begun = None
    if job.run.start is not None:
        _train_start(job)
        begun = checkpoint_path(start_folder(job), job.run.start.epoch)
    _train(job.run.source, job.run.train, job.folder, begun)


def begin(job: Job) -> None:
    """Train the run that this one starts from; what goes wrong is told by every run that would start from it."""
    with _ONE, _setting(job), suppress(Exception):
        _train_start(job)


def _train_start(job: Job) -> None:
    assert job.run.start is not None
    _wait_for(start_folder(job), patience=math.inf)
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


def failed(job: Job, reason: str) -> dict[str, Any]:
    """Write down that a run failed for a reason outside it, such as a worker that was killed."""
    outcome = _outcome(job, FAILED, reason)
    write_outcome(job, outcome)
    return outcome


def _outcome(
    job: Job, status: str, reason: str, rows: Sequence[Mapping[str, Any]] = (), trace: str = "", seconds: float = 0.0
) -> dict[str, Any]:
    reason = " ".join(reason.split()).replace(job.folder, "its folder")
    return {
        "kind": "study-run", "format": _FORMAT, "run": job.run.name, "measured": job.measured, "status": status,
        "reason": reason, "traceback": trace, "rows": list(rows), "seconds": seconds,
    }  # fmt: skip


def write_outcome(job: Job, outcome: Mapping[str, Any]) -> None:
    text = json.dumps(outcome, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(Path(job.folder) / OUTCOME, text.encode())


def read_outcome(job: Job) -> dict[str, Any] | None:
    """The outcome of a run that was done as the job asks; None when there is none, or one of other measurements."""
    path = Path(job.folder) / OUTCOME
    if not path.exists():
        return None
    try:
        outcome = json.loads(read_bytes(path))
        known = outcome["kind"] == "study-run" and outcome["format"] == _FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"{path} is not the outcome of a run of this version. Remove it to measure the run again.")
    return outcome if outcome["measured"] == job.measured else None


def forget(folder: str) -> None:
    """Remove an outcome, and what writing one left behind: a run is begun in an empty folder only."""
    for path in (Path(folder) / OUTCOME, *Path(folder).glob(f".{OUTCOME}.*.part")):
        path.unlink(missing_ok=True)


def _wait_for(folder: Path, patience: float = _PATIENCE) -> None:
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
def _setting(job: Job) -> Iterator[None]:
    """Inside: the study's folder and number of threads."""
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


def _measured(job: Job) -> Iterator[dict[str, Any]]:
    """A row for each moment: what the run recorded there, then every measurement."""
    folder = Path(job.folder)
    history = read_history(folder)
    for moment in job.at:
        epoch = history[-1]["epoch"] if moment == LAST else int(moment)
        if epoch > history[-1]["epoch"]:
            raise InputError(f"the run ended after epoch {history[-1]['epoch']}, before epoch {epoch} of [measure] at.")
        opened = open_checkpoint(checkpoint_path(folder, epoch), job.problem)
        # Loss and accuracy are of all examples, also where measurements are of some.
        all_ = replace(job.problem, examples=None)
        whole = opened if all_ == job.problem else open_checkpoint(checkpoint_path(folder, epoch), all_)
        found: Numbers = outcome_numbers(whole, history, epoch)
        if job.run.start is not None:
            found |= start_numbers(read_history(start_folder(job)), job.run.start.epoch)
        undefined: Undefined = []
        for word, spec in job.measurements:
            more, without = numbers_of(opened, word, spec, job.measurements, folder / "measured", str(moment))
            found |= more
            undefined += without
        numbers = {name: [_plain(value), _plain(error)] for name, (value, error) in found.items()}
        yield {"at": str(moment), "numbers": numbers, "undefined": undefined}


def _plain(value: Any) -> float | str | None:
    """A number as strict JSON has it: None for NaN, a word for infinities."""
    value = float(value)
    return None if math.isnan(value) else value if math.isfinite(value) else str(value)
