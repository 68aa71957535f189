"""Sharp and flat minima side by side in three dimensions, after Foret et al. 2021, Figure 1."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.results import SurfaceResult

from .coordinates import is_plane
from .layout import settle, wrap
from .quantities import missing, values_of
from .relief import cut_note, dress, heights_of, sheet, space, span
from .style import WIDTHS, style
from .titles import titles

_HEIGHT = 3.0
_MOST = 4


def draw(
    results: Sequence[SurfaceResult],
    *,
    quantity: str = "train loss",
    names: Sequence[str] | None = None,
    cap: float | None = None,
    elevation: float = 24.0,
    azimuth: float = -58.0,
) -> Figure:
    """One to four plane scans as 3-D surfaces with a common height scale, colours and view; logarithmic height.

    quantity: train loss, test loss, train error, test error, or any other that the scans hold. names: titles;
    default what differs between the scans. cap: surfaces are cut off above it, and the figure says so; default
    none. Cells with a corner that is not finite are left open. elevation, azimuth: of the eye, in degrees.
    """
    if not 1 <= len(results) <= _MOST or not all(is_plane(result) for result in results):
        raise InputError(f"surface_pair needs one to {_MOST} plane scans (`landscape surface random`).")
    grids, words = zip(*(values_of(result, quantity) for result in results), strict=True)
    columns = min(len(results), 2)
    headings = [wrap(title, 48 // columns + 12, 2) for title in titles(results, names)]
    with style():
        heights, logarithmic, ceiling = heights_of(grids, cap)
        ends = span(heights, ceiling)
        width = WIDTHS["double" if columns == 2 else "single"]
        notes = _notes(results, grids, cap, int(17 * width))
        head = 0.13 * max(heading.count("\n") for heading in headings)
        foot = 0.12 * (notes.count("\n") + 1) + 0.08 if notes else 0.0
        rows = -(-len(results) // columns)
        figure = Figure(figsize=(width, rows * (_HEIGHT + head) + foot))
        for number, (result, height) in enumerate(zip(results, heights, strict=True)):
            axes = space(figure, _rectangle(figure, number, columns, head, foot), elevation, azimuth)
            sheet(axes, result, height, Normalize(*ends), ceiling)
            dress(axes, result, words[0], ends, logarithmic, ends[0])
            axes.set_title(headings[number], y=1.0)
        figure.text(0.5, 0.05 / figure.get_figheight(), notes, ha="center", va="bottom", size=7)
        return settle(figure)


def _rectangle(
    figure: Figure, number: int, columns: int, head: float, foot: float
) -> tuple[float, float, float, float]:
    """The place of a panel, rows from the top, above `foot` inches of notes and below `head` inches of long titles."""
    height = figure.get_figheight()
    row, column = divmod(number, columns)
    left, width = (0.0, 0.9) if columns == 1 else (0.495 * column, 0.465)
    bottom = height - (row + 1) * (_HEIGHT + head) + 0.2
    return left, bottom / height, width, (_HEIGHT - 0.3) / height


def _notes(results: Sequence[SurfaceResult], grids: Sequence[np.ndarray], cap: float | None, characters: int) -> str:
    counts: dict[str, int] = {}
    for result, grid in zip(results, grids, strict=True):
        for why, cells in missing(result, grid).items():
            counts[why] = counts.get(why, 0) + int(cells.sum())
    gaps = [f"{count} points {why}" for why, count in counts.items()]
    notes = [cut_note(grids, cap), ", ".join(gaps) + ": gaps" if gaps else ""]
    return wrap("; ".join(filter(None, notes)), characters, 3) if any(notes) else ""
