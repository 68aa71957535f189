"""Tables for other programs: CSV with every digit, and LaTeX as it is printed."""

import csv
import math
from collections.abc import Iterable
from dataclasses import replace
from io import StringIO

import numpy as np

from . import latex
from .cells import Cell, Grid, Interval, Number


def to_csv(grid: Grid) -> str:
    """The table as RFC 4180 asks for: commas, line ends CR LF, quotes where they are needed.

    Numbers have all their digits, and what is not a number is empty. A column whose numbers have errors is two,
    «name» and «name error»; one of intervals «name low» and «name high». What a terminal shows behind a number is
    left out.
    """
    kinds = [_kind(row[i] for row in grid.rows) for i in range(len(grid.headings))]
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(
        name for heading, kind in zip(grid.headings, kinds, strict=True) for name in _names(heading or "name", kind)
    )
    for row in grid.rows:
        writer.writerow(value for cell, kind in zip(row, kinds, strict=True) for value in _values(cell, kind))
    return out.getvalue()


def to_latex(grid: Grid) -> str:
    """The table as a `tabular` of the package booktabs, its caption as a comment; compiles with pdflatex."""
    numeric = [any(not isinstance(row[i], str) for row in grid.rows) for i in range(len(grid.headings))]
    lines = [
        r"% \usepackage{booktabs}",
        rf"% \caption{{{latex.escape(grid.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\toprule",
        " & ".join(map(latex.escape, grid.headings)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_formula, row)) + r" \\" for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _formula(cell: Cell) -> str:
    if isinstance(cell, Number):
        return latex.number(str(replace(cell, after=""))) + latex.escape(cell.after)
    if isinstance(cell, Interval) and not cell.words:
        low, high = (latex.number(str(Number(end, form=cell.form))) for end in (cell.low, cell.high))
        return f"{low} to {high}"
    return latex.escape(str(cell))


def _kind(column: Iterable[Cell]) -> tuple[str, ...]:
    """The endings of the names of the columns that one of the table needs."""
    cells = list(column)
    if any(isinstance(cell, Interval) for cell in cells):
        return (" low", " high")
    return ("", " error") if any(isinstance(cell, Number) and cell.error is not None for cell in cells) else ("",)


def _names(heading: str, kind: tuple[str, ...]) -> list[str]:
    return [heading + ending for ending in kind]


def _values(cell: Cell, kind: tuple[str, ...]) -> list[str]:
    if isinstance(cell, Interval):
        values = [_exact(cell.low), _exact(cell.high)]
    elif isinstance(cell, Number):
        values = [_exact(cell.value), *([] if cell.error is None else [_exact(cell.error)])]
    else:
        values = [cell]
    return values + [""] * (len(kind) - len(values))


def _exact(value: float) -> str:
    """The shortest decimal that reads back to the same number."""
    if isinstance(value, int | np.integer | np.bool_):
        return str(int(value))
    return "" if math.isnan(value) else repr(float(value))
