"""Results for people (rich tables) and for programs (JSON)."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import click
import numpy as np

from landscape.fields import Spec
from landscape.results import ComparisonResult, Result

from .cells import Grid
from .grids import grid
from .grids_measures import comparison
from .notes import notes

if TYPE_CHECKING:
    from rich.console import Console
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
    """Print a result to standard output as a table with the conditions it was measured under.

    A terminal gets it in its own width; a file or another program in lines as long as they need to be.
    """
    console = _console()
    if console.is_terminal:
        _print(result, console)
    else:
        click.echo(to_text(result), nl=False)


def to_text(result: Result) -> str:
    """What `show` prints, in lines as long as they need to be."""
    from io import StringIO

    out = StringIO()
    _print(result, _console(file=out, width=10**4))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _print(result: Result, console: "Console") -> None:
    console.print(_table(grid(result)))
    for line in notes(result):
        console.print(line, style="dim", soft_wrap=True)


def _console(width: int | None = None, file: TextIO | None = None) -> "Console":
    """A console that takes square brackets and colons in names for what they are."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False, width=width, file=file)


def _table(grid: Grid) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=grid.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for position, heading in enumerate(grid.headings):
        table.add_column(heading, justify="left" if position == 0 else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*map(str, row))
    return table


def show_demo(result: ComparisonResult) -> None:
    """The demo's table: what the three kinds of minima have in common, and in what they differ."""
    wanted = {
        "train loss": "train loss", "test accuracy (%)": "test accuracy %", "λ1": "λ1",
        "sharpness full ε=0.001 (%)": "φ full %", "sharpness subspace ε=0.001 (%)": "φ subspace %",
        "distance ‖w−w₀‖": "‖w−w₀‖",
    }  # fmt: skip
    chosen = [result.columns.index(name) for name in wanted]
    short = replace(
        result, columns=tuple(wanted.values()), values=result.values[:, chosen], errors=result.errors[:, chosen]
    )
    console = _console(width=None if _is_wide() else 118)
    console.print(_table(comparison(short, by_label=True)))
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
    console = _console()
    for key, value in found.items():
        if key != "tensors":
            console.print(f"{key}: {json.dumps(plain(value), ensure_ascii=False)}", soft_wrap=True)
    rows = tuple(tuple(str(cell) for cell in row) for row in found["tensors"])
    console.print(_table(Grid(f"{len(rows)} tensors", ("name", "shape", "dtype"), rows)))
