"""The walk over the cells of a scan: evaluated in order or adaptively, kept in a file while it goes on."""

import os
from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np
import torch

from landscape.methods.adaptive import refine
from landscape.methods.scan import Index, displaced, scan, visitor
from landscape.seeds import permutation, stream
from landscape.surface_geometry import Slice, SurfaceSpec
from landscape.surface_resume import COLUMNS, Cells
from landscape.surface_values import Values, pairs_in_batches

_SAMPLE = 8
"""Points at which the error of half precision is checked."""


@pairs_in_batches()
def fill(
    cells: Cells,
    spec: SurfaceSpec,
    values: Values,
    where: Slice,
    partial: str | os.PathLike[str] | None,
    progress: Callable[[int, int], None] | None,
    save_every: float,
) -> float:
    """Evaluate what is not done yet; returns the seconds that took. What is done when it ends, however, is saved."""
    started = saved = perf_counter()
    if values.curvature is not None:
        values.curvature.vectors = cells.vectors

    def store() -> None:
        if partial is not None:
            cells.vectors = cells.vectors if values.curvature is None else values.curvature.vectors
            cells.store(partial, perf_counter() - started)

    def after() -> None:
        nonlocal saved
        if progress is not None:
            progress(int(cells.done.sum()), cells.done.size)
        if perf_counter() - saved >= save_every:
            store()
            saved = perf_counter()

    store()
    try:
        slice_ = (where.origin, where.directions, where.coefficients)
        if spec.adaptive is None:
            scan(values, *slice_, values=cells.values, done=cells.done, after=after, at_once=values.at_once())
        elif not cells.done.all():
            _refine(cells, visitor(values, *slice_, cells.values, cells.done, after, values.at_once()), spec)
        if spec.half and "half_error" not in cells.more:
            cells.more["half_error"] = _half_error(cells, values, where)
        if values.how:
            cells.more["evaluation"] = values.how
    finally:
        store()
    return perf_counter() - started


def _refine(cells: Cells, visit: Callable[[Iterable[Index]], None], spec: SurfaceSpec) -> None:
    """Fill all cells, most of them by interpolation; the losses decide how many are evaluated."""
    assert spec.adaptive is not None
    losses = [k for k, name in enumerate(COLUMNS) if name.endswith("loss") and name in cells.kept]
    order = permutation(stream(0, "surface", "adaptive"), cells.done.size).numpy()
    found = refine(visit, cells.values, losses, spec.adaptive, order)
    cells.more |= {
        "evaluations": int((~found.interpolated).sum()) * len(losses), "interpolated": found.interpolated,
        "interpolation_error": found.error, "held_out": found.held_out,
    }  # fmt: skip
    cells.values[...], cells.done[...] = found.values, True


def _half_error(cells: Cells, values: Values, where: Slice) -> float:
    """The largest error of a loss in half precision on a sample of the points, as a share of the range of that loss."""
    evaluated = np.argwhere(~cells.more["interpolated"] if "interpolated" in cells.more else cells.done)
    order = permutation(stream(0, "surface", "half precision"), len(evaluated))[:_SAMPLE]
    worst, point = 0.0, torch.empty_like(where.origin)
    for cell in map(tuple, evaluated[order.numpy()].tolist()):
        displaced(where.origin, where.directions, where.coefficients[cell].tolist(), out=point)
        for k, exact in zip((0, 2), values.losses_by_model(point, cell), strict=False):
            column = cells.values[..., k]
            extent = np.ptp(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0
            worst = max(worst, float(abs(column[cell] - exact) / extent) if extent > 0 else 0.0)
    return worst
