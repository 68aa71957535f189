"""Do measures of sharpness predict which of several checkpoints generalises worse?"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from landscape import seeds
from landscape.errors import InputError
from landscape.methods.ranks import granulated, kendall
from landscape.results import ComparisonResult, CorrelationResult
from landscape.spec import CorrelateSpec

GAPS = {
    "error": ("train accuracy (%)", "test accuracy (%)"),
    "loss": ("test loss", "train loss"),
}
"""The two columns whose difference is the gap."""

_OUTCOMES = {"test loss", "test accuracy (%)", "train accuracy (%)"}
_FEWEST = 4
_SEED = "seed"


def measure(table: ComparisonResult, spec: CorrelateSpec) -> CorrelationResult:
    """Kendall's τ_b between each column of `table` and the generalisation gap, with a bootstrap interval.

    The interval holds `spec.confidence` of the τ_b of resampled rows. Where the runs' settings differ, ψ_i is the mean
    τ_b over all groups of rows that differ in hyper-parameter i alone (and not in their seed), and Ψ the mean of the
    ψ_i (`methods.ranks.granulated`). Rows for which a measure is not finite are left out of that measure.
    Raises `InputError` for fewer than four rows, and where train or test values are missing.
    """
    began = time.perf_counter()
    gaps = _gaps(table, spec)
    settings = table.settings or tuple({} for _ in table.labels)
    factors = _factors(settings)
    groups = {factor: _groups(settings, factor) for factor in factors}
    rng = seeds.stream(spec.bootstrap_seed, "correlate")
    drawn = seeds.integers(rng, len(gaps), (spec.resamples, len(gaps))).numpy()
    counts = np.apply_along_axis(np.bincount, 1, drawn, minlength=len(gaps))
    tail = (1 - spec.confidence) / 2
    chosen = [i for i, name in enumerate(table.columns) if name not in _OUTCOMES]
    rows: list[tuple[float, float, float, int]] = []
    psis = np.full((len(chosen), len(factors)), np.nan)
    for number, column in enumerate(chosen):
        values = table.values[:, column]
        known = np.isfinite(values) & np.isfinite(gaps)
        resampled = kendall(values[known], gaps[known], counts[:, known])
        resampled = resampled[np.isfinite(resampled)]
        low, high = np.quantile(resampled, [tail, 1 - tail]) if len(resampled) else (np.nan, np.nan)
        rows.append((float(kendall(values[known], gaps[known])[0]), float(low), float(high), int(known.sum())))
        for k, factor in enumerate(factors):
            inside = [[i for i in group if known[i]] for group in groups[factor]]
            psis[number, k] = granulated(values, gaps, [group for group in inside if len(group) > 1])[0]
    taus, lows, highs, used = (np.array(column) for column in zip(*rows, strict=True))
    base = {item.name: getattr(table, item.name) for item in fields(ComparisonResult)}
    return CorrelationResult(
        **{**base, "seconds": table.seconds + time.perf_counter() - began}, spec=spec, gaps=gaps,
        measures=tuple(table.columns[i] for i in chosen), taus=taus, lows=lows, highs=highs, counts=used,
        factors=factors, psis=psis, granulated=_means(psis),
    )  # fmt: skip


def _gaps(table: ComparisonResult, spec: CorrelateSpec) -> np.ndarray:
    if len(table.labels) < _FEWEST:
        raise InputError(
            f"a correlation over {len(table.labels)} checkpoints says nothing: give at least {_FEWEST}, better 20."
        )
    missing = [name for name in GAPS[spec.gap] if name not in table.columns]
    if missing:
        raise InputError(
            f"gap = {spec.gap} needs the column {missing[0]}, which no checkpoint has. "
            + ("Use gap = loss for regression." if spec.gap == "error" else "Compare with train and test data.")
        )
    first, second = (table.values[:, table.columns.index(name)] for name in GAPS[spec.gap])
    gaps = first - second
    if np.isfinite(gaps).sum() < _FEWEST:
        raise InputError(f"the generalisation gap is finite for fewer than {_FEWEST} checkpoints. Check their losses.")
    return gaps


def _factors(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Hyper-parameters that differ between rows, but for the seed."""
    names = dict.fromkeys(name for one in settings for name in one if name != _SEED)
    return tuple(name for name in names if len({repr(one.get(name)) for one in settings}) > 1)


def _groups(settings: Sequence[Mapping[str, Any]], factor: str) -> list[list[int]]:
    """Rows that agree in everything but `factor`, for as many as there are at least two."""
    found: dict[tuple, list[int]] = defaultdict(list)
    for row, one in enumerate(settings):
        found[tuple(sorted((k, repr(v)) for k, v in one.items() if k != factor))].append(row)
    return [rows for rows in found.values() if len({repr(settings[row].get(factor)) for row in rows}) > 1]


def _means(psis: np.ndarray) -> np.ndarray:
    known = np.isfinite(psis)
    count = known.sum(1)
    return np.divide(np.where(known, psis, 0).sum(1), count, out=np.full(len(psis), np.nan), where=count > 0)
