"""A study's two tables, runs and cells, as columns, and written as CSV and Parquet."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landscape.files import write_atomically
from landscape.study_result import StudyResult
from landscape.study_spec import word

Columns = dict[str, list[Any]]
"""Name -> as many values as there are rows; None where there is none."""


def runs_table(result: StudyResult) -> Columns:
    """A row for each run and moment: its setting, every number with its own error where it has one, why it failed."""
    columns: Columns = {"run": list(result.runs)}
    for factor in (*result.factors, "seed"):
        columns[factor] = _alike([setting[factor] for setting in result.settings])
    columns |= {"at": list(result.at), "status": ["failed" if why else "done" for why in result.troubles]}
    for number, name in enumerate(result.columns):
        columns[name] = _numbers(result.values[:, number])
        errors = _numbers(result.errors[:, number])
        if any(error is not None for error in errors):
            columns[f"{name} error"] = errors
    return columns | {"reason": [why or None for why in result.troubles]}


def cells_table(result: StudyResult) -> Columns:
    """A row for each cell: its factors, and mean, standard error and count over seeds of every number."""
    cells = result.cells()
    columns: Columns = {factor: _alike([cell.setting[factor] for cell in cells]) for factor in result.by}
    columns |= {
        "at": [cell.at for cell in cells], "runs": [len(cell.rows) for cell in cells],
        "failed": [cell.failed for cell in cells],
    }  # fmt: skip
    for number, name in enumerate(result.columns):
        columns[f"{name} mean"] = _numbers([cell.mean[number] for cell in cells])
        columns[f"{name} standard error"] = _numbers([cell.error[number] for cell in cells])
        columns[f"{name} count"] = [int(cell.count[number]) for cell in cells]
    return columns


def to_csv(columns: Columns) -> str:
    """RFC 4180; numbers with all their digits, nothing where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow("" if cell is None else cell for cell in row)
    return out.getvalue()


def write_tables(result: StudyResult, folder: Path) -> list[Path]:
    """Write runs.csv and cells.csv, and with pyarrow (the extra `table`) also .parquet; returns the files."""
    written = []
    for name, columns in (("runs", runs_table(result)), ("cells", cells_table(result))):
        for ending, content in ((".csv", to_csv(columns).encode()), (".parquet", _parquet(columns))):
            if content is not None:
                write_atomically(folder / (name + ending), content)
                written.append(folder / (name + ending))
    return written


def _parquet(columns: Columns) -> bytes | None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return None
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def _numbers(values: Any) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]


def _alike(values: Sequence[Any]) -> list[Any]:
    """Values of one type: numbers or truth values as they are, everything else in words."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} or kinds <= {bool}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [word(value) for value in values]
