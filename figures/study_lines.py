"""What a figure of a study shows: its cells as lines over a factor or a column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.errors import InputError, illegal
from landscape.results import StudyCell, StudyResult


@dataclass(frozen=True)
class Line:
    """A line of the figure. x: (k,), means, errors: (k,), seeds: the (x, y) of every run."""

    name: str
    x: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    seeds: np.ndarray

    def fit(self, law: str, until: float) -> tuple[float, float]:
        """(a, b) of the least-squares line through the means, in the coordinates of the law, over x ≤ until."""
        there = np.isfinite(self.means) & (self.x > 0) & (self.x <= until)
        if law == "power":
            there &= self.means > 0
        if there.sum() < 2:
            raise InputError(f"fit needs two points with x from above 0 to {until:g}; {self.name or 'it'} has fewer.")
        heights = np.log10(self.means[there]) if law == "power" else self.means[there]
        slope, offset = np.polyfit(np.log10(self.x[there]), heights, 1)
        return float(offset), float(slope)


def column_of(result: StudyResult, option: str, name: str) -> int:
    if name not in result.columns:
        raise illegal(option, name, f"one of {', '.join(result.columns)}", "Or measure it in the study.")
    return result.columns.index(name)


def conditions_of(result: StudyResult, where: str) -> dict[str, str]:
    """`rho=0,optimiser=sgd` as a mapping; values are compared as texts."""
    conditions = {}
    for part in filter(None, where.split(",")):
        name, sign, value = part.partition("=")
        if not sign or name not in (*result.factors, "at"):
            raise illegal(
                "where", where, f"factor=value,… of {', '.join((*result.factors, 'at'))}", "Mend the condition."
            )
        conditions[name] = value
    return conditions


def lines_of(
    result: StudyResult, x: str, column: int, by: str | None, conditions: dict[str, str]
) -> tuple[list[Line], list[str]]:
    """The lines, and the names of the places on x where those are no numbers."""
    cells = [
        cell for cell in result.cells(result.factors)
        if all(
            _text({**cell.setting, "at": cell.at}[name]) in (value, _text(_read(value)))
            for name, value in conditions.items()
        )
    ]  # fmt: skip
    if not cells:
        raise illegal("where", conditions, "true of some run", "Choose other values.")
    _check_chosen(result, cells, x, {x, by, *conditions})
    ticks: list[str] = []
    abscissa = result.columns.index(x) if x in result.columns else 0
    if x in result.factors:
        places: list[Any] = [_read(cell.setting[x]) for cell in cells]
        if not all(isinstance(place, int | float) and not isinstance(place, bool) for place in places):
            ticks = list(dict.fromkeys(map(_text, places)))
            places = [ticks.index(_text(place)) for place in places]
    else:
        places = [cell.mean[abscissa] for cell in cells]
    groups: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        groups.setdefault(_text(cell.setting[by]) if by else "", []).append(place)
    lines = []
    for name, members in groups.items():
        members = sorted(members, key=lambda k: places[k])
        seeds = [
            (places[k] if x in result.factors else result.values[row, abscissa], result.values[row, column])
            for k in members for row in cells[k].rows
        ]  # fmt: skip
        lines.append(
            Line(
                name, np.array([places[k] for k in members], float),
                np.array([cells[k].mean[column] for k in members]),
                np.array([cells[k].error[column] for k in members]), np.array(seeds, float).reshape(-1, 2),
            )
        )  # fmt: skip
    return lines, ticks


def _check_chosen(result: StudyResult, cells: Sequence[StudyCell], x: str, drawn: set[str | None]) -> None:
    """Raise `InputError` when cells would stand on one another: another factor varies, or there are several moments."""
    for name in result.factors if x in result.factors else ():
        values = dict.fromkeys(_text(cell.setting[name]) for cell in cells)
        if name not in drawn and varies([cell.setting for cell in cells], name, drawn):
            raise InputError(
                f"{name} varies, too ({', '.join(values)}). Choose one with where: {name}={next(iter(values))}."
            )
    moments = dict.fromkeys(cell.at for cell in cells)
    if x in result.factors and len(moments) > 1:
        raise InputError(
            f"there are several moments ({', '.join(moments)}). Choose one with where: at={next(reversed(moments))}, "
            "or x = epoch or step."
        )


def varies(settings: Sequence[Mapping[str, Any]], name: str, given: set[str | None]) -> bool:
    """Whether the factor has several values where those given are fixed; what a named run sets, its name decides."""
    seen: dict[tuple, str] = {}
    return any(
        seen.setdefault(tuple(_text(setting.get(key)) for key in sorted(filter(None, given))), value) != value
        for setting in settings
        for value in [_text(setting[name])]
    )


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _read(value: Any) -> Any:
    """A number where a text is one: arguments of models and data are texts."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
