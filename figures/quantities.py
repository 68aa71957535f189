"""What was measured at the points of a scan: its values, their unit, and which of them are no numbers."""

import numpy as np

from landscape.errors import InputError, illegal
from landscape.results import SurfaceResult

from .scales import number

LARGEST, SMALLEST = "largest eigenvalue", "smallest eigenvalue"
_SHARES = {"error": (100.0, -100.0), "accuracy": (0.0, 100.0)}


def values_of(result: SurfaceResult, quantity: str) -> tuple[np.ndarray, str]:
    """(the grid, its name with unit) of one quantity: of the result's own, or train or test error.

    Errors are 100·(1 − accuracy), accuracies are in percent, all others as they were measured.
    Raises `InputError` when the result does not hold it.
    """
    split, _, word = quantity.partition(" ")
    source = f"{split} accuracy" if word == "error" else quantity
    if quantity not in result.extra_names and word in _SHARES and split in ("train", "test"):
        grid = result.grid(source) if source in result.quantities else np.zeros(0)
        if not grid.size or np.isnan(grid).all():
            raise InputError(f"this scan holds no {quantity}. Choose one of {', '.join(choices(result))}.")
        offset, factor = _SHARES[word]
        return offset + factor * grid, f"{quantity} (%)"
    if quantity not in result.quantities:
        raise illegal("quantity", quantity, f"one of {', '.join(choices(result))}", "Or measure it first.")
    return result.grid(quantity), quantity


def choices(result: SurfaceResult) -> list[str]:
    """The quantities that can be drawn of this result."""
    found = []
    for name in result.quantities:
        shares = name in ("train accuracy", "test accuracy")
        if not (shares and np.isnan(result.grid(name)).all()):
            found += [name.replace("accuracy", "error"), name] if shares else [name]
    return found


def missing(result: SurfaceResult, grid: np.ndarray) -> dict[str, np.ndarray]:
    """{why: cells} of the values that are no numbers: NaN, infinite, or not evaluated; kinds that occur alone."""
    nothing = np.isnan(grid)
    if result.complete:
        found = {"NaN": nothing}
    elif result.done.shape == grid.shape:
        done = result.done.astype(bool)
        found = {"NaN": nothing & done, "not evaluated": nothing & ~done}
    else:
        found = {"NaN or not evaluated": nothing}
    found["infinite"] = np.isinf(grid)
    return {why: cells for why, cells in found.items() if cells.any()}


def interpolation_note(result: SurfaceResult) -> str:
    """How many points were evaluated, when the rest is interpolated, and how far off that may be; else nothing."""
    if not result.interpolated.any():
        return ""
    count, total = result.interpolated.size - int(result.interpolated.sum()), result.interpolated.size
    if not np.isfinite(result.interpolation_error):
        return f"{count} of {total} points evaluated, the rest interpolated"
    share = number(float(f"{100 * result.interpolation_error:.1g}"))
    return f"{count} of {total} points evaluated, the rest interpolated to {share}\u00a0% of the range"
