"""Tables of a study: its cells for people, its runs for programs."""

from typing import Any

from landscape.results import StudyResult
from landscape.study_table import runs_table

from .cells import Cell, Grid, Number


def study(result: StudyResult) -> Grid:
    """A row for each cell: mean ± standard error over seeds of the columns to show."""
    chosen = result.columns_shown()
    rows = tuple(
        (cell.label, _runs(len(cell.rows), cell.failed), *(_number(cell.mean[c], cell.error[c]) for c in chosen))
        for cell in result.cells()
    )
    title = f"{result.name}: mean ± standard error over seeds"
    return Grid(title, ("", "runs", *(result.columns[c] for c in chosen)), rows)


def _runs(count: int, failed: int) -> str:
    return f"{count} ({failed} FAILED)" if failed else str(count)


def _number(mean: float, error: float) -> Number:
    return Number(float(mean), float(error) if error == error else None)


def study_records(result: StudyResult) -> Grid:
    """A row for each run and moment, every number with all its digits."""
    columns = runs_table(result)
    cells: list[list[Cell]] = [[_cell(value) for value in values] for values in columns.values()]
    return Grid(f"{result.name}: every run", tuple(columns), tuple(zip(*cells, strict=True)))


def _cell(value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number(value)
    return "" if value is None else str(value)
