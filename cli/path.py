"""What `landscape path` does once it is parsed: barriers between checkpoints, and curves that go round them."""

import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from landscape.checkpoints import Opened, open_checkpoint
from landscape.errors import InputError, illegal
from landscape.methods.curves import Curve
from landscape.spec import CurveSpec, PathSpec, ProblemSpec, SourceSpec, TrainSpec

from .actions import announce, labelled, stem_of
from .outputs import choose_output, store
from .progress import progress
from .training import tell_last_epoch


def measure_barriers(
    checkpoints: tuple[str, ...],
    curves: tuple[str, ...],
    problem: ProblemSpec,
    spec: PathSpec,
    saving: Mapping[str, Any],
) -> None:
    """Measure, save and show the paths between each two of the checkpoints, in their order."""
    from landscape import connect, path
    from landscape.surface_points import Point

    if len(checkpoints) < 2:
        raise illegal("checkpoints", list(checkpoints), "at least two", "Name the two ends of the path.")
    named = [labelled(text) for text in checkpoints]
    outputs = _outputs([re.sub(r"[^\w.-]+", "_", label or stem_of(where)) for label, where in named], saving)
    opened = [open_checkpoint(where, problem) for _, where in named]
    for one in opened:
        announce(one)
    found = [connect.open_curve(where) for where in curves]
    for note in [*_warnings(opened[0], spec), *(note for curve in found for note in curve.notes)]:
        click.echo(f"note: {note}", err=True)
    pairs = list(combinations(range(len(opened)), 2))
    between = _assigned(found, [(opened[i], opened[j]) for i, j in pairs])
    points = [
        Point(label or one.label, one.train.weights, one.train.buffers())
        for (label, _), one in zip(named, opened, strict=True)
    ]
    for (i, j), curve, output in zip(pairs, between, outputs, strict=True):
        with progress(f"path {points[i].label} – {points[j].label}") as report:
            result = path.measure(opened[0].train, spec, [points[i], points[j]], opened[0].test, curve, report)
        provenance = {"checkpoints": [opened[k].provenance() for k in (i, j)], "curves": [str(c.path) for c in found]}
        store(result, output, provenance, saving["as_json"])


def _outputs(names: list[str], saving: Mapping[str, Any]) -> list[Path]:
    """A file for each pair; with several pairs the file asked for gets their names before its ending."""
    if len(set(names)) < len(names):
        remedy = "Results are named by them: write LABEL=CHECKPOINT."
        raise illegal("checkpoints", names, "checkpoints with names that differ", remedy)
    asked, overwrite = saving["output"], saving["overwrite"]
    pairs = [f"{a}-{b}" for a, b in combinations(names, 2)]
    if len(pairs) == 1 or asked is None:
        return [choose_output(asked, f"barrier-{pair}", overwrite) for pair in pairs]
    whole = Path(asked)
    return [choose_output(str(whole.with_stem(f"{whole.stem}-{pair}")), "", overwrite) for pair in pairs]


def _warnings(first: Opened, spec: PathSpec) -> list[str]:
    if first.train.has_batch_norm and "recomputed" not in spec.batch_norm:
        return [
            "this network has batch norm, and no path has recomputed statistics: between two checkpoints others do not "
            "fit the activations, which can make a barrier by itself. Add --batch-norm recomputed."
        ]
    return []


def _assigned(found: list[Any], pairs: list[tuple[Opened, Opened]]) -> list[Curve | None]:
    """For each pair of checkpoints the curve that joins them. Raises `InputError` for a curve that joins none."""
    between: list[Curve | None] = [None] * len(pairs)
    for curve in found:
        fitting = [(k, own) for k, pair in enumerate(pairs) if (own := curve.between(*pair)) is not None]
        if not fitting:
            raise InputError(f"the curve in {curve.path} joins no two of these checkpoints. Name its ends.")
        for k, own in fitting:
            between[k] = own
    return between


def train_curve(first: str, second: str, folder: str, source: SourceSpec, curve: CurveSpec, spec: TrainSpec) -> None:
    """Train a curve between two checkpoints into a run folder, or resume it there."""
    from landscape.connect import connect

    problem = ProblemSpec.from_dict(source.to_dict())
    ends = [open_checkpoint(path, problem) for path in (first, second)]
    for end in ends:
        announce(end)
    with progress("curve") as report:
        trained = connect(ends[0], ends[1], folder, curve, spec, report)
    tell_last_epoch(trained.history[-1], folder)
