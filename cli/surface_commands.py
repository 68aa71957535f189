"""The commands `landscape surface …`: the loss along lines and over planes."""

from typing import Any

import click

from landscape.spec import AxesSpec, LineSpec, PlaneSpec, ProblemSpec

from .options import checkpoint_argument, result_options, spec_options


@click.group()
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
@checkpoint_argument
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
@checkpoint_argument
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
