"""The moves of the search for a maximum in a box: climbs, corner ascents, and the finish at the best point.

All of them tell one `Record` what they evaluate. They are methods of `lockstep`: they yield the points that they
want evaluated.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from landscape.aliases import Vector
from landscape.methods.inner import inner
from landscape.methods.lockstep import Evaluated, EvaluateSeveral, Method, alone, lockstep

Function = Callable[[Vector], Evaluated]
Climb = Callable[..., Method[int]]

CONVERGED = 1e-3
"""A maximum has converged when a first-order step promises no more than this share of the rise."""

_FLIPPED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35)
_ROUNDS = 2
_STATIONARY = 1e-5
_ASCENT = 4
_WORTH = 1e-4
_LONGEST = 10_000
"""Iterations of the last climbs when the maximum is sought until it has converged."""


class Record:
    """Evaluates f, turns what is not finite into −∞, and remembers the best point."""

    def __init__(self, function: Function, radius: Vector, several: EvaluateSeveral | None = None):
        self._function, self.radius, self._several = function, radius, several
        self.evaluations, self.walls, self.iterations = 0, 0, 0
        self.value, self.lowest, self.probed = -math.inf, math.inf, -math.inf
        self.point, self.gradient = torch.zeros_like(radius), torch.zeros_like(radius)

    def __call__(self, z: Vector) -> tuple[float, Vector]:
        return self.note(z, *self._function(z))

    def note(self, z: Vector, value: float, gradient: Vector) -> tuple[float, Vector]:
        """Remember an evaluation; the value is −∞ where it or the gradient is not finite."""
        self.evaluations += 1
        if not (math.isfinite(value) and bool(gradient.isfinite().all())):
            self.walls += 1
            return -math.inf, gradient
        self.lowest = min(self.lowest, value)
        if value > self.value:
            self.value, self.point, self.gradient = value, z.clone(), gradient.clone()
        return value, gradient

    def run(self, methods: Sequence[Method[float]]) -> list[float]:
        """What the methods return, run side by side where several points can be evaluated at once."""
        if self._several is None:
            return [alone(method, self) for method in methods]
        return lockstep(methods, self._several, self.note)

    def corner(self, z: Vector, gradient: Vector) -> Vector:
        return torch.where(gradient != 0, torch.copysign(self.radius, gradient), z)

    def gap(self) -> float:
        return inner(self.gradient, self.corner(self.point, self.gradient) - self.point).item()


def climb_from(record: Record, climb: Climb, start: Vector, iterations: int, ascend: bool) -> Method[float]:
    """One climb; its best value. With `ascend`, a corner ascent from the start's sign-gradient corner too."""
    best, corner, steps = -math.inf, None, climb(record.radius, start, iterations)
    try:
        point = next(steps)
        while True:
            value, gradient = yield point
            best = max(best, value)
            if corner is None and math.isfinite(value):
                corner = record.corner(point, gradient)
            point = steps.send((-value, -gradient))
    except StopIteration as end:
        record.iterations += end.value
    if ascend and corner is not None:
        yield from probe(record, corner)
    return best


def probe(record: Record, point: Vector) -> Method[float]:
    value, gradient = yield point
    record.probed = max(record.probed, value)
    yield from _corner_ascent(record, point, value, gradient)
    return value


def _corner_ascent(record: Record, z: Vector, value: float, gradient: Vector, limit: int = _ASCENT) -> Method[float]:
    """z ← radius·sign(∇f(z)) for as long as f rises; the last value."""
    for _ in range(limit if math.isfinite(value) else 0):
        corner = record.corner(z, gradient)
        if torch.equal(corner, z):
            break
        higher, new = yield corner
        if not higher > value:
            break
        z, value, gradient = corner, higher, new
    return value


def converge(record: Record, climb: Climb, iterations: int) -> None:
    """Climb on with twice as many iterations each time, until the gap is small, or nothing is gained any more."""
    while record.gap() > CONVERGED * (record.value - record.lowest) and iterations < _LONGEST:
        before, iterations = record.value, 2 * iterations
        _refine(record, climb, iterations)
        if not record.value - before > _WORTH**2 * (record.value - record.lowest):
            return


def finish(record: Record, climb: Climb, iterations: int) -> None:
    """Refine the best point, shake it, refine again what the shaking found."""
    _refine(record, climb, iterations)
    before = record.value
    _shake(record, 2 * iterations)
    if record.value > before:
        _refine(record, climb, iterations)


def _refine(record: Record, climb: Climb, iterations: int) -> None:
    """Corner ascents and climbs from the best point, until it is stationary or rises no more."""
    for _ in range(_ROUNDS):
        before = record.value
        alone(_corner_ascent(record, record.point, record.value, record.gradient, iterations), record)
        if record.gap() <= _STATIONARY * (record.value - record.lowest):
            return
        alone(climb_from(record, climb, record.point, iterations, ascend=False), record)
        if not record.value - before > _WORTH * (record.value - record.lowest):
            return


def _shake(record: Record, evaluations: int) -> None:
    """Flip some of the coordinates that are held weakest and ascend; begin again after each success."""
    last = record.evaluations + evaluations
    windows = _windows(record.radius.numel())
    while record.evaluations < last and (window := next(windows, None)) is not None:
        z, before = record.point, record.value
        flipped = (record.gradient * z).argsort()[window]
        point = z.clone()
        point[flipped] = -torch.copysign(record.radius, z)[flipped]
        value, gradient = record(point)
        if not torch.equal(record.corner(point, gradient), z):
            alone(_corner_ascent(record, point, value, gradient), record)
        if record.value > before:
            windows = _windows(z.numel())


def _windows(n: int) -> Iterator[slice]:
    """Places in the order of holding: the weakest 1 %, 2 %, … 35 %, then the next weakest 1 %, and so on."""
    sizes = dict.fromkeys(max(1, int(share * n)) for share in _FLIPPED)
    for turn in range(n):
        yield from (slice(turn * size, (turn + 1) * size) for size in sizes if turn * size < n)
