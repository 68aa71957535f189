"""What the search for a maximum in a box remembers: the best point, and where its ascents ended."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from landscape.aliases import Vector
from landscape.methods.inner import inner
from landscape.methods.lockstep import Evaluated, EvaluateSeveral, Method, alone, lockstep

Function = Callable[[Vector], Evaluated]

_KEPT = 8
"""Ends that are remembered."""

_NEAR = 0.5
"""Cosine of the angle, in units of the box, down to which two points are on one side."""


@dataclass(frozen=True)
class End:
    """Where an ascent ended, the value there, and the square of its distance from the centre in units of the box."""

    value: float
    point: Vector
    square: float


class Record:
    """Evaluates f, turns what is not finite into −∞, and remembers the best point."""

    def __init__(self, function: Function, radius: Vector, several: EvaluateSeveral | None = None):
        self._function, self.radius, self._several = function, radius, several
        self._inverse = torch.where(radius > 0, radius.reciprocal(), 0)
        self.evaluations, self.walls, self.iterations = 0, 0, 0
        self.value, self.lowest, self.probed = -math.inf, math.inf, -math.inf
        self.point, self.gradient = torch.zeros_like(radius), torch.zeros_like(radius)
        self.ends: list[End] = []

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

    def end(self, value: float, z: Vector) -> End:
        """Keep where an ascent ended, while it is among the highest."""
        end = End(value, z, self.inner(z, z))
        if math.isfinite(value):
            self.ends = sorted([*self.ends, end], key=lambda e: -e.value)[:_KEPT]
        return end

    def sides(self) -> list[End]:
        """The highest end of each side of the box, the highest first; points within 60° are on one side."""
        found: list[End] = []
        for end in self.ends:
            if not any(self.near(end, other) for other in found):
                found.append(end)
        return found

    def near(self, a: End, b: End) -> bool:
        """Whether the angle between the points, in units of the box, is at most 60°."""
        return self.inner(a.point, b.point) >= _NEAR * math.sqrt(a.square * b.square)

    def inner(self, a: Vector, b: Vector) -> float:
        """aᵀb in units of the box."""
        return inner(a * self._inverse, b * self._inverse).item()

    def run(self, methods: Sequence[Method[float]]) -> list[float]:
        """What the methods return, run side by side where several points can be evaluated at once."""
        if self._several is None:
            return [alone(method, self) for method in methods]
        return lockstep(methods, self._several, self.note)

    def corner(self, z: Vector, gradient: Vector) -> Vector:
        return torch.where(gradient != 0, torch.copysign(self.radius, gradient), z)

    @property
    def rise(self) -> float:
        return self.value - self.lowest

    def gap(self) -> float:
        return inner(self.gradient, self.corner(self.point, self.gradient) - self.point).item()
