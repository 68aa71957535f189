"""What `landscape surface` does once it is parsed: open, find what the axes need, scan, save, show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch

from landscape import surface
from landscape.checkpoints import Opened, open_checkpoint
from landscape.errors import InputError, illegal
from landscape.metrics import metric_by_name
from landscape.problem import Problem
from landscape.results import HessianResult, SurfaceResult, load
from landscape.series import Series, open_series
from landscape.spec import AxesSpec, LineSpec, ProblemSpec

from .actions import announce, stem_of
from .outputs import SUFFIX, output_to_continue, store
from .progress import progress


@dataclass(frozen=True)
class Subject:
    """What is scanned: the problems at the point in the centre or at the first one, and everything that goes along."""

    train: Problem
    test: Problem
    points: Sequence[surface.Point]
    provenance: Mapping[str, Any]
    trajectory: Sequence[surface.Point] = ()
    eigenvectors: torch.Tensor | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


def scan_checkpoints(
    word: str,
    checkpoints: Sequence[str],
    problem: ProblemSpec,
    spec: Any,
    metrics: Sequence[str],
    saving: Mapping[str, Any],
) -> None:
    """A line or plane through checkpoints; more than two make a line a polyline."""
    if isinstance(spec, LineSpec) and len(checkpoints) > 2 and spec.path == "line":
        spec = replace(spec, path="polyline")
    stem = "-".join([word, *(stem_of(path) for path in checkpoints)])
    output = output_to_continue(stem, saving, SurfaceResult)
    opened = _opened(checkpoints, problem, spec)
    subject = Subject(
        opened[0].train, opened[0].test, [_point(one) for one in opened],
        {"checkpoints": [one.provenance() for one in opened]}, metrics=_metrics(metrics, opened[0]),
    )  # fmt: skip
    _scan(word, subject, spec, output, saving)


def scan_axes(
    checkpoint: str,
    problem: ProblemSpec,
    spec: AxesSpec,
    trajectory: Sequence[str],
    eigenvectors: str | None,
    seeds: int,
    metrics: Sequence[str],
    saving: Mapping[str, Any],
) -> None:
    """Axes around one checkpoint; with several seeds, a file for each."""
    word = "random" if set(spec.axes) == {"random"} else "axes"
    stem = f"{word}-{stem_of(checkpoint)}"
    numbers = [spec.seed + k for k in range(seeds)]
    named = [(stem, saving)] if seeds == 1 else [(f"{stem}-seed{n}", _seeded(saving, n)) for n in numbers]
    outputs = [output_to_continue(*each, SurfaceResult) for each in named]
    opened = _opened([checkpoint, *spec.others()], problem, spec)
    series = open_series(trajectory, opened[0].spec) if trajectory else None
    made = {"checkpoints": [one.provenance() for one in opened]}
    subject = Subject(
        opened[0].train, opened[0].test, [_point(one) for one in opened], {**made, "trajectory": list(trajectory)},
        _path(series) if series else (), _vectors(eigenvectors), _metrics(metrics, opened[0]),
    )  # fmt: skip
    for number, output in zip(numbers, outputs, strict=True):
        _scan(word, subject, replace(spec, seed=number), output, saving)


def scan_trajectory(
    checkpoints: Sequence[str], problem: ProblemSpec, spec: AxesSpec, metrics: Sequence[str], saving: Mapping[str, Any]
) -> None:
    """The plane of the first principal components of a training, around its last checkpoint."""
    if set(spec.axes) == {"random"}:
        spec = replace(spec, axes=tuple(f"component:{k + 1}" for k in range(len(spec.axes))))
    if spec.others():
        raise illegal(
            "--axis", spec.others()[0], "component:K, eigenvector:K or random", "Use `landscape surface axes`."
        )
    output = output_to_continue(f"trajectory-{stem_of(checkpoints[0])}", saving, SurfaceResult)
    series = open_series(checkpoints, _policy(problem, spec))
    for note in series.notes:
        click.echo(f"note: {note}", err=True)
    path, last = _path(series), next(s for s in reversed(series.snapshots) if not s.trouble)
    opened, state = series.opened, last.state()
    train, test = opened.train.with_state(state), opened.test.with_state(state)
    click.echo(
        f"{len(path)} checkpoints, the last is {last.label} · train loss {train.value(train.weights):.6g}", err=True
    )
    made = {k: v for k, v in opened.provenance().items() if k not in ("checkpoint", "checkpoint_sha256", "stored")}
    subject = Subject(
        train, test, [surface.Point(last.label, train.weights, train.buffers())],
        {**made, "checkpoints": [snapshot.label for snapshot in series.snapshots]}, path,
        metrics=_metrics(metrics, opened),
    )  # fmt: skip
    _scan("trajectory", subject, spec, output, saving)


def _scan(word: str, subject: Subject, spec: Any, output: Path, saving: Mapping[str, Any]) -> None:
    for caution in surface.cautions(subject.train, spec):
        click.echo(f"note: {caution}", err=True)
    with progress(f"surface {word}") as report, surface.without_warnings():
        result = surface.measure(
            subject.train, spec, subject.points, subject.test, trajectory=subject.trajectory,
            eigenvectors=subject.eigenvectors, metrics=subject.metrics, partial=output,
            overwrite=saving["overwrite"], progress=report,
        )  # fmt: skip
    store(result, output, subject.provenance, saving["as_json"])


def _seeded(saving: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    if saving["output"] is None:
        return saving
    path = Path(saving["output"])
    return {**saving, "output": str(path.with_name(f"{path.stem}-seed{seed}{path.suffix or SUFFIX}"))}


def _policy(problem: ProblemSpec, spec: Any) -> ProblemSpec:
    return replace(problem, batch_norm="batch" if spec.batch_norm == "batch" else "running")


def _opened(checkpoints: Sequence[str], problem: ProblemSpec, spec: Any) -> list[Opened]:
    opened = [open_checkpoint(path, _policy(problem, spec)) for path in checkpoints]
    for one in opened:
        announce(one)
    return opened


def _point(opened: Opened) -> surface.Point:
    return surface.Point(opened.label, opened.train.weights, opened.train.buffers())


def _path(series: Series) -> list[surface.Point]:
    usable = [snapshot for snapshot in series.snapshots if not snapshot.trouble]
    return [surface.Point(one.label, series.opened.train.with_state(one.state()).weights) for one in usable]


def _vectors(path: str | None) -> torch.Tensor | None:
    if path is None:
        return None
    found = load(path)
    if not isinstance(found, HessianResult) or not found.vectors.size:
        raise InputError(f"{path} holds no eigenvectors. Make it with `landscape hessian CHECKPOINT --vectors`.")
    return torch.from_numpy(found.vectors)


def _metrics(names: Sequence[str], opened: Opened) -> dict[str, Any]:
    axis = getattr(opened.train.loss, "class_axis", None)
    return {name: metric_by_name(name, axis) for name in names}
