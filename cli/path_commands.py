"""The commands `landscape path …`: how two minima are connected."""

from typing import Any

import click

from landscape.spec import CurveSpec, CurveTrainSpec, PathSpec, ProblemSpec, SourceSpec

from .options import result_options, spec_options


@click.group()
def path() -> None:
    """How two minima are connected: barriers on the line between them, and curves that go round them."""


@path.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="[LABEL=]CHECKPOINT...")
@click.option(
    "--curve", "curves", multiple=True, type=click.Path(),
    help="Measure also this curve between two of them, the folder of `landscape path curve`; repeat.",
)  # fmt: skip
@result_options
@spec_options(problem=ProblemSpec, spec=PathSpec)
def barrier(
    checkpoints: tuple[str, ...], curves: tuple[str, ...], problem: ProblemSpec, spec: PathSpec, **saving: Any
) -> None:
    """How high the loss rises on the line from one checkpoint to another; of more than two, between each two.

    With batch norm, also with its statistics recomputed; with --align, also after permuting hidden units; with
    --curve, also along a trained curve. Each pair has its own result file.
    """
    from .path import measure_barriers

    measure_barriers(checkpoints, curves, problem, spec, saving)


@path.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.argument("folder", type=click.Path(file_okay=False))
@spec_options(source=SourceSpec, spec=CurveTrainSpec, curve=CurveSpec)
def curve(first: str, second: str, folder: str, source: SourceSpec, curve: CurveSpec, spec: CurveTrainSpec) -> None:
    """Train a curve of low loss from checkpoint FIRST to SECOND into FOLDER; the same command resumes."""
    from .path import train_curve

    train_curve(first, second, folder, source, curve, spec)
