"""Results for people (rich tables) and for programs (JSON)."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.fields import Spec
from landscape.results import (
    AuditResult,
    ComparisonResult,
    CorrelationResult,
    DensityResult,
    DependenceResult,
    HessianResult,
    MeasuresResult,
    Result,
    SharpnessResult,
    SurfaceResult,
    TraceResult,
    TrackResult,
)

from .notes import notes

if TYPE_CHECKING:
    from rich.table import Table


def to_json(result: Result) -> str:
    """The whole result as strict JSON: arrays as nested lists, NaN and infinities as null."""
    record, arrays = result.to_record()
    return json.dumps(plain({**record, **arrays}), indent=2, ensure_ascii=False)


def plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def show(result: Result) -> None:
    """Print a result to standard output as a table with the conditions it was measured under."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    console.print(_table(result))
    for line in notes(result):
        console.print(line, style="dim", soft_wrap=True, markup=False)


def number(value: float, digits: int = 4) -> str:
    """A number to `digits` significant digits, `–` where there is none."""
    return "–" if value != value else f"{value:.{digits}g}"


def with_error(value: float, error: float) -> str:
    """`value ± error`, both to the error's leading digit (two when it is small); the value alone without an error."""
    if not (math.isfinite(value) and math.isfinite(error)):
        return number(value)
    if error <= 1e-12 * abs(value):  # rounding in a mean of equal numbers
        return f"{number(value)} ± 0"
    power = math.floor(math.log10(max(abs(value), error)))
    if not -3 <= power < 6:
        return f"({with_error(value / 10**power, error / 10**power)})e{power}"
    leading = math.floor(math.log10(error))
    decimals = max(0, (1 if error < 3.55 * 10**leading else 0) - leading)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _grid(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _table(result: Result) -> "Table":
    for kind, build in _TABLES.items():
        if isinstance(result, kind):
            return build(result)
    raise TypeError(f"no table for {type(result).__name__}")


def _hessian(result: HessianResult) -> "Table":
    rows = [
        (f"λ{k + 1}", f"{value:.6g}", f"{residual:.1e}", number(error, 2), "yes" if converged else "NO")
        for k, (value, residual, error, converged) in enumerate(
            zip(result.eigenvalues, result.residuals, result.sampling_errors, result.converged, strict=True)
        )
    ]
    title = f"{result.matrix[0].upper()}{result.matrix[1:]} eigenvalues ({result.spec.ends}), {result.matvecs} products"
    return _grid(title, ("", "eigenvalue", "‖Hv−λv‖", "sampling error", "converged"), rows)


def _density(result: DensityResult) -> "Table":
    low, high = result.spectrum.range
    top = max(abs(low), abs(high))
    rows = [
        ("eigenvalues", str(result.size)), ("  resolved one by one", str(len(result.eigenvalues))),
        ("λmax", number(high, 6)), ("λmin", number(low, 6)),
    ]  # fmt: skip
    rows += [
        (f"tr H{'' if j == 0 else chr(0x00B2)}/n", with_error(result.moments[j], result.moment_errors[j]))
        for j in (0, 1)
    ]
    for share in (0.1, 0.01, 0.001):
        count, error = result.count_above(share * top)
        rows.append((f"eigenvalues above {share:g}·max|λ| = {share * top:.3g}", with_error(count, error)))
    share, error = result.negative_mass()
    rows.append(("share below zero (%)", with_error(100 * share, 100 * error)))
    return _grid(f"Hessian spectrum, {result.matvecs} products", ("", "± standard error"), rows)


def _trace(result: TraceResult) -> "Table":
    spread = f"{100 * result.standard_error / abs(result.trace):.2g}" if result.trace else "–"
    rows = [
        (
            "whole",
            with_error(result.trace, result.standard_error),
            " to ".join(number(end) for end in result.interval),
            spread,
            "yes" if result.converged else "NO",
        )
    ]
    for name, value, error in zip(result.layers, result.layer_traces, result.layer_errors, strict=True):
        rows.append((name, with_error(value, error), "exact" if error == 0 else "", "", ""))
    title = f"Trace of the Hessian ({result.method}), {result.matvecs} products"
    return _grid(title, ("", "trace ± standard error", "95 % interval", "error %", "converged"), rows)


def _sharpness(result: SharpnessResult) -> "Table":
    rows = [
        (
            space if space == "full" else f"subspace p={result.spec.dimension} {result.spec.law}",
            f"{epsilon:g}",
            with_error(result.sharpness[i, j], result.deviation[i, j]),
            f"{100 * result.active[i, j].mean():.0f}",
            f"{result.projected_gradient[i, j].max():.1e}",
            number(result.spread[i, j].max(), 2),
        )
        for i, space in enumerate(result.spec.spaces)
        for j, epsilon in enumerate(result.spec.epsilons)
    ]
    headings = ("space", "ε", "sharpness % (± sd)", "active bounds %", "projected gradient", "restart spread")
    return _grid(f"Keskar ε-sharpness, {result.spec.trials} trials", headings, rows)


def _measures(result: MeasuresResult) -> "Table":
    """A row for each number, its certificate in short."""
    rows = [
        (name, with_error(value, error), _certificate(certificate))
        for name, value, error, certificate in zip(
            result.names, result.values, result.errors, result.certificates, strict=True
        )
    ]
    return _grid(f"Measures of sharpness at loss {number(result.loss)}", ("", "value ± error", "certificate"), rows)


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


def _audit(result: AuditResult) -> "Table":
    """A row for each number, a column for each kind of transformation: the relative change, and the verdict."""

    def cell(i: int, j: int) -> str:
        claimed = " (claimed)" if result.claims[i, j] and result.kinds[j] != "permutation" else ""
        return f"{_change(result.changes[i, j])} {result.verdicts[i][j]}{claimed}"

    rows = [
        (name, with_error(result.values[i], result.errors[i]), *(cell(i, j) for j in range(len(result.kinds))))
        for i, name in enumerate(result.names)
    ]
    count = {kind: sum(size for k, _, size in result.groups if k == kind) for kind in result.kinds}
    heads = tuple(f"{kind} of {count[kind]} units" for kind in result.kinds)
    state = f": {len(result.broken)} BROKEN" if result.broken else ": none broken"
    return _grid(f"What moves while the function stays{state}", ("", "value ± error", *heads), rows)


def _change(change: float) -> str:
    """A relative change, in percent where that is readable."""
    return f"{100 * change:.3g} %" if change == 0 or 1e-4 <= change < 10 else f"{change:.1e}"


def _surface(result: SurfaceResult) -> "Table":
    grids = [
        (name, getattr(result, name.replace(" ", "_")))
        for name in ("train loss", "test loss", "train accuracy", "test accuracy")
    ]
    rows = [
        (name, number(np.nanmin(grid)), number(np.nanmax(grid)), str(int(np.isnan(grid).sum())))
        for name, grid in grids
        if grid.size and not np.isnan(grid).all()
    ]
    shape = " × ".join(str(n) for n in result.train_loss.shape)
    state = "" if result.complete else " (INCOMPLETE: run the same command again to resume)"
    return _grid(f"Surface of {shape} points{state}", ("", "smallest", "largest", "missing cells"), rows)


def _comparison(result: ComparisonResult, by_label: bool = False) -> "Table":
    """One line per column of the comparison, or `by_label` one line per label."""
    repeated = len(result.groups()) < len(result.labels)
    title = f"{'mean ± standard deviation over seeds' if repeated else 'value ± its own error'}"
    heads, columns = [], []
    for label, members in result.groups().items():
        values, errors = result.values[members], result.errors[members]
        heads.append(f"{label} ({len(members)})" if repeated and not by_label else label)
        columns.append([_group_cell(values[:, c], errors[:, c]) for c in range(len(result.columns))])
    if by_label:
        return _grid(title, ("", *result.columns), [(h, *cells) for h, cells in zip(heads, columns, strict=True)])
    return _grid(title, ("", *heads), [(name, *cells) for name, *cells in zip(result.columns, *columns, strict=True)])


def _group_cell(values: np.ndarray, errors: np.ndarray) -> str:
    if len(values) == 1:
        return with_error(values[0], errors[0])
    return with_error(float(values.mean()), float(values.std(ddof=1)))


def _track(result: TrackResult) -> "Table":
    """A row for each checkpoint done; its edge is SAM's where ρ > 0."""
    edges = np.where(np.isfinite(result.sam_edges), result.sam_edges, result.edges)
    name, places = result.axis
    columns = {
        name: [number(v, 7) for v in places],
        **{f"λ{k + 1}": _starred(column, sure) for k, (column, sure) in enumerate(_columns(result))},
        "edge": [number(v) for v in edges],
        "trace": [with_error(v, e) for v, e in zip(result.traces, result.trace_errors, strict=True)],
        "loss": [number(v) for v in result.losses], "accuracy": [number(100 * v) for v in result.accuracies],
        "‖w−w₀‖": [number(v) for v in result.distances],
        "products": [str(v) for v in result.matvecs + result.trace_matvecs],
    }  # fmt: skip
    shown = {name: cells for name, cells in columns.items() if any(cell != "–" for cell in cells)}
    rows = [tuple(cells[i] for cells in shown.values()) for i in np.flatnonzero(result.done)]
    title = f"{len(rows)} of {len(result.labels)} checkpoints"
    state = "" if result.complete else " (INCOMPLETE: run the same command again to resume)"
    return _grid(title + state, tuple(shown), rows)


def _columns(result: TrackResult) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(result.eigenvalues.T, result.converged.T, strict=True))


def _starred(values: np.ndarray, sure: np.ndarray) -> list[str]:
    return [number(v) + ("" if ok or v != v else "*") for v, ok in zip(values, sure, strict=True)]


def _correlation(result: CorrelationResult) -> "Table":
    """The measures by the size of their τ; ψ by factor where the runs' settings are known."""
    order = np.argsort(-np.abs(np.nan_to_num(result.taus)), kind="stable")
    rows = [
        (
            result.measures[i], f"{result.taus[i]:+.2f}", f"{result.lows[i]:+.2f} to {result.highs[i]:+.2f}",
            *(f"{psi:+.2f}" if psi == psi else "–" for psi in (*result.psis[i], result.granulated[i])),
            str(result.counts[i]),
        )
        for i in order
    ]  # fmt: skip
    gap = {"error": "train − test accuracy", "loss": "test − train loss"}[result.spec.gap]
    heads = ("", "Kendall τ", f"{100 * result.spec.confidence:g} % interval")
    psis = (*(f"ψ {factor}" for factor in result.factors), "Ψ")
    return _grid(f"Rank correlation with the generalisation gap ({gap})", (*heads, *psis, "checkpoints"), rows)


def _dependence(result: DependenceResult) -> "Table":
    """A row for each network and setting."""
    heads = ("", "network", "space", "φ (%)", "evaluations")
    climbs = {"climb": "one climb"}
    rows = [
        (f"{factor} {setting}", label, ", ".join(filter(None, (space, law, climbs.get(search)))),
         with_error(value, deviation), str(int(evaluations)))
        for factor, setting, label, space, law, search, value, deviation, evaluations in zip(
            result.factors, result.settings, result.labels, result.spaces, result.laws, result.searches,
            result.sharpness, result.deviation, result.evaluations, strict=True,
        )
    ]  # fmt: skip
    return _grid("What Keskar's φ depends on: mean ± standard deviation over trials", heads, rows)


_TABLES = {
    CorrelationResult: _correlation,
    DependenceResult: _dependence,
    HessianResult: _hessian,
    DensityResult: _density,
    TraceResult: _trace,
    SharpnessResult: _sharpness,
    MeasuresResult: _measures,
    AuditResult: _audit,
    SurfaceResult: _surface,
    ComparisonResult: _comparison,
    TrackResult: _track,
}


def show_demo(result: ComparisonResult) -> None:
    """The demo's table: what the three kinds of minima have in common, and in what they differ."""
    from rich.console import Console

    wanted = {
        "train loss": "train loss", "test accuracy (%)": "test accuracy %", "λ1": "λ1",
        "sharpness full ε=0.001 (%)": "φ full %", "sharpness subspace ε=0.001 (%)": "φ subspace %",
        "distance ‖w−w₀‖": "‖w−w₀‖",
    }  # fmt: skip
    chosen = [result.columns.index(name) for name in wanted]
    short = replace(
        result, columns=tuple(wanted.values()), values=result.values[:, chosen], errors=result.errors[:, chosen]
    )
    console = Console(highlight=False, width=None if _is_wide() else 118)
    console.print(_comparison(short, by_label=True))
    c, seeds = result.conditions, max(map(len, result.groups().values()))
    console.print(
        f"{seeds} seeds. λ1: largest Hessian eigenvalue (numerical and sampling errors are in the result file). "
        "φ: Keskar's ε-sharpness, ε = 1e-3, full space and 100 random directions. ‖w−w₀‖: distance from the "
        f"initial weights. {c['parameters']} weights, {c['examples']} training digits, {c['dtype']} on {c['device']}.",
        style="dim",
    )


def _is_wide() -> bool:
    import shutil
    import sys

    return sys.stdout.isatty() and shutil.get_terminal_size().columns >= 80


def show_checkpoint(found: Mapping[str, Any]) -> None:
    """What `describe` found in a checkpoint: its facts, then its tensors."""
    from rich.console import Console

    console = Console(highlight=False)
    for key, value in found.items():
        if key != "tensors":
            console.print(f"{key}: {json.dumps(plain(value), ensure_ascii=False)}", soft_wrap=True, markup=False)
    rows = [tuple(str(cell) for cell in row) for row in found["tensors"]]
    console.print(_grid(f"{len(rows)} tensors", ("name", "shape", "dtype"), rows))
