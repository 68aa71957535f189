"""What stands below a table: the conditions of a measurement, how it was done, and what it does not say."""

from typing import Any

import numpy as np

from landscape.results import (
    AuditResult,
    BasinResult,
    ComparisonResult,
    CorrelationResult,
    DensityResult,
    HessianResult,
    MeasuresResult,
    PathResult,
    Result,
    StudyResult,
    SurfaceResult,
    TraceResult,
    TrackResult,
)

from .notes_study import study
from .notes_surfaces import basin, path, surface


def notes(result: Result) -> list[str]:
    """Lines of text: where it was measured, by which engine and kernels, then what the kind of result calls for."""
    c = result.conditions
    if isinstance(result, StudyResult):
        return study(result)
    lines = [_where(result)]
    if c.get("engine"):
        lines.append(f"Products: {c['engine']}.")
    if c.get("kernels", "default") != "default":
        lines.append(f"Kernels: {c['kernels']}.")
    more: Any = _NOTES.get(type(result))
    return lines + (more(result) if more else [])


def _where(result: Result) -> str:
    c = result.conditions
    if not c and "program" in result.provenance:
        return f"Imported from {result.provenance['program']}, which does not say what it was measured on."
    where = ", ".join(f"{c[key]} {key}" for key in ("parameters", "examples") if key in c)
    how = ", ".join(str(c[key]) for key in ("dtype", "device") if key in c)
    return f"{where}; {how}; batch norm {c.get('batch_norm', '–')}; {result.seconds:.1f} s"


def _hessian(result: HessianResult) -> list[str]:
    c, lines = result.conditions, []
    if "work" in c:
        lines.append(
            f"Progressive: eigenspace from {c['sample']} examples with {100 * c['coverage']:.4g} % of the curvature "
            f"score, residuals from all; the work of {c['work']:.3g} products with all examples. "
            "Eigenvalues that the sample does not show were not looked for."
        )
    if "reduced_matvecs" in c:
        lines.append(
            f"{c['reduced_matvecs']} of the products were in reduced precision; they found the eigenvectors, whose "
            "eigenvalues and residuals come from the others."
        )
    if result.converged.all() and not c.get("complete", True):
        lines.append("No second search: a copy or a close neighbour of an eigenvalue may be missing (--exhaustive).")
    if c.get("sampling_limited"):
        lines.append(
            "The sampling error of some λ exceeds the tolerance: as estimates of the population they would be no "
            "better for a smaller one. Use more examples, or a larger --tolerance."
        )
    if not result.converged.all():
        spent = result.matvecs >= result.spec.max_matvecs
        rounding = f"Rounding in {c['dtype']} allows no more: raise --tolerance or use --dtype float64."
        if "float16" in c.get("basis", ""):
            rounding = "The basis is in half precision, which allows no more: raise --tolerance or --basis-gib."
        remedy = "Raise --max-matvecs." if spent else rounding
        lines.append(f"Not converged: an eigenvalue lies within ‖Hv−λv‖ of λ, and no closer is known. {remedy}")
    return lines


def _density(result: DensityResult) -> list[str]:
    low, high = result.spectrum.range
    lines = [
        f"Smoothed with a Gaussian of standard deviation {result.width:.3g}, "
        f"{100 * result.width / ((high - low) or 1):.2g} % of λmax − λmin."
    ]
    if not result.complete:
        lines.append("The search for outliers ended before it was proven that none is missing. Lower --outliers.")
    return lines


def _trace(result: TraceResult) -> list[str]:
    lines = []
    if not result.converged:
        lines.append("Not converged: the standard error is above the tolerance. Raise --max-matvecs.")
    if result.deflated:
        share = f"{100 * result.deflated_trace / result.trace:.0f} %" if result.trace else "0"
        lines.append(
            f"{share} of the trace lies in a Krylov space of {result.deflated} dimensions and is exact; "
            f"{len(result.samples)} probes estimate the rest."
        )
    return lines


def _track(result: TrackResult) -> list[str]:
    lines = [f"{result.labels[i]}: {trouble}" for i, trouble in enumerate(result.troubles) if trouble]
    sam = np.isfinite(result.sam_edges).any()
    if np.isfinite(result.edges).any():
        edge = "SAM's edge of stability at ‖∇f‖, for the base edge" if sam else "edge of stability"
        lines.append(
            f"edge: {edge} {result.edge_formula}, of full-batch steps; with small batches λ1 usually stays below it."
        )
    else:
        lines.append(f"No edge of stability: {result.edge_formula}.")
    if np.isfinite(result.fit_r2):
        (a, b), (low, high) = result.fit, result.fit_range
        lines.append(
            f"‖w−w₀‖ ≈ {a:.4g} {'−' if b < 0 else '+'} {abs(b):.4g}·ln t, R² = {result.fit_r2:.4f} over "
            f"{result.fit_points} checkpoints, {result.axis[0]} {low:g} to {high:g}; w₀: {result.origin}."
        )
    if not result.converged[[not trouble for trouble in result.troubles] & result.done].all():
        lines.append("* not converged: raise --max-matvecs or --tolerance, or use --dtype float64.")
    return lines


def _measures(result: MeasuresResult | AuditResult) -> list[str]:
    return [f"No {measure}: {reason}" for measure, reason in result.undefined]


def _comparison(result: ComparisonResult) -> list[str]:
    """What some checkpoints lack, a line for each measure and reason."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for checkpoint, measure, reason in result.undefined:
        lacking.setdefault((measure, reason), []).append(checkpoint)
    return [f"No {measure} for {', '.join(names)}: {reason}" for (measure, reason), names in lacking.items()]


def _audit(result: AuditResult) -> list[str]:
    """What was transformed and how exactly, how the verdicts were reached, and what was left out."""
    count = {kind: sum(k == kind for k, _, _ in result.groups) for kind in result.kinds}
    lines = [
        "Outputs changed by "
        + ", ".join(
            f"{change:.1e} ({kind}, {count[kind]} groups)"
            for kind, change in zip(result.kinds, result.output_changes, strict=True)
        )
        + " relative to the largest.",
        "Changes are |after/before − 1|. BROKEN: invariant by its definition (claimed; every number under "
        "permutations), and moved beyond tolerance and three combined errors.",
    ]
    if np.isfinite(result.spreads).any():
        lines.append(
            "Draws move with their weights when units are permuted. Where a number moved all the same, it may move by "
            f"three times what other seeds move it ({100 * np.nanmedian(result.spreads):.2g} % in the middle)."
        )
    for kind in dict.fromkeys(kind for kind, _, _ in result.left_out):
        names = [f"{name} ({reason})" for k, name, reason in result.left_out if k == kind]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        lines.append(f"Left out of {kind}: {'; '.join(names[:5])}{more}.")
    return lines + _measures(result)


_NOTES = {
    SurfaceResult: surface,
    BasinResult: basin,
    HessianResult: _hessian,
    DensityResult: _density,
    TraceResult: _trace,
    TrackResult: _track,
    PathResult: path,
    AuditResult: _audit,
    MeasuresResult: _measures,
    ComparisonResult: _comparison,
    CorrelationResult: _comparison,
}
