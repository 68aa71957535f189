"""The commands: parse, call, save, echo. Everything that needs torch is imported inside a command."""

import os
from pathlib import Path
from typing import Any

import click

from landscape.spec import (
    AlignSpec,
    AxesSpec,
    BasinSpec,
    CompareSpec,
    CorrelateSpec,
    CurveSpec,
    CurveTrainSpec,
    DensitySpec,
    HessianSpec,
    LineSpec,
    MeasuresSpec,
    PathSpec,
    PlaneSpec,
    ProblemSpec,
    SharpnessSpec,
    SourceSpec,
    TraceSpec,
    TrackSpec,
    TrainSpec,
)

from .options import DefaultGroup, OneLineGroup, numbers, pairs, result_options, spec_options

# Read when torch starts. On shared or virtual cores, OpenMP threads that spin while they wait made a small
# convolutional network 8 times slower; threads that sleep cost nothing measurable elsewhere.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_checkpoint = click.argument("checkpoint", type=click.Path())


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
    from .actions import train_run

    train_run(folder, source, spec, start_from)


@landscape.command()
@_checkpoint
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
@_checkpoint
@result_options
@spec_options(problem=ProblemSpec, spec=DensitySpec)
def density(checkpoint: str, problem: ProblemSpec, spec: DensitySpec, **saving: Any) -> None:
    """The whole spectrum of the Hessian at CHECKPOINT: density, counts and moments, with standard errors."""
    from landscape import density

    from .actions import measure_one

    measure_one(density.measure, checkpoint, problem, spec, "density", saving)


@landscape.command()
@_checkpoint
@result_options
@spec_options(problem=ProblemSpec, spec=TraceSpec)
def trace(checkpoint: str, problem: ProblemSpec, spec: TraceSpec, **saving: Any) -> None:
    """Trace of the Hessian at CHECKPOINT with its standard error."""
    from landscape import trace

    from .actions import measure_one

    measure_one(trace.measure, checkpoint, problem, spec, "trace", saving)


@landscape.command()
@_checkpoint
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


@landscape.group()
def surface() -> None:
    """The loss along a line, or over a plane. Interrupted scans resume with the same command."""


_metrics = click.option(
    "--metric", "metrics", multiple=True,
    help="Measured beside loss and accuracy: top-K, entropy, margin or file.py:function; repeat.",
)  # fmt: skip


@surface.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="FIRST SECOND [MORE]...")
@_metrics
@result_options
@spec_options(problem=ProblemSpec, spec=LineSpec)
def line(
    checkpoints: tuple[str, ...], metrics: tuple[str, ...], problem: ProblemSpec, spec: LineSpec, **saving: Any
) -> None:
    """From checkpoint FIRST (α = 0) to SECOND (α = 1), straight or on Keskar's arc; or on through MORE."""
    from .surface import scan_checkpoints

    scan_checkpoints("line", checkpoints, problem, spec, metrics, saving)


@surface.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.argument("third", type=click.Path())
@_metrics
@result_options
@spec_options(problem=ProblemSpec, spec=PlaneSpec)
def plane(
    first: str, second: str, third: str, metrics: tuple[str, ...], problem: ProblemSpec, spec: PlaneSpec, **saving: Any
) -> None:
    """The plane through three checkpoints, each drawn at its true coordinates."""
    from .surface import scan_checkpoints

    scan_checkpoints("plane", (first, second, third), problem, spec, metrics, saving)


@surface.command("axes")
@_checkpoint
@click.option(
    "--trajectory", multiple=True, type=click.Path(),
    help="Checkpoints of a training to project, for component:K too: a run folder, files or a pattern; repeat.",
)  # fmt: skip
@click.option(
    "--eigenvectors", type=click.Path(), help="Result of `landscape hessian --vectors` (default: measured if needed)."
)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Scans with so many seeds.")
@_metrics
@result_options
@spec_options(problem=ProblemSpec, spec=AxesSpec)
def axes(
    checkpoint: str,
    trajectory: tuple[str, ...],
    eigenvectors: str | None,
    seeds: int,
    metrics: tuple[str, ...],
    problem: ProblemSpec,
    spec: AxesSpec,
    **saving: Any,
) -> None:
    """One to three axes around CHECKPOINT: random, eigenvectors, components of a training, other checkpoints."""
    from .surface import scan_axes

    scan_axes(checkpoint, problem, spec, trajectory, eigenvectors, seeds, metrics, saving)


@surface.command("random")
@_checkpoint
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Scans with so many seeds.")
@_metrics
@result_options
@spec_options(problem=ProblemSpec, spec=AxesSpec)
def random_plane(
    checkpoint: str, seeds: int, metrics: tuple[str, ...], problem: ProblemSpec, spec: AxesSpec, **saving: Any
) -> None:
    """A random plane around CHECKPOINT, filter-normalised."""
    from .surface import scan_axes

    scan_axes(checkpoint, problem, spec, (), None, seeds, metrics, saving)


@surface.command("trajectory")
@click.argument("checkpoints", nargs=-1, required=True, metavar="RUN_FOLDER | CHECKPOINT...")
@_metrics
@result_options
@spec_options(problem=ProblemSpec, spec=AxesSpec)
def trajectory_plane(
    checkpoints: tuple[str, ...], metrics: tuple[str, ...], problem: ProblemSpec, spec: AxesSpec, **saving: Any
) -> None:
    """The plane of a training's first principal components around its last checkpoint, with the training on it."""
    from .surface import scan_trajectory

    scan_trajectory(checkpoints, problem, spec, metrics, saving)


@landscape.command()
@click.argument("result", type=click.Path(), metavar="SURFACE_RESULT")
@result_options
@spec_options(spec=BasinSpec)
def basin(result: str, spec: BasinSpec, **saving: Any) -> None:
    """Width, area, asymmetry and form of the basins on a scan, its minima, and the passes between them."""
    from .scans import measure_basins

    measure_basins(result, spec, saving)


@landscape.group()
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


@landscape.group(cls=DefaultGroup, subcommand_metavar="[run] SPEC.toml | show SPEC.toml | runs SPEC.toml")
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


@landscape.command()
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("--recipe", help="Figure recipe (default: by the kind of result).")
@click.option(
    "-o", "--output", type=click.Path(), help="Path of the pictures without ending (default: the first result's)."
)
@click.option("--name", "names", multiple=True, help="Name of each result (or point) in the picture; repeat.")
@click.option(
    "--set", "settings", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Option of the recipe; repeat."
)
@click.option("--overwrite", is_flag=True, help="Replace existing pictures.")
def figure(
    results: tuple[str, ...],
    recipe: str | None,
    output: str | None,
    overwrite: bool,
    names: tuple[str, ...],
    settings: Any,
) -> None:
    """Draw result files: writes a PDF and a PNG."""
    from .actions import draw_figure

    draw_figure(results, recipe, output, overwrite, names, dict(settings))


@landscape.command()
@click.argument("result", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False),
    help="File to write, .gif, or .mp4 where ffmpeg is installed (default: the result's name with .gif).",
)  # fmt: skip
@click.option("--quantity", help="What the contours show (default: train loss).")
@click.option("--fps", type=float, help="Checkpoints shown in a second (default: 6).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def animate(result: str, output: str | None, quantity: str | None, fps: float | None, overwrite: bool) -> None:
    """Film a training that moves over its plane, with its loss beside it; RESULT is a scan along its components."""
    from .pictures import animate_result

    animate_result(result, output, overwrite, quantity=quantity, fps=fps)


@landscape.command()
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(),
    help="HTML file to write, or a folder for several results (default: each result's name with .html).",
)  # fmt: skip
@click.option("--title", help="Title of the page (default: the checkpoints' labels).")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def page(results: tuple[str, ...], output: str | None, title: str | None, overwrite: bool) -> None:
    """One interactive HTML page for each line or plane in RESULTS: turn, zoom, read values; needs no network."""
    from .pictures import write_pages

    write_pages(results, output, title, overwrite)


@landscape.command()
@click.argument("path", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(path: str, as_json: bool) -> None:
    """What is in this checkpoint or result file?"""
    from .actions import inspect_file

    inspect_file(Path(path), as_json)


@landscape.command()
@click.argument("result", type=click.Path())
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "latex", "json"]),
    help="How it is written (default: by the ending .txt, .csv, .tex or .json of --output; else text).",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="File to write (default: standard output).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def table(result: str, form: str | None, output: str | None, overwrite: bool) -> None:
    """The table of a RESULT file: as text, as CSV with every digit, as LaTeX for a paper, or as JSON."""
    from .table_command import write_table

    write_table(result, form, output, overwrite)


@landscape.command("export")
@click.argument("result", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="File: .h5, .vts, .vtp or .csv.")
@click.option("--quantity", default="train loss", show_default=True, help=".vts, .vtp: the height of the surface.")
@click.option(
    "--log/--linear", "logarithmic", default=None, help=".vts, .vtp: log10 heights (default: where all are positive)."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export_command(result: str, output: str, quantity: str, logarithmic: bool | None, overwrite: bool) -> None:
    """Write a RESULT for other programs: .h5 as loss-landscape reads it, .vts and .vtp for ParaView, or .csv.

    .vts holds the surface, .vtp the trajectory and the checkpoints on it; .csv every digit of any result.
    """
    from .scans import export_result

    export_result(result, output, quantity, logarithmic, overwrite)


@landscape.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Result file (default: named by the first FILE).")
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
def import_command(files: tuple[str, ...], output: str | None, overwrite: bool) -> None:
    """Read a surface of other programs: .h5 of loss-landscape or .npz of Landscaper.

    Eigenvalues, projected trajectory and principal directions of loss-landscape may follow in files of their own.
    """
    from .scans import import_surface

    import_surface(files, output, overwrite)


@landscape.command()
@click.option(
    "-o", "--output", type=click.Path(file_okay=False), default="demo", show_default=True, help="Folder to write."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Seeds of each recipe.")
def demo(output: str, seeds: int) -> None:
    """Small-batch SGD, large-batch and SAM minima on real digits: train, measure, draw."""
    from .actions import run_demo

    run_demo(Path(output), seeds)
