"""What `landscape track` does once it is parsed: find the series, measure, save, show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from landscape.results import TrackResult
from landscape.spec import ProblemSpec, TrackSpec

from .outputs import output_to_continue, store
from .progress import progress


def track_series(
    checkpoints: tuple[str, ...],
    steps: tuple[float, ...] | None,
    initial: str | None,
    problem: ProblemSpec,
    spec: TrackSpec,
    saving: Mapping[str, Any],
) -> None:
    """Measure a series; a file of the same series is continued, or shown when it is complete."""
    from landscape import track
    from landscape.series import open_series

    output = output_to_continue(_stem(checkpoints), saving, TrackResult)
    series = open_series(checkpoints, problem, steps, initial)
    opened, size = series.opened, series.problem.size
    click.echo(f"{len(series.snapshots)} checkpoints · {opened.spec.split} loss on {size} examples", err=True)
    for note in series.notes:
        click.echo(f"note: {note}", err=True)
    with progress("track") as report:
        result = track.measure(
            series.problem, spec, series.snapshots, series.initial,
            partial=output, overwrite=saving["overwrite"], progress=report,
        )  # fmt: skip
    made = {k: v for k, v in opened.provenance().items() if k not in ("checkpoint", "checkpoint_sha256", "stored")}
    named = sorted({str(Path(path)) for path in checkpoints})
    store(result, output, {**made, "checkpoints": named}, saving["as_json"])


def _stem(checkpoints: tuple[str, ...]) -> str:
    first = Path(checkpoints[0]).absolute()
    name = first.name if len(checkpoints) == 1 and first.is_dir() else first.parent.name
    return f"{name.replace(' ', '_') or 'series'}-track"
