"""The commands `landscape study …`: many trainings from one file."""

from typing import Any

import click

from .options import DefaultGroup, pairs


@click.group(cls=DefaultGroup, subcommand_metavar="[run] SPEC.toml | show SPEC.toml | runs SPEC.toml")
def study() -> None:
    """Many trainings × seeds × measurements, declared in one file, and one table of all.

    `landscape study SPEC.toml` executes it; interrupted, the same command goes on. `landscape study show` prints the
    table of what is done.
    """


@study.command("run")
@click.argument("path", type=click.Path(), metavar="SPEC.toml")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False), help="Folder (default: the file's name without .toml)."
)
@click.option("--jobs", type=click.IntRange(1), help="Processes on this machine (default: in this one).")
@click.option("--cluster", help="Dask cluster: tcp://HOST:PORT, local:N or slurm.toml (arguments of SLURMCluster).")
@click.option("--retry", is_flag=True, help="Do the runs that failed again, too.")
@click.option("--dry-run", is_flag=True, help="Say which runs there are and which are done, and stop.")
def study_run(path: str, output: str | None, jobs: int | None, cluster: str | None, retry: bool, dry_run: bool) -> None:
    """Train and measure every run of SPEC.toml that is not done; exit code 1 when one failed.

    A run that fails is a row of the table with its reason. The table is the same wherever the runs are computed.
    """
    from .study import run_study

    run_study(path, output, jobs, cluster, retry, dry_run)


@study.command("show")
@click.argument("path", type=click.Path(), metavar="SPEC.toml|OUTPUT")
@click.option("--csv", is_flag=True, help="Print the cells as CSV, with every digit.")
def study_show(path: str, csv: bool) -> None:
    """Mean ± standard error over seeds of every cell, of the runs that are done."""
    from .study import show_study

    show_study(path, csv)


@study.command("runs")
@click.argument("path", type=click.Path(), metavar="SPEC.toml|OUTPUT")
@click.option(
    "--where", multiple=True, callback=pairs, metavar="NAME=VALUE", help="Runs with this setting alone; repeat."
)
def study_runs(path: str, where: Any) -> None:
    """The folders of the runs that are done, one a line: what other commands are given of a study."""
    from .study import list_runs

    list_runs(path, dict(where))
