"""The moves of the search for a maximum in a box: climbs, corner ascents, and the finish at the best point.

All of them tell one `Record` what they evaluate. They are methods of `lockstep`: they yield the points that they
want evaluated.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from landscape.aliases import Vector
from landscape.methods.box_record import End, Record
from landscape.methods.lockstep import Method, alone

Climb = Callable[..., Method[int]]

CONVERGED = 1e-3
"""A maximum has converged when a first-order step promises no more than this share of the rise."""

_FLIPPED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35)
_ROUNDS = 2
_STATIONARY = 1e-5
_ASCENT = 4

_SIDES, _SIDE_ASCENT = 3, 6
"""Corner ascents to other sides of the box, and their steps."""
_RIVALS, _WITHIN = 3, 0.15
"""The best sides that are climbed on, of those that are short of the best by no more than this share of the rise."""
_LONG, _STALL, _WORTH = 4, 6, 1e-4
"""Those climbs: so many times longer than others, but over when that many evaluations gain less than a share."""
_MIXED = 3
"""Ends that the best point is mixed with."""
_LONGEST = 10_000
"""Iterations of the last climbs when the maximum is sought until it has converged."""


@dataclass(frozen=True)
class Top:
    """The highest point of a climb, f and ∇f there, and the corner of the gradient's sign at the climb's start."""

    value: float
    point: Vector
    gradient: Vector
    corner: Vector | None


def climb_from(
    record: Record, climb: Climb, start: Vector, iterations: int, ascend: bool = False, patient: bool = True
) -> Method[float]:
    """One climb (`plain_climb`), and a corner ascent from its highest point; the value at that point.

    ascend: a corner ascent from the start's sign-gradient corner, too.
    """
    top = yield from plain_climb(record, climb, start, iterations, patient)
    yield from _corner_ascent(record, top.point, top.value, top.gradient)
    if ascend and top.corner is not None:
        yield from probe(record, top.corner)
    return top.value


def plain_climb(record: Record, climb: Climb, start: Vector, iterations: int, patient: bool = True) -> Method[Top]:
    """One climb and nothing else.

    patient: climb to the last iteration; otherwise take as many evaluations at most, and end when several of them
    have gained next to nothing.
    """
    steps, values = climb(record.radius, start, iterations), list[float]()
    top = Top(-math.inf, start, torch.zeros_like(start), None)
    try:
        point = next(steps)
        while patient or not (len(values) > iterations or _stalled(values, record.rise)):
            value, gradient = yield point
            if top.corner is None and math.isfinite(value):
                top = replace(top, corner=record.corner(point, gradient))
            if value > top.value:
                top = Top(value, point, gradient, top.corner)
            values.append(top.value)
            point = steps.send((-value, -gradient))
        steps.close()
        record.iterations += len(values) - 1
    except StopIteration as end:
        record.iterations += end.value
    return top


def _stalled(values: list[float], rise: float) -> bool:
    return len(values) > _STALL and not values[-1] - values[-1 - _STALL] > _WORTH * rise


def probe(record: Record, point: Vector) -> Method[float]:
    value, gradient = yield point
    record.probed = max(record.probed, value)
    yield from _corner_ascent(record, point, value, gradient)
    return value


def _corner_ascent(record: Record, z: Vector, value: float, gradient: Vector, limit: int = _ASCENT) -> Method[End]:
    """z ← radius·sign(∇f(z)) for as long as f rises; where it ended."""
    for _ in range(limit if math.isfinite(value) else 0):
        corner = record.corner(z, gradient)
        if torch.equal(corner, z):
            break
        higher, new = yield corner
        if not higher > value:
            break
        z, value, gradient = corner, higher, new
    return record.end(value, z)


def converge(record: Record, climb: Climb, iterations: int) -> None:
    """Climb on with twice as many iterations each time, until the gap is small, or nothing is gained any more."""
    while record.gap() > CONVERGED * record.rise and iterations < _LONGEST:
        before, iterations = record.value, 2 * iterations
        _refine(record, climb, iterations, patient=True)
        if not record.value - before > _WORTH**2 * record.rise:
            return


def finish(record: Record, climb: Climb, iterations: int) -> None:
    """Look at other sides of the box, climb on the best ones, refine the best point, mix and shake it."""
    _other_sides(record)
    for end in _rivals(record):
        alone(climb_from(record, climb, end.point, _LONG * iterations, patient=False), record)
    _refine(record, climb, iterations)
    before = record.value
    _mix(record)
    _shake(record, 2 * iterations)
    if record.value > before:
        _refine(record, climb, iterations)


def _other_sides(record: Record) -> None:
    """Corner ascents that start opposite the maxima found so far: from −(their mean).

    Starts near the centre and random corners see much the same gradient, and end on one side of the box. The other
    sides have maxima of their own, and on a network's loss the highest is as often there.
    """
    found = record.sides()
    total = sum((end.point for end in found), torch.zeros_like(record.radius))
    for count in range(len(found), len(found) + _SIDES):
        start = total / -max(1, count)
        value, gradient = record(start)
        total += alone(_corner_ascent(record, start, value, gradient, _SIDE_ASCENT), record).point


def _rivals(record: Record) -> list[End]:
    """The best ends on the sides that may yet prove to be the highest."""
    return [end for end in record.sides()[:_RIVALS] if end.value >= record.value - _WITHIN * record.rise]


def _mix(record: Record) -> None:
    """Ascend from halfway to the other ends on this side: a corner of what both have in common."""
    best = End(record.value, record.point, record.inner(record.point, record.point))
    others = [end for end in record.ends if not torch.equal(end.point, best.point)]
    for end in [end for end in others if record.near(end, best)][:_MIXED]:
        start = (end.point + best.point) / 2
        value, gradient = record(start)
        alone(_corner_ascent(record, start, value, gradient), record)


def _refine(record: Record, climb: Climb, iterations: int, patient: bool = False) -> None:
    """Corner ascents and climbs from the best point, until it is stationary or rises no more."""
    for _ in range(_ROUNDS):
        before = record.value
        alone(_corner_ascent(record, record.point, record.value, record.gradient, iterations), record)
        if record.gap() <= _STATIONARY * record.rise:
            return
        alone(climb_from(record, climb, record.point, iterations, patient=patient), record)
        if not record.value - before > _WORTH * record.rise:
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
