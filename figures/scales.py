"""Numbers on axes: how they are written, where ticks and contour levels stand, when an axis is logarithmic."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from landscape.errors import illegal

SCALES = ("auto", "log", "symlog", "linear")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, small: float = 1e-3) -> str:
    """0.05, 2000, 3×10⁻⁵, 10⁶, −4: at most four digits, powers of ten outside [small, 10 000)."""
    if not np.isfinite(value):
        return str(value).replace("-", "−").replace("inf", "∞")
    if value == 0 or small <= abs(value) < 1e4:
        return f"{value:.4g}".replace("-", "−")
    mantissa, exponent = f"{value:.3e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return {"1": power, "-1": "−" + power}.get(mantissa, f"{mantissa}×{power}".replace("-", "−"))


def choose_scale(values: np.ndarray, asked: str = "auto") -> str:
    """`log` when every finite value is positive, otherwise `symlog`, unless a scale is asked for.

    Raises `InputError` for an unknown scale, and for `log` when a value is not positive.
    """
    if asked not in SCALES:
        raise illegal("scale", asked, f"one of {', '.join(SCALES)}", "")
    finite = values[np.isfinite(values)]
    if asked == "log" and (finite <= 0).any():
        raise illegal("scale", asked, f"one that can show {finite.min():g}", "Use symlog or linear.")
    if asked != "auto":
        return asked
    return "log" if (finite > 0).all() else "symlog"


def log_levels(low: float, high: float, most: int) -> np.ndarray:
    """At most about `most` round numbers in [low, high]: 1-2-5 steps, decades or every few decades; if those are
    fewer than three, evenly spaced round numbers."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    for every, steps in _ladders(last - first):
        decades = [k for k in range(first, last + 1) if k % every == 0]
        levels = np.array([step * 10.0**k for k in decades for step in steps])
        levels = levels[(levels >= low * (1 - 1e-9)) & (levels <= high * (1 + 1e-9))]
        if 3 <= len(levels) <= most:
            return levels
    levels = np.asarray(MaxNLocator(nbins=most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    return levels[(levels >= low) & (levels <= high) & (levels > 0)]


def logarithms(grids: Sequence[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """log₁₀ of the grids when no value is negative and some are positive, else the grids; NaN where not finite.

    Values of exactly zero (a saturated loss, no error at all) get the logarithm of the smallest positive value.
    """
    clean = [np.where(np.isfinite(grid), grid, np.nan) for grid in grids]
    finite = np.concatenate([grid[np.isfinite(grid)] for grid in clean])
    if not (finite > 0).any() or (finite < 0).any():
        return clean, False
    return [np.log10(np.maximum(grid, finite[finite > 0].min())) for grid in clean], True


def _ladders(decades: int) -> Iterator[tuple[int, Sequence[float]]]:
    yield 1, (1, 2, 5)
    yield 1, (1, 3)
    for every in range(1, decades + 2):
        yield every, (1,)


def scale_axis(axis: Axis, low: float, high: float, scale: str, threshold: float = 0.0, most: int = 6) -> None:
    """Set scale, limits and few, round, plainly written ticks.

    threshold: symlog only, half-width of the linear part around zero.
    """
    along_y = axis is axis.axes.yaxis
    set_scale, set_limits = (
        (axis.axes.set_yscale, axis.axes.set_ylim) if along_y else (axis.axes.set_xscale, axis.axes.set_xlim)
    )
    set_scale(scale, **({"linthresh": threshold, "linscale": 0.5} if scale == "symlog" else {}))
    set_limits(low, high)
    if scale == "linear":
        axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]))
    else:
        ticks = log_levels(low, high, most) if scale == "log" else symlog_ticks(low, high, threshold, most)
        axis.set_major_locator(FixedLocator(ticks.tolist()))
        axis.set_minor_locator(FixedLocator(_minor(low, high).tolist()) if scale == "log" else NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(NullFormatter())


def _minor(low: float, high: float) -> np.ndarray:
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    if len(decades) > 8:
        return 10.0**decades
    return np.outer(10.0**decades, np.arange(1, 10)).ravel()


def symlog_ticks(low: float, high: float, threshold: float, most: int) -> np.ndarray:
    """Zero and ± decades from the threshold outwards, thinned to about `most` in all."""
    first = int(np.ceil(np.log10(threshold) - 1e-9))
    reach = {sign: np.log10(max(sign * end, threshold)) for sign, end in ((-1, low), (1, high))}
    count = sum(max(0, int(np.floor(end)) - first + 1) for end in reach.values())
    every = max(1, -(-count // max(most - 1, 1)))
    ticks = [
        sign * 10.0**k
        for sign in reach
        for k in range(first + every // 2, int(np.floor(reach[sign] + 1e-9)) + 1, every)
    ]
    return np.array(sorted(t for t in [0.0, *ticks] if low <= t <= high))


def limits(values: np.ndarray, scale: str, margin: float = 0.06) -> tuple[float, float, float]:
    """(low, high, symlog threshold) that hold all finite values with some room; (0, 1) when there are none."""
    finite = values[np.isfinite(values)]
    if scale == "log":
        finite = finite[finite > 0]
    if not len(finite):
        return (0.1, 1.0, 0.1) if scale == "log" else (0.0, 1.0, 0.1)
    low, high = float(finite.min()), float(finite.max())
    if scale == "log":
        room = max((high / low) ** margin, 1.05)
        return low / room, high * room, 0.0
    if scale == "linear":
        room = margin * (high - low) or 0.05 * abs(high) or 1.0
        return low - room, high + room, 0.0
    sizes = np.abs(finite[finite != 0])
    threshold = 10.0 ** np.floor(np.log10(max(sizes.min(), sizes.max() * 1e-6))) if len(sizes) else 1.0
    return (low * 1.6 if low < 0 else -threshold / 2), (high * 1.6 if high > 0 else threshold / 2), float(threshold)
