"""Curvature itself: the largest eigenvalues of the Hessian of the mean loss, its trace, and its effective rank.

    eigenvalues   λ₁, λ₅ and λ₁/λ₅, by `landscape.hessian`
    trace         tr H and the effective rank tr H/λ₁, by `landscape.trace` and `landscape.hessian`

with the defaults of these measurements. No rescaling leaves them the same: Dinh et al. 2017 (arXiv 1703.04933).
λ₁/λ₅: Jastrzębski et al. 2020 (arXiv 2002.09572). tr H/λ₁: the intrinsic dimension, Tropp 2015 (arXiv 1501.01571),
section 7.

Errors. λ: standard error with the examples as a random sample; the residual, which bounds the error of the eigenvalue
itself, is in the certificate. λ₁/λ₅: both relative errors added, as the two are not independent. tr H: standard error
of the random probes. Effective rank: that and the residual of λ₁, squares added.
certificate: residual, converged, complete (no larger eigenvalue is missing), products; of the ratio both residuals.
"""

import math

from landscape import hessian, trace
from landscape.measures.row import Row, Subject
from landscape.results import HessianResult
from landscape.spec import HessianSpec, TraceSpec

FIFTH = 5


def eigenvalue_rows(subject: Subject) -> list[Row]:
    """λ₁, and λ₅ and λ₁/λ₅ where there are five eigenvalues."""
    spec = HessianSpec(count=FIFTH, seed=subject.spec.measure_seed)
    found = _eigenvalues(subject, spec)
    rows = [_row(found, 0)]
    if len(found.eigenvalues) < FIFTH:
        return rows
    rows.append(_row(found, FIFTH - 1))
    first, fifth = rows
    certificate = {
        "residuals": [first.certificate["residual"], fifth.certificate["residual"]],
        **{key: first.certificate[key] and fifth.certificate[key] for key in ("converged", "complete")},
        "products": found.matvecs,
    }
    ratio = first.value / fifth.value if fifth.value else math.inf
    relative = (
        first.error / abs(first.value) + fifth.error / abs(fifth.value) if first.value and fifth.value else math.nan
    )
    return [*rows, Row("λ₁/λ₅", ratio, abs(ratio) * relative, certificate)]


def trace_rows(subject: Subject) -> list[Row]:
    """tr H and tr H/λ₁."""
    wanted = TraceSpec(seed=subject.spec.measure_seed)
    found = trace.measure(subject.problem, wanted, subject.w, lambda done, total, what: subject.watch(what))
    spec = HessianSpec(count=1, sampling_error=False, seed=subject.spec.measure_seed)
    largest = _eigenvalues(subject, spec)
    top, residual = float(largest.eigenvalues[0]), float(largest.residuals[0])
    rank = found.trace / top if top else math.nan
    relative = math.hypot(found.standard_error / found.trace, residual / top) if found.trace and top else math.nan
    products = {"products": found.matvecs}
    return [
        Row("tr H", found.trace, found.standard_error, {"converged": found.converged, **products}),
        Row("effective rank tr H/λ₁", rank, abs(rank) * relative, {
            "converged": found.converged and bool(largest.converged[0]), "residual": residual,
            "products": found.matvecs + largest.matvecs,
        }),
    ]  # fmt: skip


def _eigenvalues(subject: Subject, spec: HessianSpec) -> HessianResult:
    return hessian.measure(subject.problem, spec, subject.w, lambda done, total, what: subject.watch(what))


def _row(found: HessianResult, at: int) -> Row:
    subscript = "₀₁₂₃₄₅₆₇₈₉"[at + 1]
    certificate = {
        "residual": float(found.residuals[at]), "converged": bool(found.converged[at]),
        "complete": bool(found.conditions["complete"]), "products": found.matvecs,
    }  # fmt: skip
    return Row(f"λ{subscript}", float(found.eigenvalues[at]), float(found.sampling_errors[at]), certificate)
