"""Repeated measurements by recipe: the seeds of one label side by side."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import InputError
from landscape.results import ComparisonResult, HessianResult, Result


@dataclass(frozen=True)
class Group:
    """One label. values, errors: (seeds, columns), NaN where there is nothing; sure: which values converged."""

    name: str
    values: np.ndarray
    errors: np.ndarray
    sure: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(columns,) mean over seeds; NaN as soon as one seed is."""
        return self.values.mean(axis=0)

    @property
    def deviation(self) -> np.ndarray:
        """(columns,) sample standard deviation over seeds, or the measurement's own error for a single seed."""
        with np.errstate(invalid="ignore"):  # an infinite seed has no deviation: NaN
            return self.values.std(axis=0, ddof=1) if len(self.values) > 1 else self.errors[0]


def from_comparison(result: ComparisonResult, columns: Sequence[int]) -> list[Group]:
    """The rows of a comparison grouped by label, restricted to some columns."""
    index = list(columns)
    return [
        Group(
            name, result.values[rows][:, index], result.errors[rows][:, index], np.ones((len(rows), len(index)), bool)
        )
        for name, rows in result.groups().items()
    ]


def from_results(
    results: Sequence[Result],
    names: Sequence[str] | None,
    read: Callable[[Any], tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> list[Group]:
    """One row per result, grouped by name; `read` gives (values, errors, sure), shorter rows are padded with NaN."""
    rows: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for name, result in zip(result_names(results, names), results, strict=True):
        rows.setdefault(name, []).append(read(result))
    width = max(len(values) for found in rows.values() for values, _, _ in found)
    return [
        Group(name, *(np.stack([_padded(row[part], width) for row in found]) for part in range(3)))
        for name, found in rows.items()
    ]


def _padded(row: np.ndarray, width: int) -> np.ndarray:
    if row.dtype == bool:
        return np.pad(row, (0, width - len(row)), constant_values=True)
    return np.pad(row.astype(float), (0, width - len(row)), constant_values=np.nan)


def result_names(results: Sequence[Result], names: Sequence[str] | None) -> list[str]:
    """A name for each result: those given, else as much of its checkpoint's path as tells the files apart.

    Raises `InputError` when there are not as many names as results.
    """
    if names is not None:
        if len(names) != len(results):
            raise InputError(f"names: {len(names)} given for {len(results)} results. Give one name for each.")
        return [str(name) for name in names]
    paths = [_checkpoint(result, number) for number, result in enumerate(results, start=1)]
    runs = [path[:-2] if path[-2:-1] == ("checkpoints",) else path for path in paths]
    if len(set(runs)) == len(set(paths)):
        paths = runs
    while len(set(paths)) > 1 and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    for depth in range(1, max(map(len, paths)) + 1):
        found = ["/".join(path[-depth:]) for path in paths]
        if len(set(found)) == len(set(paths)):
            break
    return found


def common_start(words: Sequence[str]) -> str:
    """What all words begin with."""
    first, last = min(words), max(words)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: [*same, False].index(False)]


def _checkpoint(result: Result, number: int) -> tuple[str, ...]:
    """The parts of the checkpoint's path, without its ending."""
    told = result.provenance.get("checkpoint")
    path = Path(told) if isinstance(told, str) and told else Path(f"result {number}")
    return (*path.parts[:-1], path.stem)


def chosen_columns(result: ComparisonResult, pattern: str) -> list[int]:
    """Positions of the columns whose names match the regular expression and that hold at least one number."""
    return [
        i for i, name in enumerate(result.columns) if re.match(pattern, name) and np.isfinite(result.values[:, i]).any()
    ]


def unit_of(column: str) -> tuple[str, str]:
    """`test accuracy (%)` as (`test accuracy`, `%`); the unit is empty where none is given."""
    found = re.fullmatch(r"(.*?)\s*\(([^()]*)\)\s*", column)
    return (found[1], found[2]) if found else (column.strip(), "")


EIGENVALUES = r"(?i)\s*(λ|lambda|eigenvalue)"
SHARPNESS = r"(?i)\s*sharpness"


def is_single(results: Sequence[Result], kind: type[Result]) -> bool:
    """Whether the results are exactly one of this kind."""
    return len(results) == 1 and isinstance(results[0], kind)


def ends_of(results: Sequence[HessianResult]) -> str:
    """The end of the spectrum that all results share. Raises `InputError` when they differ."""
    ends = {result.spec.ends for result in results}
    if len(ends) > 1:
        raise InputError(
            f"these results hold different ends of the spectrum ({', '.join(sorted(ends))}). Draw them apart."
        )
    return ends.pop()
