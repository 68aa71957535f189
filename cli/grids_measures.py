"""Tables of many measures: of one minimum, under transformations, of several checkpoints, and against the gap."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.results import AuditResult, ComparisonResult, CorrelationResult, DependenceResult, MeasuresResult

from .cells import Cell, Grid, Interval, Number, number


def measures(result: MeasuresResult) -> Grid:
    """A row for each number, its certificate in short."""
    rows = tuple(
        (name, Number(value, error), _certificate(certificate))
        for name, value, error, certificate in zip(
            result.names, result.values, result.errors, result.certificates, strict=True
        )
    )
    return Grid(f"Measures of sharpness at loss {number(result.loss)}", ("", "value ± error", "certificate"), rows)


def _certificate(certificate: Mapping[str, Any]) -> str:
    """Its entries that are single values; what did not converge in capitals."""
    cells = []
    for key, value in certificate.items():
        if isinstance(value, bool):
            cells.append(f"{key} yes" if value else f"NOT {key}")
        elif isinstance(value, int | float) and value == value:
            cells.append(f"{key.replace('_', ' ')} {number(value, 3)}")
        elif isinstance(value, str) and len(value) <= 30:
            cells.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join(cells)


def audit(result: AuditResult) -> Grid:
    """A row for each number, a column for each kind of transformation: the relative change, and the verdict."""

    def cell(i: int, j: int) -> Number:
        claimed = " (claimed)" if result.claims[i, j] and result.kinds[j] != "permutation" else ""
        return _change(result.changes[i, j], f" {result.verdicts[i][j]}{claimed}")

    rows = tuple(
        (name, Number(result.values[i], result.errors[i]), *(cell(i, j) for j in range(len(result.kinds))))
        for i, name in enumerate(result.names)
    )
    count = {kind: sum(size for k, _, size in result.groups if k == kind) for kind in result.kinds}
    heads = tuple(f"{kind} of {count[kind]} units" for kind in result.kinds)
    state = f": {len(result.broken)} BROKEN" if result.broken else ": none broken"
    return Grid(f"What moves while the function stays{state}", ("", "value ± error", *heads), rows)


def _change(change: float, verdict: str) -> Number:
    """A relative change, in percent where that is readable."""
    if change == 0 or 1e-4 <= change < 10:
        return Number(100 * change, form=".3g", after=f" %{verdict}")
    return Number(change, form=".1e", after=verdict)


def comparison(result: ComparisonResult, by_label: bool = False) -> Grid:
    """One line per column of the comparison, or `by_label` one line per label."""
    groups = result.groups()
    repeated = len(groups) < len(result.labels)
    title = "mean ± standard deviation over seeds" if repeated else "value ± its own error"
    columns: list[tuple[Cell, ...]] = [
        tuple(_of_group(result.values[members, c], result.errors[members, c]) for c in range(len(result.columns)))
        for members in groups.values()
    ]
    if by_label:
        rows = [(label, *cells) for label, cells in zip(groups, columns, strict=True)]
        return Grid(title, ("", *result.columns), tuple(rows))
    heads = [f"{label} ({len(members)})" if repeated else label for label, members in groups.items()]
    rows = [(name, *cells) for name, *cells in zip(result.columns, *columns, strict=True)]
    return Grid(title, ("", *heads), tuple(rows))


def _of_group(values: np.ndarray, errors: np.ndarray) -> Number:
    if len(values) == 1:
        return Number(values[0], errors[0])
    return Number(float(values.mean()), float(values.std(ddof=1)))


def correlation(result: CorrelationResult) -> Grid:
    """The measures by the size of their τ; ψ by factor where the runs' settings are known."""
    order: list[int] = np.argsort(-np.abs(np.nan_to_num(result.taus)), kind="stable").tolist()
    rows = tuple(
        (
            result.measures[i], Number(result.taus[i], form="+.2f"),
            Interval(result.lows[i], result.highs[i], form="+.2f"),
            *(Number(psi, form="+.2f") for psi in (*result.psis[i], result.granulated[i])),
            Number(int(result.counts[i]), form="d"),
        )
        for i in order
    )  # fmt: skip
    gap = {"error": "train − test accuracy", "loss": "test − train loss"}[result.spec.gap]
    heads = ("", "Kendall τ", f"{100 * result.spec.confidence:g} % interval")
    psis = (*(f"ψ {factor}" for factor in result.factors), "Ψ")
    return Grid(f"Rank correlation with the generalisation gap ({gap})", (*heads, *psis, "checkpoints"), rows)


def dependence(result: DependenceResult) -> Grid:
    """A row for each network and setting."""
    climbs = {"climb": "one climb"}
    rows = tuple(
        (f"{factor} {setting}", label, ", ".join(filter(None, (space, law, climbs.get(search)))),
         Number(value, deviation), Number(int(evaluations), form="d"))
        for factor, setting, label, space, law, search, value, deviation, evaluations in zip(
            result.factors, result.settings, result.labels, result.spaces, result.laws, result.searches,
            result.sharpness, result.deviation, result.evaluations, strict=True,
        )
    )  # fmt: skip
    title = "What Keskar's φ depends on: mean ± standard deviation over trials"
    return Grid(title, ("", "network", "space", "φ (%)", "evaluations"), rows)
