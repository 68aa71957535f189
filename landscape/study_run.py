"""One run of a study: trained in its folder, measured, its outcome written down; what goes wrong is its outcome, too.

RUN/config.json, checkpoints/, …     the run, as `landscape.training.run.train` keeps it
RUN/measured/WORD-MOMENT-DIGEST      a result file for each measurement; the digest is of what was asked
RUN/study.json                       the outcome: written last, so that what has none is not done
"""

import json
import math
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from landscape import study_job
from landscape.checkpoints import open_checkpoint
from landscape.errors import InputError
from landscape.files import read_bytes, write_atomically
from landscape.study_job import Job, in_turn, start_folder, train_alone, wait_for
from landscape.study_measure import Numbers, Undefined, numbers_of, outcome_numbers, start_numbers
from landscape.study_spec import LAST
from landscape.training.folder import checkpoint_path, read_history

OUTCOME = "study.json"
_FORMAT = 1
DONE, FAILED = "done", "failed"


def perform(job: Job) -> dict[str, Any]:
    """Train the run (or find it trained), measure it, write its outcome down and return it.

    Whatever is raised becomes an outcome with status "failed" and the reason; training and measurements that were
    done stay, and a repetition goes on from there. A folder that another process holds gets no outcome.
    """
    began, trained = time.perf_counter(), 0.0
    rows: list[dict[str, Any]] = []
    status, reason, trace = DONE, "", ""
    with in_turn(job):
        try:
            wait_for(Path(job.folder), study_job.PATIENCE)
        except InputError as error:
            return _outcome(job, FAILED, str(error))
        found = read_outcome(job)
        if found is not None and found["status"] == DONE:  # a cluster that lost the answer asks again
            return found
        try:
            forget(job.folder)
            train_alone(job)
            trained = sum(row["seconds"] for row in read_history(Path(job.folder)))  # now, before, or with others
            began = time.perf_counter()
            for row in _measured(job):
                rows.append(row)
        except InputError as error:
            status, reason = FAILED, str(error)
        except Exception as error:  # a study goes on whatever one run raises
            status, reason = FAILED, f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
    outcome = _outcome(job, status, reason, rows, trace, round(trained + time.perf_counter() - began, 3))
    write_outcome(job, outcome)
    return outcome


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
