"""Results as tables for programs: a row for each thing measured, a column for each number, with names to load by."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from landscape.results import (
    AuditResult,
    BasinResult,
    ComparisonResult,
    CorrelationResult,
    DensityResult,
    DependenceResult,
    HessianResult,
    MeasuresResult,
    PathResult,
    Result,
    SharpnessResult,
    StudyResult,
    SurfaceResult,
    TraceResult,
    TrackResult,
)

from .cells import Cell, Grid, Number
from .grids import grid, yes_or_no
from .grids_study import study_records


def records(result: Result) -> Grid:
    """The table of a result for programs: of checkpoints and points one by one; otherwise the one that is shown."""
    if isinstance(result, tuple(_NAMES)):
        shown, names = grid(result), _NAMES[type(result)]
        return replace(shown, headings=(*names, *shown.headings[len(names) :]))
    return _RECORDS[type(result)](result)


_NAMES: dict[type[Result], tuple[str, ...]] = {
    HessianResult: ("name", "eigenvalue", "residual"),
    DensityResult: ("name", "value"),
    TraceResult: ("name", "trace"),
    SharpnessResult: ("space", "ε", "sharpness (%)", "active bounds (%)"),
    MeasuresResult: ("name", "value"),
    CorrelationResult: ("name",),
    PathResult: ("path", "quantity"),
    DependenceResult: ("setting",),
}
"""The first columns, where they are shown under other headings."""


def _comparison(result: ComparisonResult) -> Grid:
    """A row for each checkpoint, with the error of every number, also of those that have none."""
    rows = tuple(
        (label, checkpoint, *map(Number, values, errors))
        for label, checkpoint, values, errors in zip(
            result.labels, result.checkpoints, result.values, result.errors, strict=True
        )
    )
    return Grid("value and its own error", ("label", "checkpoint", *result.columns), rows)


def _surface(result: SurfaceResult) -> Grid:
    """A row for each point of the grid; `done` where some have no value yet."""
    places = np.meshgrid(*result.coordinates, indexing="ij")
    columns: dict[str, Any] = {name: place.ravel() for name, place in zip("xyz", places, strict=False)}
    columns |= {name: result.grid(name).ravel() for name in result.quantities}
    if result.interpolated.size:
        columns["interpolated"] = [yes_or_no(bool(cell)) for cell in result.interpolated.ravel()]
    if not result.done.all():
        columns["done"] = [yes_or_no(bool(done)) for done in result.done.ravel()]
    return Grid(grid(result).title, tuple(columns), _rows(columns))


def _track(result: TrackResult) -> Grid:
    """A row for each checkpoint, also of those without numbers; every column, also without a number."""
    columns: dict[str, Any] = {"label": result.labels, "step": result.steps, "epoch": result.epochs}
    for k in range(result.eigenvalues.shape[1]):
        columns[f"λ{k + 1}"] = result.eigenvalues[:, k]
        columns[f"λ{k + 1} residual"] = result.residuals[:, k]
        columns[f"λ{k + 1} converged"] = [yes_or_no(sure) for sure in result.converged[:, k]]
    columns |= {
        "trace": [Number(v, e) for v, e in zip(result.traces, result.trace_errors, strict=True)],
        "loss": result.losses, "accuracy (%)": 100 * result.accuracies, "gradient norm": result.gradient_norms,
        "distance": result.distances, "learning rate": result.learning_rates, "ρ": result.rhos,
        "edge": result.edges, "SAM edge": result.sam_edges, "products": result.matvecs,
        "trace products": result.trace_matvecs, "seconds": result.durations,
        "done": [yes_or_no(done) for done in result.done], "trouble": result.troubles,
    }  # fmt: skip
    return Grid(grid(result).title, tuple(columns), _rows(columns))


def _audit(result: AuditResult) -> Grid:
    """A row for each number: before, and after each kind of transformation, with the change and the verdict on it."""
    columns: dict[str, Any] = {
        "name": result.names,
        "value": [Number(v, e) for v, e in zip(result.values, result.errors, strict=True)],
    }
    for j, kind in enumerate(result.kinds):
        after = zip(result.values_after[:, j], result.errors_after[:, j], strict=True)
        columns |= {
            f"{kind} value": [Number(v, e) for v, e in after],
            f"{kind} change": result.changes[:, j],
            f"{kind} allowance": result.allowances[:, j],
            f"{kind} claimed": [yes_or_no(claim) for claim in result.claims[:, j]],
            f"{kind} verdict": [verdicts[j] for verdicts in result.verdicts],
        }
    return Grid(grid(result).title, tuple(columns), _rows(columns))


def _basin(result: BasinResult) -> Grid:
    """A row for each point and height; open: the number before it is a lower bound."""
    m, heights = result.levels.shape
    unmet = np.where(result.reach_open, "yes", "no")
    columns: dict[str, Any] = {
        "label": np.repeat(result.labels, heights).tolist(),
        "rise": [*result.spec.rises] * m,
        "bottom": np.repeat(result.bases, heights),
        "level": result.levels.ravel(),
        "volume": result.volumes.ravel(),
        "volume open": np.where(result.open, "yes", "no").ravel().tolist(),
        "radius": result.radii.ravel(),
    }
    for axis, name in enumerate("xyz"[: result.dimension]):
        columns[name] = np.repeat(result.points[:, axis], heights)
        for side, word in enumerate(("down", "up")):
            columns[f"{name} {word}"] = result.reach[..., axis, side].ravel()
            columns[f"{name} {word} open"] = unmet[..., axis, side].ravel().tolist()
        columns[f"{name} asymmetry"] = result.asymmetry[..., axis].ravel()
        columns[f"deviation {axis + 1}"] = result.deviations[..., axis].ravel()
    columns |= {"share": result.shares.ravel(), "components": result.components.ravel()}
    return Grid(grid(result).title, tuple(columns), _rows(columns))


def _rows(columns: dict[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    cells = [[v if isinstance(v, str | Number) else Number(v) for v in column] for column in columns.values()]
    return tuple(zip(*cells, strict=True))


_RECORDS: dict[type[Result], Callable[[Any], Grid]] = {
    ComparisonResult: _comparison,
    StudyResult: study_records,
    SurfaceResult: _surface,
    BasinResult: _basin,
    TrackResult: _track,
    AuditResult: _audit,
}
