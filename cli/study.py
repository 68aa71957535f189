"""What `landscape study` does once it is parsed: plan, execute, show."""

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from landscape import study
from landscape.arguments import literal
from landscape.errors import InputError, illegal
from landscape.study_executors import Executor, LocalProcesses, in_this_process
from landscape.study_spec import StudySpec, word
from landscape.study_table import cells_table, to_csv

from . import tables
from .progress import Report, progress


def run_study(path: str, output: str | None, jobs: int | None, cluster: str | None, retry: bool, dry_run: bool) -> None:
    """Execute a study, or say what it would do; exit code 1 when a run failed."""
    spec, folder = study.open_study(path)
    folder = Path(output) if output else folder
    if folder.suffix == ".toml" or (folder == Path(path) and not folder.is_dir()):
        raise illegal("--output", str(folder), "a folder", "Name one for the study's files.")
    executor = _executor(jobs, cluster)
    if dry_run:
        return _show_plan(spec, folder)
    with progress("study") as report:
        result = study.execute(spec, folder, executor, retry, _told(report))
    tables.show(result)
    click.echo(f"saved {folder / study.RESULT}, {folder / 'runs.csv'}, {folder / 'cells.csv'}", err=True)
    if result.failures:
        click.echo(
            f"landscape: {len(result.failures)} of {len(spec.runs)} runs failed. Mend what the reasons say; the same "
            "command with --retry does them again.", err=True,
        )  # fmt: skip
        raise SystemExit(1)


def show_study(path: str, csv: bool) -> None:
    """The table of what is done so far."""
    spec, folder = study.open_study(path)
    result = study.collect(spec, folder)
    if not result.runs:
        raise _nothing_done(path, folder)
    if csv:
        click.echo(to_csv(cells_table(result)), nl=False)
    else:
        tables.show(result)


def list_runs(path: str, where: Mapping[str, str]) -> None:
    """The folders of the runs that are done and have these settings, one a line, for other commands."""
    spec, folder = study.open_study(path)
    known = (*spec.factors, "seed")
    for name in where:
        if name not in known:
            raise illegal("--where", name, f"one of {', '.join(known)}", "Write NAME=VALUE.")
    jobs = study.progress_of(study.plan(spec, folder)).done
    if not jobs:
        raise _nothing_done(path, folder)
    settings = [{**job.run.setting, "seed": job.run.train.seed} for job in jobs]
    chosen = [
        job for job, setting in zip(jobs, settings, strict=True)
        if all(word(setting[name]) in (value, word(literal(value))) for name, value in where.items())
    ]  # fmt: skip
    if not chosen:
        said = " ".join(f"{name}={value}" for name, value in where.items())
        raise InputError(f"no run of {folder} that is done has {said}. See landscape study show {path}")
    for job in chosen:
        click.echo(folder / "runs" / job.run.name)


def _nothing_done(path: str, folder: Path) -> InputError:
    return InputError(f"no run of {folder} is done yet. Execute it: landscape study {path}")


def _executor(jobs: int | None, cluster: str | None) -> Executor:
    if cluster is not None:
        if jobs is not None:
            raise illegal("--jobs", jobs, "left out with --cluster", "The cluster has as many workers as it has.")
        from landscape.study_cluster import DaskCluster

        return DaskCluster(cluster)
    return in_this_process if jobs is None else LocalProcesses(jobs)


def _told(report: Report | None) -> Callable[[int, int, str], None]:
    """Ends of runs go into the bar; where nobody watches, failures alone are told."""

    def told(done: int, total: int, note: str) -> None:
        if report is not None:
            report(done, total, note)
        elif " " in note:
            click.echo(f"{done}/{total} {note}", err=True)

    return told


def _show_plan(spec: StudySpec, folder: Path) -> None:
    state = study.progress_of(study.plan(spec, folder))
    words = ", ".join(["history", *(word for word, _ in spec.measurements)])
    click.echo(
        f"{spec.name}: {len(spec.runs)} runs into {folder}, {len(state.done)} done, {len(state.failed)} failed, "
        f"{len(state.pending)} to do. Each measured ({words}) at {', '.join(map(str, spec.at))}."
    )
    for mark, jobs in (("done", state.done), ("failed", state.failed), ("to do", state.pending)):
        for job in jobs:
            click.echo(f"{mark:6} {job.run.name}")
