"""What `landscape train` does once it is parsed, in one process or in each of several."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from landscape.errors import illegal
from landscape.spec import ProblemSpec, SourceSpec, TrainSpec

from .cells import number
from .progress import progress

if TYPE_CHECKING:
    import torch


def train_run(folder: str, source: SourceSpec, spec: TrainSpec, start_from: str | None = None) -> None:
    """Train a network from names, or from a checkpoint's weights, into a run folder, or resume it there."""
    from landscape.checkpoints import choose_device
    from landscape.training.outcome import DivergedError
    from landscape.training.processes import FirstRankError, is_first, joined

    with joined(choose_device(source.device), spec.data_parallel) as device:
        first = is_first(spec.data_parallel)
        try:
            last = _train(folder, source, spec, start_from, device, first)
        except (FirstRankError, DivergedError):  # rank 0 says it; what went wrong here alone is said here
            if first:
                raise
            raise SystemExit(2) from None
    if first:
        tell_last_epoch(last, folder)


def _train(
    folder: str, source: SourceSpec, spec: TrainSpec, start_from: str | None, device: "torch.device", speaks: bool
) -> Mapping[str, Any]:
    """The last row of the training."""
    from landscape.checkpoints import begun_from, load_into, prepare
    from landscape.training.run import train

    problem, weights, start = ProblemSpec.from_dict(source.to_dict()), None, {}
    if start_from is not None:
        problem, weights, label = begun_from(problem, start_from, data="digits")
        start = {"start": label}
    if problem.model is None:
        raise illegal("--model", None, "a model's name or factory", "For example --model mlp.")
    problem = replace(problem, data=problem.data or "digits")
    model, dataset = prepare(problem, spec.seed)
    if weights is not None:
        for note in load_into(model, weights):
            if speaks:
                click.echo(f"note: {note}", err=True)
    record = {name: getattr(problem, name) for name in ("model", "model_args", "data", "data_args", "loss")} | start
    with progress("train") as report:
        trained = train(model, dataset, spec, folder, record, report if speaks else None, device, problem.loss)
    return trained.history[-1]


def tell_last_epoch(last: Mapping[str, Any], folder: str) -> None:
    """The metrics with which a training ended, and where it is."""
    click.echo(" · ".join(f"{key} {number(value)}" for key, value in last.items() if value is not None))
    click.echo(f"saved {folder}", err=True)
