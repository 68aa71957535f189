"""The maximum of a function inside a box |z_i| ≤ radius_i, with a certificate.

Many starts, because a minimum's surroundings are nearly convex and a convex function on a box has a local
maximum at many corners. Four kinds of work share one record of the best point ever evaluated:

- climbs: L-BFGS-B from the centre and from every start (on the device, or SciPy's);
- corner ascents: z ← radius·sign(∇f(z)), which never falls where f is convex (Frank and Wolfe 1956 with
  full steps), from the corner of the gradient's sign, from every probe, and from where a climb ended;
- other sides: starts near the centre and random corners see much the same gradient and end on one side of the
  box, so corner ascents set out opposite the maxima found so far, and longer climbs from the best of each side;
- a finish at the best point: more of these, then flips of the coordinates that the gradient holds most
  weakly to their bounds, each followed by a corner ascent.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods import quasi_newton, scipy_box
from landscape.methods.box_record import Function, Record
from landscape.methods.box_search import CONVERGED, Climb, climb_from, converge, finish, probe
from landscape.methods.lockstep import EvaluateSeveral

CLIMBS: dict[str, Climb] = {"projected": quasi_newton.minimise, "scipy": scipy_box.minimise}
_PATTERNS = 4


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


def maximise_in_box(
    value_and_gradient: Function,
    radius: Vector,
    start: Float[Tensor, "*starts n"],
    iterations: int,
    probes: Float[Tensor, "probes n"] | None = None,
    solver: str = "projected",
    several: EvaluateSeveral | None = None,
    until_converged: bool = False,
) -> BoxMaximum:
    """max f(z) over |z_i| ≤ radius_i, from one start (n,) or several (starts, n), and from the centre.

    iterations: quasi-Newton iterations of each climb. probes: points (random corners, say) that are
    evaluated and that corner ascents leave from; starts and probes outside the box are moved to its faces.
    solver: "projected" stays on the device, "scipy" is SciPy's L-BFGS-B in float64 on the host.
    several: the function at several points at once; climbs and probes then go side by side, to the same points up
    to rounding. until_converged: climb on from the best point until the outcome has `converged`, or until longer
    climbs gain nothing any more, as at a kink.
    The value is never below that of the centre, a start, a start's sign-gradient corner or a probe.
    Costs about (starts + 1)·(iterations + 5) + 4·(starts + probes) evaluations; 21 for the other sides, up to
    3·(4·iterations + 5) for climbs from them, and up to 6·iterations for the finish. Raises `InputError` when no
    evaluation is finite.
    """
    if solver not in CLIMBS:
        raise illegal("solver", solver, "one of " + ", ".join(CLIMBS), "projected stays on the device.")
    if not bool((radius >= 0).all() & radius.isfinite().all()):
        raise illegal("radius", "a vector", "finite and at least 0 everywhere", "Check the weights for NaN and Inf.")
    record, climb = Record(value_and_gradient, radius, several), CLIMBS[solver]
    starts = start.reshape(-1, radius.numel())
    climbs = [climb_from(record, climb, row, iterations, ascend=True) for row in starts]
    climbs.append(climb_from(record, climb, torch.zeros_like(radius), iterations))
    corners = [row.clamp(-radius, radius) for row in (_patterns(radius) if probes is None else probes)]
    values = record.run([*climbs, *(probe(record, row) for row in corners)])[: len(climbs)]
    if not math.isfinite(record.value):
        raise illegal("the function", "NaN or Inf at every point tried", "finite somewhere in the box", "Shrink it.")
    finish(record, climb, iterations)
    if until_converged:
        converge(record, climb, iterations)
    return _certified(record, np.array(values))


def _patterns(radius: Vector) -> Tensor:
    """Corners for those who draw none: signs from the bits of the coordinate's number, alternating first."""
    number = torch.arange(radius.numel(), device=radius.device)
    return torch.stack([torch.where((number // 2**k) % 2 == 1, -radius, radius) for k in range(_PATTERNS)])


def _certified(record: Record, values: np.ndarray) -> BoxMaximum:
    z, radius, gap = record.point, record.radius, record.gap()
    moves = torch.clamp(z + record.gradient, -radius, radius) - z
    return BoxMaximum(
        point=z, value=record.value, values=values, probe=record.probed, iterations=record.iterations,
        evaluations=record.evaluations, walls=record.walls, active=(z.abs() >= radius).double().mean().item(),
        projected_gradient=torch.where(radius > 0, moves / radius, 0).abs().max().item(),
        gap=gap, converged=gap <= CONVERGED * record.rise,
    )  # fmt: skip
