"""The commands: parse, call, save, echo. Everything that needs torch is imported inside a command."""

import os
from pathlib import Path
from typing import Any

import click

from landscape.spec import (
    AlignSpec,
    BasinSpec,
    CompareSpec,
    CorrelateSpec,
    DensitySpec,
    HessianSpec,
    MeasuresSpec,
    ProblemSpec,
    SharpnessSpec,
    SourceSpec,
    TraceSpec,
    TrackSpec,
    TrainSpec,
)

from .files_commands import animate, export_command, figure, import_command, inspect, page, table
from .options import OneLineGroup, checkpoint_argument, numbers, result_options, spec_options
from .path_commands import path
from .study_commands import study
from .surface_commands import surface

# Read when torch starts. On shared or virtual cores, OpenMP threads that spin while they wait made a small
# convolutional network 8 times slower; threads that sleep cost nothing measurable elsewhere.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="landscape-sharpness", prog_name="landscape")
def landscape() -> None:
    """How sharp or flat is the minimum in a neural-network checkpoint?

    A CHECKPOINT is a run folder of `landscape train`, one of its files, or anybody's .safetensors or
    PyTorch state dict (then name its --model and --data).
    """


@landscape.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--start-from",
    type=click.Path(),
    metavar="CHECKPOINT",
    help="Begin with this checkpoint's weights, and with its model and data where none are named.",
)
@spec_options(source=SourceSpec, spec=TrainSpec)
def train(folder: str, start_from: str | None, source: SourceSpec, spec: TrainSpec) -> None:
    """Train a network into FOLDER; the same command resumes an interrupted run bit for bit."""
    from .training import train_run

    train_run(folder, source, spec, start_from)


@landscape.command()
@checkpoint_argument
@click.option("--verify", type=click.Choice(["pyhessian"]), help="Check the eigenvalues with another package.")
@click.option("--plan", "only_plan", is_flag=True, help="Say where the Krylov basis would lie and its size, and stop.")
@result_options
@spec_options(problem=ProblemSpec, spec=HessianSpec)
def hessian(
    checkpoint: str, verify: str | None, only_plan: bool, problem: ProblemSpec, spec: HessianSpec, **saving: Any
) -> None:
    """Eigenvalues of the Hessian of the mean loss at CHECKPOINT, with residual bounds."""
    from landscape import hessian

    from .actions import check_verifiable, measure_one, show_plan, verify_with_pyhessian

    check_verifiable(verify, spec)
    if only_plan:
        return show_plan(checkpoint, problem, spec)
    result, opened = measure_one(hessian.measure, checkpoint, problem, spec, "hessian", saving)
    if verify:
        verify_with_pyhessian(result, opened, quiet=saving["as_json"])


@landscape.command()
@checkpoint_argument
@result_options
@spec_options(problem=ProblemSpec, spec=DensitySpec)
def density(checkpoint: str, problem: ProblemSpec, spec: DensitySpec, **saving: Any) -> None:
    """The whole spectrum of the Hessian at CHECKPOINT: density, counts and moments, with standard errors."""
    from landscape import density

    from .actions import measure_one

    measure_one(density.measure, checkpoint, problem, spec, "density", saving)


@landscape.command()
@checkpoint_argument
@result_options
@spec_options(problem=ProblemSpec, spec=TraceSpec)
def trace(checkpoint: str, problem: ProblemSpec, spec: TraceSpec, **saving: Any) -> None:
    """Trace of the Hessian at CHECKPOINT with its standard error."""
    from landscape import trace

    from .actions import measure_one

    measure_one(trace.measure, checkpoint, problem, spec, "trace", saving)


@landscape.command()
@checkpoint_argument
@click.option("--audit", is_flag=True, help="Measure again after rescalings and permutations that keep the function.")
@result_options
@spec_options(problem=ProblemSpec, keskar=SharpnessSpec, spec=MeasuresSpec)
def sharpness(
    checkpoint: str, audit: bool, problem: ProblemSpec, keskar: SharpnessSpec, spec: MeasuresSpec, **saving: Any
) -> None:
    """Keskar's ε-sharpness at CHECKPOINT, full space and random subspace, or other measures of sharpness."""
    from .actions import measure_sharpness

    measure_sharpness(checkpoint, audit, problem, keskar, spec, saving)


@landscape.command()
@click.argument("reference", type=click.Path())
@click.argument("other", type=click.Path())
@result_options
@spec_options(problem=ProblemSpec, spec=AlignSpec)
def align(reference: str, other: str, problem: ProblemSpec, spec: AlignSpec, **saving: Any) -> None:
    """Put the hidden units of checkpoint OTHER into the order of REFERENCE's, and write the checkpoint.

    Its function stays, and the two come as close as permutations bring them (Git Re-Basin).
    """
    from .align import align_checkpoints

    align_checkpoints(reference, other, problem, spec, saving)


@landscape.command()
@click.argument("result", type=click.Path(), metavar="SURFACE_RESULT")
@result_options
@spec_options(spec=BasinSpec)
def basin(result: str, spec: BasinSpec, **saving: Any) -> None:
    """Width, area, asymmetry and form of the basins on a scan, its minima, and the passes between them."""
    from .scans import measure_basins

    measure_basins(result, spec, saving)


@landscape.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="[LABEL=]CHECKPOINT...")
@click.option("--correlate", is_flag=True, help="Rank correlation of each measure with the generalisation gap.")
@result_options
@spec_options(problem=ProblemSpec, spec=CompareSpec, keskar=SharpnessSpec, measures=MeasuresSpec, ranks=CorrelateSpec)
def compare(
    checkpoints: tuple[str, ...],
    correlate: bool,
    problem: ProblemSpec,
    spec: CompareSpec,
    keskar: SharpnessSpec,
    measures: MeasuresSpec,
    ranks: CorrelateSpec,
    **saving: Any,
) -> None:
    """One table of several checkpoints; equal labels are repetitions (seeds) of one recipe."""
    from .actions import compare_all

    compare_all(checkpoints, problem, spec, keskar, measures, ranks if correlate else None, saving)


@landscape.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="RUN_FOLDER | CHECKPOINT...")
@click.option(
    "--steps", callback=numbers, metavar="N,N,...",
    help="Steps of the checkpoints, in their order (default: as recorded, or the numbers in the names).",
)  # fmt: skip
@click.option("--initial", type=click.Path(), help="Checkpoint of w_0 (default: the run's; otherwise the first).")
@result_options
@spec_options(problem=ProblemSpec, spec=TrackSpec)
def track(
    checkpoints: tuple[str, ...],
    steps: tuple[float, ...] | None,
    initial: str | None,
    problem: ProblemSpec,
    spec: TrackSpec,
    **saving: Any,
) -> None:
    """Largest eigenvalues, loss and ‖w − w_0‖ at all checkpoints of one training, with the edge of stability.

    A run folder is all its checkpoints (keep more with `landscape train --save-every 1`); a pattern in quotes is all
    files that match. An interrupted series resumes with the same command.
    """
    from .track import track_series

    track_series(checkpoints, steps, initial, problem, spec, saving)


@landscape.command()
@click.option(
    "-o", "--output", type=click.Path(file_okay=False), default="demo", show_default=True, help="Folder to write."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Seeds of each recipe.")
def demo(output: str, seeds: int) -> None:
    """Small-batch SGD, large-batch and SAM minima on real digits: train, measure, draw."""
    from .actions import run_demo

    run_demo(Path(output), seeds)


for _command in (surface, path, study, figure, animate, page, inspect, table, export_command, import_command):
    landscape.add_command(_command)
