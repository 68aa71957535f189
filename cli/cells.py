"""Tables before they are drawn: cells that know how they are shown, and the rounding of numbers and errors."""

import math
from dataclasses import dataclass


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


@dataclass(frozen=True)
class Number:
    """A number, shown by the format `form`, or rounded to its error.

    error: None for numbers that never have one, NaN for one that lacks it. after: what is shown behind the number.
    """

    value: float
    error: float | None = None
    form: str = ".4g"
    after: str = ""

    def __str__(self) -> str:
        if self.value != self.value:
            return "–" + self.after
        if self.error is not None:
            return with_error(self.value, self.error) + self.after
        return format(self.value, self.form) + self.after


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; `words` are shown instead where there are any."""

    low: float
    high: float
    form: str = ".4g"
    words: str = ""

    def __str__(self) -> str:
        return self.words or f"{Number(self.low, form=self.form)} to {Number(self.high, form=self.form)}"


Cell = str | Number | Interval


@dataclass(frozen=True)
class Grid:
    """A table: its title, the headings of its columns, and rows of as many cells."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
