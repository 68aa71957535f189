"""A study: every run of its file trained and measured, whatever happens to some of them, and one table of all.

    OUTPUT/study.toml            the file, as it was last run
    OUTPUT/runs/NAME/            each run; see `landscape.study_job`, `landscape.study_run`
    OUTPUT/starts/NAME/          with a table [start]: what the runs of a seed start from
    OUTPUT/study.safetensors     the result; runs.csv and cells.csv (with pyarrow also .parquet) its tables

What is done is what has an outcome on disk, so that a study that was killed goes on with the runs that have none.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.files import write_atomically
from landscape.results import save
from landscape.study_batches import batches, perform_batch
from landscape.study_executors import Executor, in_this_process
from landscape.study_file import read_study
from landscape.study_job import Job, begin, start_folder
from landscape.study_result import StudyResult
from landscape.study_run import FAILED, failed, read_outcome
from landscape.study_spec import StudyRun, StudySpec
from landscape.study_table import write_tables
from landscape.training.claim import claimed

SPEC, RESULT = "study.toml", "study.safetensors"

Report = Callable[[int, int, str], object]
"""Called with the runs done, all runs, and the name of the one that ended last, or why it failed."""


@dataclass(frozen=True)
class Progress:
    """The jobs of a study by how far they are."""

    done: tuple[Job, ...]
    failed: tuple[Job, ...]
    pending: tuple[Job, ...]


def plan(spec: StudySpec, folder: str | os.PathLike[str]) -> list[Job]:
    """A job for each run, in the order of the file; everything in it is absolute."""
    output = Path(folder).absolute()
    return [
        Job(
            run=(placed := _placed(run)), folder=str(output / "runs" / run.name), where=str(Path.cwd()),
            problem=spec.problem_of(placed), measurements=spec.measurements, at=spec.at, measured=spec.measured(run),
            threads=spec.options.threads,
        )
        for run in spec.runs
    ]  # fmt: skip


def _placed(run: StudyRun) -> StudyRun:
    """The run with the folder of data that this process would use, for processes with another environment."""
    folder = run.source.data_folder or os.environ.get("LANDSCAPE_DATA")
    return replace(run, source=replace(run.source, data_folder=str(Path(folder).absolute()) if folder else None))


def progress_of(jobs: Sequence[Job]) -> Progress:
    """Which jobs have an outcome on disk."""
    outcomes = [(job, read_outcome(job)) for job in jobs]
    return Progress(
        done=tuple(job for job, found in outcomes if found is not None and found["status"] != FAILED),
        failed=tuple(job for job, found in outcomes if found is not None and found["status"] == FAILED),
        pending=tuple(job for job, found in outcomes if found is None),
    )


def execute(
    spec: StudySpec,
    folder: str | os.PathLike[str],
    executor: Executor = in_this_process,
    retry: bool = False,
    report: Report | None = None,
) -> StudyResult:
    """Do every run that has no outcome yet (with `retry` also those that failed), and write result and tables.

    The table is the same on every executor, but for the seconds. Raises `InputError` when `folder` holds other files
    or another process executes a study there; what goes wrong in a run is in the result.
    """
    output = Path(folder)
    _check_folder(output)
    with claimed(output):
        write_atomically(output / SPEC, spec.text.encode())
        jobs = plan(spec, output)
        state = progress_of(jobs)
        todo = {job.run.name for job in (*state.pending, *(state.failed if retry else ()))}
        for _ in executor(begin, _starts(jobs, todo)):
            pass  # what could not be trained fails again, and is told, in the runs that start from it
        work = batches(jobs, todo, spec.options.together)
        done = len(jobs) - len(todo)
        for number, outcomes, why in executor(perform_batch, work) if work else ():
            if outcomes is None:
                outcomes = [read_outcome(job) or failed(job, why) for job in work[number].asked]
            done += len(outcomes)
            if report is not None:
                for outcome in outcomes:
                    report(done, len(jobs), f"{outcome['run']} {outcome['reason']}".strip())
        result = collect(spec, output)
        save(result, output / RESULT)
        write_tables(result, output)
    return result


def _starts(jobs: Sequence[Job], todo: set[str]) -> list[Job]:
    """A job for each run that must be there before others can start from it."""
    return list({start_folder(job): job for job in jobs if job.run.start is not None and job.run.name in todo}.values())


def open_study(path: str | os.PathLike[str]) -> tuple[StudySpec, Path]:
    """The study that a file or an output folder means, and its output folder."""
    place = Path(path)
    if place.is_dir():
        if not (place / SPEC).exists():
            raise InputError(f"{place} holds no study: it has no {SPEC}. Name a study's file or output folder.")
        return read_study(place / SPEC), place
    if place.suffix == ".safetensors":
        raise InputError(f"{place} is no study's file or folder. See a result as a table: landscape table {place}")
    return read_study(place), place.with_suffix("")


def collect(spec: StudySpec, folder: str | os.PathLike[str]) -> StudyResult:
    """The table of what is on disk: a row for each run that has an outcome, at each moment."""
    jobs = plan(spec, folder)
    found = [(job, outcome) for job in jobs if (outcome := read_outcome(job)) is not None]
    rows: list[tuple[Job, str, dict[str, Any], str]] = []
    undefined: list[tuple[str, str, str]] = []
    for job, outcome in found:
        measured = {row["at"]: row for row in outcome["rows"]}
        for moment in map(str, spec.at):
            row = measured.get(moment, {"numbers": {}, "undefined": []})
            undefined += [(f"runs/{job.run.name}", name, reason) for name, reason in row["undefined"]]
            rows.append((job, moment, row["numbers"], outcome["reason"] if outcome["status"] == FAILED else ""))
    columns = tuple(dict.fromkeys(name for _, _, numbers, _ in rows for name in numbers))
    table = np.full((len(rows), len(columns), 2), np.nan)
    for i, (_, _, numbers, _) in enumerate(rows):
        for j, column in enumerate(columns):
            for k, value in enumerate(numbers.get(column, ())):
                table[i, j, k] = np.nan if value is None else float(value)
    return StudyResult(
        name=spec.name, labels=tuple(job.run.label or spec.name for job, *_ in rows),
        checkpoints=tuple(f"runs/{job.run.name}" for job, *_ in rows), columns=columns,
        values=table[..., 0], errors=table[..., 1],
        settings=tuple({**job.run.setting, "seed": job.run.train.seed} for job, *_ in rows),
        undefined=tuple(undefined), runs=tuple(job.run.name for job, *_ in rows), at=tuple(at for _, at, *_ in rows),
        troubles=tuple(why for *_, why in rows), factors=spec.factors, by=spec.by, shown=spec.columns,
        pending=len(jobs) - len(found), seconds=float(sum(outcome["seconds"] for _, outcome in found)),
        provenance={"study": spec.text},
    )  # fmt: skip


def _check_folder(folder: Path) -> None:
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if others and SPEC not in others:
        raise InputError(
            f"{folder} holds other files ({', '.join(sorted(others)[:3])}) and no study. Choose an empty or new folder."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a study needs a folder. Choose another --output.")
