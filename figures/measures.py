"""Measures of one or several checkpoints: one small panel per number, the checkpoints side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from landscape.errors import InputError
from landscape.results import ComparisonResult, MeasuresResult

from . import comparison
from .groups import result_names


def draw(
    results: Sequence[MeasuresResult],
    *,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    width: str = "double",
) -> Figure:
    """Every number of the measures in its own panel, a point with its error for each checkpoint.

    names: one per result, equal names being seeds; columns: names of the numbers to draw, default all.
    """
    if not results or not all(isinstance(result, MeasuresResult) for result in results):
        raise InputError("measures needs results of `landscape sharpness --measure`. Leave the other results out.")
    labels = result_names(results, names)
    every = tuple(dict.fromkeys(name for result in results for name in result.names))

    def table(values: str) -> np.ndarray:
        known = [dict(zip(result.names, getattr(result, values), strict=True)) for result in results]
        return np.array([[one.get(name, np.nan) for name in every] for one in known], dtype=float)

    found = ComparisonResult(
        labels=tuple(labels), checkpoints=tuple(labels), columns=every, values=table("values"), errors=table("errors")
    )
    return comparison.draw([found], columns=columns, width=width)
