"""What a study found: a row for each run and moment, and cells that sum up the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.comparison_result import ComparisonResult
from landscape.errors import illegal
from landscape.study_spec import LAST, label_of, word


@dataclass(frozen=True)
class StudyCell:
    """Repetitions of one setting: all rows that agree in the factors of the table and in the moment.

    rows: their indices. mean, error: (columns,) over the rows that have the number, and s/√count, NaN for a count
    below 2. count: (columns,). failed: rows whose run failed.
    """

    setting: Mapping[str, Any]
    at: str
    rows: tuple[int, ...]
    mean: np.ndarray
    error: np.ndarray
    count: np.ndarray
    failed: int

    @property
    def label(self) -> str:
        words = label_of(self.setting) or "all runs"
        return words if self.at == LAST else f"{words} at epoch {self.at}"


@dataclass(frozen=True, kw_only=True)
class StudyResult(ComparisonResult):
    """Rows are runs at a moment; columns, values and errors as in `ComparisonResult`, NaN where a run has no number.

    name: of the study. runs: the runs' folders. settings: of each row, the factors' values and the seed. at: the
    moment of each row, an epoch or "last". troubles: why a row's run failed, "" otherwise. factors: what was varied.
    by: those that make a cell. shown: the columns to show, () for all. pending: runs that are not done yet.
    """

    kind: ClassVar[str] = "study"
    name: str
    runs: tuple[str, ...]
    at: tuple[str, ...]
    troubles: tuple[str, ...]
    factors: tuple[str, ...]
    by: tuple[str, ...]
    shown: tuple[str, ...] = ()
    pending: int = 0

    def cells(self, by: Sequence[str] | None = None) -> list[StudyCell]:
        """The cells of the table, in the order of their first rows; by: other factors than the table's."""
        by = self.by if by is None else tuple(by)
        for factor in by:
            if factor not in self.factors:
                raise illegal(
                    "factor", factor, f"one of {', '.join(self.factors) or 'none'}", "Choose one that varies."
                )
        members: dict[tuple, list[int]] = {}
        for row, (setting, at) in enumerate(zip(self.settings, self.at, strict=True)):
            members.setdefault((at, *(word(setting[factor]) for factor in by)), []).append(row)
        return [self._cell(by, rows) for rows in members.values()]

    def _cell(self, by: Sequence[str], rows: list[int]) -> StudyCell:
        values = self.values[rows]
        there = ~np.isnan(values)
        count = there.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):  # no number: NaN
            mean = np.where(there, values, 0).sum(0) / count
            squares = np.where(there, (values - mean) ** 2, 0).sum(0)
            error = np.where(count > 1, np.sqrt(squares / (count - 1) / count), np.nan)
        setting = {factor: self.settings[rows[0]][factor] for factor in by}
        failed = sum(bool(self.troubles[row]) for row in rows)
        return StudyCell(setting, self.at[rows[0]], tuple(rows), mean, error, count, failed)

    def columns_shown(self) -> list[int]:
        """Indices of the columns to show; without a choice all but counts of trouble that there was not.

        Raises `InputError` for one that no run has.
        """
        for name in self.shown:
            if name not in self.columns:
                raise illegal(
                    "[table] columns", name, f"one of {', '.join(self.columns) or 'none yet'}", "Measure it, too."
                )
        chosen = [self.columns.index(name) for name in self.shown]
        return chosen or [
            number for number, name in enumerate(self.columns)
            if not name.startswith("unconverged") or np.nansum(self.values[:, number])
        ]  # fmt: skip

    @property
    def failures(self) -> dict[str, str]:
        """Why, by the failed run's name."""
        return {run: why for run, why in zip(self.runs, self.troubles, strict=True) if why}
