"""The maximum of a function inside a box |z_i| ≤ radius_i, with a certificate.

Many starts, because a minimum's surroundings are nearly convex and a convex function on a box has a local
maximum at many corners. Three kinds of work share one record of the best point ever evaluated:

- climbs: L-BFGS-B from the centre and from every start (on the device, or SciPy's);
- corner ascents: z ← radius·sign(∇f(z)), which never falls where f is convex (Frank and Wolfe 1956 with
  full steps), from the corner of the gradient's sign and from every probe;
- a finish at the best point: more of both, then flips of the coordinates that the gradient holds most
  weakly to their bounds, each followed by a corner ascent.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods import quasi_newton, scipy_box
from landscape.methods.inner import inner

Function = Callable[[Tensor], tuple[float, Tensor]]
CLIMBS: dict[str, Callable[..., int]] = {"projected": quasi_newton.minimise, "scipy": scipy_box.minimise}
_FLIPPED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35)
_PATTERNS = 4
_ROUNDS = 2
_STATIONARY = 1e-5
_ASCENT = 4
_WORTH = 1e-4


@dataclass(frozen=True)
class BoxMaximum:
    """The best point of a box that was evaluated, and how good it is.

    point: (n,). value: f there. values: (starts,) best value of the climb from each start, the centre last.
    probe: best of the probes and of the sign-gradient corners of the starts. iterations: of all climbs
    together. evaluations: of f and its gradient. walls: how many of them were not finite.
    active: share of coordinates at a bound. projected_gradient: max_i |P(z + ∇f)_i − z_i| / radius_i, 0 at
    a stationary point of the box. gap: max_{s in the box} ∇fᵀ(s − z) = Σ radius_i|g_i| − g_i z_i ≥ 0, how
    much a first-order step still promises. converged: gap ≤ 1e-3 of the rise above the worst start.
    """

    point: Vector
    value: float
    values: Float[np.ndarray, " starts"]
    probe: float
    iterations: int
    evaluations: int
    walls: int
    active: float
    projected_gradient: float
    gap: float
    converged: bool


class _Record:
    """Evaluates f, turns what is not finite into −∞, and remembers the best point."""

    def __init__(self, function: Function, radius: Vector):
        self._function, self.radius = function, radius
        self.evaluations, self.walls, self.iterations = 0, 0, 0
        self.value, self.lowest, self.probe = -math.inf, math.inf, -math.inf
        self.point, self.gradient = torch.zeros_like(radius), torch.zeros_like(radius)

    def __call__(self, z: Vector) -> tuple[float, Vector]:
        value, gradient = self._function(z)
        self.evaluations += 1
        if not (math.isfinite(value) and bool(gradient.isfinite().all())):
            self.walls += 1
            return -math.inf, gradient
        self.lowest = min(self.lowest, value)
        if value > self.value:
            self.value, self.point, self.gradient = value, z.clone(), gradient.clone()
        return value, gradient

    def corner(self, z: Vector, gradient: Vector) -> Vector:
        return torch.where(gradient != 0, torch.copysign(self.radius, gradient), z)

    def gap(self) -> float:
        return inner(self.gradient, self.corner(self.point, self.gradient) - self.point).item()


def maximise_in_box(
    value_and_gradient: Function,
    radius: Vector,
    start: Float[Tensor, "*starts n"],
    iterations: int,
    probes: Float[Tensor, "probes n"] | None = None,
    solver: str = "projected",
) -> BoxMaximum:
    """max f(z) over |z_i| ≤ radius_i, from one start (n,) or several (starts, n), and from the centre.

    iterations: quasi-Newton iterations of each climb. probes: points (random corners, say) that are
    evaluated and that corner ascents leave from; starts and probes outside the box are moved to its faces.
    solver: "projected" stays on the device, "scipy" is SciPy's L-BFGS-B in float64 on the host.
    The value is never below that of the centre, a start, a start's sign-gradient corner or a probe.
    Costs about (starts + 1)·(iterations + 1) + 4·(starts + probes) evaluations, and up to 6·iterations for
    the finish. Raises `InputError` when no evaluation is finite.
    """
    if solver not in CLIMBS:
        raise illegal("solver", solver, "one of " + ", ".join(CLIMBS), "projected stays on the device.")
    if not bool((radius >= 0).all() & radius.isfinite().all()):
        raise illegal("radius", "a vector", "finite and at least 0 everywhere", "Check the weights for NaN and Inf.")
    record, climb = _Record(value_and_gradient, radius), CLIMBS[solver]
    starts = start.reshape(-1, radius.numel())
    values = [_climb(record, climb, row, iterations, ascend=True) for row in starts]
    values.append(_climb(record, climb, torch.zeros_like(radius), iterations, ascend=False))
    for row in _patterns(radius) if probes is None else probes:
        _probe(record, row.clamp(-radius, radius))
    if not math.isfinite(record.value):
        raise illegal("the function", "NaN or Inf at every point tried", "finite somewhere in the box", "Shrink it.")
    _finish(record, climb, iterations)
    return _certified(record, np.array(values))


def _climb(record: _Record, climb: Callable[..., int], start: Vector, iterations: int, ascend: bool) -> float:
    """One climb; its best value. With `ascend`, a corner ascent from the start's sign-gradient corner too."""
    best, corner = -math.inf, None

    def descent(z: Tensor) -> tuple[float, Tensor]:
        nonlocal best, corner
        value, gradient = record(z)
        best = max(best, value)
        if corner is None and math.isfinite(value):
            corner = record.corner(z, gradient)
        return -value, -gradient

    record.iterations += climb(descent, record.radius, start, iterations)
    if ascend and corner is not None:
        _probe(record, corner)
    return best


def _probe(record: _Record, point: Vector) -> None:
    value, gradient = record(point)
    record.probe = max(record.probe, value)
    _corner_ascent(record, point, value, gradient)


def _corner_ascent(record: _Record, z: Vector, value: float, gradient: Vector, limit: int = _ASCENT) -> None:
    """z ← radius·sign(∇f(z)) for as long as f rises."""
    for _ in range(limit if math.isfinite(value) else 0):
        corner = record.corner(z, gradient)
        if torch.equal(corner, z):
            return
        higher, new = record(corner)
        if not higher > value:
            return
        z, value, gradient = corner, higher, new


def _finish(record: _Record, climb: Callable[..., int], iterations: int) -> None:
    """Refine the best point, shake it, refine again what the shaking found."""
    _refine(record, climb, iterations)
    before = record.value
    _shake(record, 2 * iterations)
    if record.value > before:
        _refine(record, climb, iterations)


def _refine(record: _Record, climb: Callable[..., int], iterations: int) -> None:
    """Corner ascents and climbs from the best point, until it is stationary or rises no more."""
    for _ in range(_ROUNDS):
        before = record.value
        _corner_ascent(record, record.point, record.value, record.gradient, iterations)
        if record.gap() <= _STATIONARY * (record.value - record.lowest):
            return
        _climb(record, climb, record.point, iterations, ascend=False)
        if not record.value - before > _WORTH * (record.value - record.lowest):
            return


def _shake(record: _Record, evaluations: int) -> None:
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
            _corner_ascent(record, point, value, gradient)
        if record.value > before:
            windows = _windows(z.numel())


def _windows(n: int) -> Iterator[slice]:
    """Places in the order of holding: the weakest 1 %, 2 %, … 35 %, then the next weakest 1 %, and so on."""
    sizes = dict.fromkeys(max(1, int(share * n)) for share in _FLIPPED)
    for turn in range(n):
        yield from (slice(turn * size, (turn + 1) * size) for size in sizes if turn * size < n)


def _patterns(radius: Vector) -> Tensor:
    """Corners for those who draw none: signs from the bits of the coordinate's number, alternating first."""
    number = torch.arange(radius.numel(), device=radius.device)
    return torch.stack([torch.where((number // 2**k) % 2 == 1, -radius, radius) for k in range(_PATTERNS)])


def _certified(record: _Record, values: np.ndarray) -> BoxMaximum:
    z, radius, gap = record.point, record.radius, record.gap()
    moves = torch.clamp(z + record.gradient, -radius, radius) - z
    return BoxMaximum(
        point=z, value=record.value, values=values, probe=record.probe, iterations=record.iterations,
        evaluations=record.evaluations, walls=record.walls, active=(z.abs() >= radius).double().mean().item(),
        projected_gradient=torch.where(radius > 0, moves / radius, 0).abs().max().item(),
        gap=gap, converged=gap <= 1e-3 * (record.value - record.lowest),
    )  # fmt: skip
