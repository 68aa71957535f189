"""Results as tables for people: one grid for every kind of result, its numbers rounded where they are shown."""

from collections.abc import Callable
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

from .cells import Cell, Grid, Interval, Number
from .grids_basin import basin
from .grids_measures import audit, comparison, correlation, dependence, measures
from .grids_study import study


def grid(result: Result) -> Grid:
    """The table that is shown of a result."""
    for kind, build in _GRIDS.items():
        if isinstance(result, kind):
            return build(result)
    raise TypeError(f"no table for {type(result).__name__}")


def yes_or_no(sure: bool | np.bool_) -> str:
    """Whether something converged, so that a no is seen."""
    return "yes" if sure else "NO"


def _hessian(result: HessianResult) -> Grid:
    rows = tuple(
        (
            f"λ{k + 1}",
            Number(value, form=".6g"),
            Number(residual, form=".1e"),
            Number(error, form=".2g"),
            yes_or_no(converged),
        )
        for k, (value, residual, error, converged) in enumerate(
            zip(result.eigenvalues, result.residuals, result.sampling_errors, result.converged, strict=True)
        )
    )
    title = f"{result.matrix[0].upper()}{result.matrix[1:]} eigenvalues ({result.spec.ends}), {result.matvecs} products"
    return Grid(title, ("", "eigenvalue", "‖Hv−λv‖", "sampling error", "converged"), rows)


def _density(result: DensityResult) -> Grid:
    low, high = result.spectrum.range
    top = max(abs(low), abs(high))
    rows: list[tuple[Cell, ...]] = [
        ("eigenvalues", Number(result.size, form="d")),
        ("  resolved one by one", Number(len(result.eigenvalues), form="d")),
        ("λmax", Number(high, form=".6g")),
        ("λmin", Number(low, form=".6g")),
    ]
    rows += [(f"tr H{'' if j == 0 else '²'}/n", Number(result.moments[j], result.moment_errors[j])) for j in (0, 1)]
    for share in (0.1, 0.01, 0.001):
        count, error = result.count_above(share * top)
        rows.append((f"eigenvalues above {share:g}·max|λ| = {share * top:.3g}", Number(count, error)))
    share, error = result.negative_mass()
    rows.append(("share below zero (%)", Number(100 * share, 100 * error)))
    return Grid(f"Hessian spectrum, {result.matvecs} products", ("", "± standard error"), tuple(rows))


def _trace(result: TraceResult) -> Grid:
    spread = 100 * result.standard_error / abs(result.trace) if result.trace else float("nan")
    whole = ("whole", Number(result.trace, result.standard_error), Interval(*result.interval),
             Number(spread, form=".2g"), yes_or_no(result.converged))  # fmt: skip
    layers = (
        (name, Number(value, error), Interval(value, value, words="exact") if error == 0 else "", "", "")
        for name, value, error in zip(result.layers, result.layer_traces, result.layer_errors, strict=True)
    )
    title = f"Trace of the Hessian ({result.method}), {result.matvecs} products"
    headings = ("", "trace ± standard error", "95 % interval", "error %", "converged")
    return Grid(title, headings, (whole, *layers))


def _sharpness(result: SharpnessResult) -> Grid:
    rows = tuple(
        (
            space if space == "full" else f"subspace p={result.spec.dimension} {result.spec.law}",
            Number(epsilon, form="g"),
            Number(result.sharpness[i, j], result.deviation[i, j]),
            Number(100 * result.active[i, j].mean(), form=".0f"),
            Number(result.projected_gradient[i, j].max(), form=".1e"),
            Number(result.spread[i, j].max(), form=".2g"),
        )
        for i, space in enumerate(result.spec.spaces)
        for j, epsilon in enumerate(result.spec.epsilons)
    )
    headings = ("space", "ε", "sharpness % (± sd)", "active bounds %", "projected gradient", "restart spread")
    return Grid(f"Keskar ε-sharpness, {result.spec.trials} trials", headings, rows)


def _surface(result: SurfaceResult) -> Grid:
    rows = tuple(
        (name, Number(np.nanmin(z)), Number(np.nanmax(z)), Number(int(np.isnan(z).sum()), form="d"))
        for name, z in ((name, result.grid(name)) for name in result.quantities)
        if z.size and not np.isnan(z).all()
    )
    shape = " × ".join(map(str, result.shape))
    title = f"Surface of {shape} points{_state(result)}"
    return Grid(title, ("", "smallest", "largest", "missing cells"), rows)


def _state(result: SurfaceResult | TrackResult) -> str:
    return "" if result.complete else " (INCOMPLETE: run the same command again to resume)"


def _track(result: TrackResult) -> Grid:
    """A row for each checkpoint done; its edge is SAM's where ρ > 0. Columns without a number are left out."""
    edges = np.where(np.isfinite(result.sam_edges), result.sam_edges, result.edges)
    name, places = result.axis
    columns: dict[str, list[Number]] = {
        name: [Number(v, form=".7g") for v in places],
        **{
            f"λ{k + 1}": [
                Number(v, after="" if sure or v != v else "*")
                for v, sure in zip(result.eigenvalues[:, k], result.converged[:, k], strict=True)
            ]
            for k in range(result.eigenvalues.shape[1])
        },
        "edge": [Number(v) for v in edges],
        "trace": [Number(v, e) for v, e in zip(result.traces, result.trace_errors, strict=True)],
        "loss": [Number(v) for v in result.losses],
        "accuracy": [Number(100 * v) for v in result.accuracies],
        "‖w−w₀‖": [Number(v) for v in result.distances],
        "products": [Number(int(v), form="d") for v in result.matvecs + result.trace_matvecs],
    }
    shown = {name: cells for name, cells in columns.items() if any(cell.value == cell.value for cell in cells)}
    rows = tuple(tuple(cells[i] for cells in shown.values()) for i in np.flatnonzero(result.done))
    title = f"{len(rows)} of {len(result.labels)} checkpoints{_state(result)}"
    return Grid(title, tuple(shown), rows)


def _path(result: PathResult) -> Grid:
    """A row for each path and quantity; errors in percent."""
    rows = []
    for i, path in enumerate(result.paths):
        for quantity in result.quantities:
            k, error = result.QUANTITIES.index(quantity), quantity.endswith("error")
            tables = (result.barriers, result.barrier_accuracy, result.rises)
            barrier, accuracy, rise = ((100 if error else 1) * table[i, k] for table in tables)
            rows.append((
                path, f"{quantity} (%)" if error else quantity, Number(barrier), Number(accuracy, form=".1g"),
                Number(result.barrier_t[i, k], form=".3f"), Number(rise), Number(result.lengths[i]),
            ))  # fmt: skip
    headings = ("path", "of", "barrier", "known to", "at t", "above the higher end", "length")
    return Grid(f"Paths from {result.labels[0]} to {result.labels[1]}", headings, tuple(rows))


_GRIDS: dict[type[Result], Callable[[Any], Grid]] = {
    StudyResult: study,
    CorrelationResult: correlation,
    DependenceResult: dependence,
    HessianResult: _hessian,
    DensityResult: _density,
    TraceResult: _trace,
    SharpnessResult: _sharpness,
    MeasuresResult: measures,
    AuditResult: audit,
    SurfaceResult: _surface,
    BasinResult: basin,
    PathResult: _path,
    ComparisonResult: comparison,
    TrackResult: _track,
}
