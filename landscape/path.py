"""Paths between two minima: how high the loss rises on the straight line between them, and on better ways.

Every point of every path is evaluated on the same data in the same order. For networks with batch norm a straight
line is measured with the statistics of its ends, interpolated, and with those of the training data at each point,
recomputed, as is done for such networks in REPAIR (Jordan et al. 2023, arXiv 2211.08403). Recomputed statistics
change the network at the ends, too. A trained curve has no other statistics than recomputed ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from landscape.errors import illegal
from landscape.methods.curves import Curve
from landscape.methods.peak import Refined, refine
from landscape.path_routes import Route, routes_between
from landscape.problem import Problem
from landscape.results import PathResult
from landscape.spec import PathSpec
from landscape.surface_points import Point, placed

_LOSSES = (0, 2)
"""Where losses stand among `PathResult.QUANTITIES`; between them are errors."""
_ROUNDING = 1e-5
"""Barriers are not sought to better than this share of the losses at the ends: there they are float32's rounding."""


def measure(
    problem: Problem,
    spec: PathSpec,
    points: Sequence[Point],
    test: Problem | None = None,
    curve: Curve | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PathResult:
    """Loss and accuracy of `problem` (training data) and `test` along paths between two points, and their barriers.

    Paths: the straight line under each of `spec.batch_norm`; with `spec.align` the line to the second point with its
    hidden units permuted, likewise; and `curve`, whose ends must be the two points. A network without batch
    norm has one line of each. Each path is evaluated at `spec.points` equidistant t, then near its maxima
    until the barriers of the loss are known to `spec.tolerance`.
    progress is called with (points done, points of all grids).

    Raises `InputError`: other than two points, points that are not of this problem's model or not finite, a curve
    between other points, alignment where some parameters are fixed, a problem that normalises by batches.
    """
    began, problems = perf_counter(), [problem] if test is None else [problem, test]
    _check(problems)
    if len(points) != 2:
        raise illegal("points", [point.label for point in points], "2, the ends of a path", "Name as many.")
    first, second = placed(problem, points, whole=True)
    routes, facts = routes_between(problem, spec, (first, second), curve)
    grid = np.linspace(0, 1, spec.points)
    walks: list[_Walk] = []
    for route in routes:
        report = _continued(progress, len(walks) * len(grid), len(routes) * len(grid))
        walks.append(_walked(problems, route, spec, grid, report))
    conditions = {**problem.conditions(), "has_batch_norm": problem.has_batch_norm, **facts}
    if test is not None:
        conditions["test_examples"] = test.size
    train_loss, train_accuracy, test_loss, test_accuracy = _grids(walks, problems)
    barriers, rises = (_of_all(walks, slice(start, start + 4)) for start in (0, 4))
    return PathResult(
        spec=spec, labels=(first.label, second.label), paths=tuple(route.name for route in routes), t=grid,
        train_loss=train_loss, train_accuracy=train_accuracy, test_loss=test_loss, test_accuracy=test_accuracy,
        barriers=barriers[0], barrier_t=barriers[1], barrier_accuracy=barriers[2],
        rises=rises[0], rise_t=rises[1], rise_accuracy=rises[2], added=_padded([walk.added for walk in walks]),
        lengths=np.array([route.curve.length() for route in routes]), conditions=conditions,
        evaluations=len(problems) * sum(len(walk.values) + len(walk.added) for walk in walks),
        seconds=perf_counter() - began,
    )  # fmt: skip


def _check(problems: Sequence[Problem]) -> None:
    for problem in problems:
        if problem.has_batch_norm and problem.batch_norm == "batch":
            remedy = "Statistics along a path are PathSpec's."
            raise illegal("batch_norm", problem.batch_norm, "running in the problems of a path", remedy)
    size, *others = (len(problem.weights) for problem in problems)
    if others and others != [size]:
        raise illegal("test", f"{others[0]} parameters", f"of {size} parameters", "Use the same model.")


def _continued(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total) if progress is not None else None


@dataclass(frozen=True)
class _Walk:
    """A path measured. values: (T, 4) train loss and accuracy, test loss and accuracy on the grid; added: (R, 5).

    tops: (3, 8) height, place and accuracy of the maxima of `_excess`, NaN where there is nothing.
    """

    values: np.ndarray
    added: np.ndarray
    tops: np.ndarray


def _walked(
    problems: Sequence[Problem], route: Route, spec: PathSpec, grid: np.ndarray, report: Callable[[int], None]
) -> _Walk:
    values, added = np.full((len(grid), 4), np.nan), []
    for k, t in enumerate(grid.tolist()):
        values[k] = _values(problems, route, spec, t)
        report(k + 1)
    measured = np.flatnonzero(np.tile(_measured(problems), 2))
    ends = _quantities(values[[0, -1]])

    def excess_at(t: float) -> np.ndarray:
        found = _values(problems, route, spec, t)
        added.append([t, *found])
        return _excess(np.array([t]), found[None], ends)[0, measured]

    wanted = [k for k, quantity in enumerate(measured) if quantity % 4 in _LOSSES]
    floor = np.full(len(measured), _ROUNDING * np.nanmax(np.where(np.isfinite(ends), ends, 0)[:, _LOSSES]))
    start = _excess(grid, values, ends)[:, measured]
    found = refine(excess_at, grid, start, wanted, spec.tolerance, floor, spec.refinements)
    return _Walk(values, np.array(sorted(added)).reshape(-1, 5), _tops(found, measured))


def _measured(problems: Sequence[Problem]) -> list[bool]:
    """Which of the four quantities there are: losses always, errors where the loss knows what a hit is."""
    known = [flag for problem in problems for flag in (True, getattr(problem.loss, "hits", None) is not None)]
    return known + [False] * (4 - len(known))


def _values(problems: Sequence[Problem], route: Route, spec: PathSpec, t: float) -> np.ndarray:
    w = route.curve.at(t)
    buffers = route.buffers(problems[0], t, w, spec.recompute_examples)
    found = [number for problem in problems for number in problem.evaluate(w, buffers)]
    return np.array(found + [np.nan] * (4 - len(found)))


def _quantities(values: np.ndarray) -> np.ndarray:
    """Losses and errors (…, 4) from losses and accuracies."""
    return np.where(np.isin(np.arange(4), _LOSSES), values, 1 - values)


def _excess(t: np.ndarray, values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(T, 8) losses and errors above the straight line between those at the ends, then above the larger end."""
    quantities = _quantities(values)
    with np.errstate(invalid="ignore"):  # a path through infinity has a barrier of infinity
        chord = np.outer(1 - t, ends[0]) + np.outer(t, ends[1])
        return np.concatenate([quantities - chord, quantities - ends.max(axis=0)], axis=1)


def _tops(found: Refined, measured: np.ndarray) -> np.ndarray:
    tops = np.full((3, 8), np.nan)
    tops[:, measured] = found.heights, found.places, found.accuracies
    return tops


def _of_all(walks: Sequence[_Walk], part: slice) -> np.ndarray:
    """(3, paths, 4): heights, places and accuracies."""
    return np.stack([walk.tops[:, part] for walk in walks], axis=1)


def _grids(walks: Sequence[_Walk], problems: Sequence[Problem]) -> list[np.ndarray]:
    """The four tables (paths, T), (0,) where there is nothing."""
    values = np.stack([walk.values for walk in walks])
    return [values[..., k] if there else np.zeros(0) for k, there in enumerate(_measured(problems))]


def _padded(tables: Sequence[np.ndarray]) -> np.ndarray:
    whole = np.full((len(tables), max(map(len, tables)), 5), np.nan)
    for row, table in zip(whole, tables, strict=True):
        row[: len(table)] = table
    return whole
