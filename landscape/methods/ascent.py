"""Steps uphill in a ball, for many rows at once: momentum, fixed points, and lengths of Barzilai and Borwein.

Rows are tensors (rows, groups, n); each goes its own way, by `torch.where`. See `landscape.methods.ball`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.methods.norm_balls import Ball, inner_products

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""δ (rows, groups, n) ↦ f_group(δ) (rows, groups) and its gradients (rows, groups, n)."""

_MOMENTUM = 0.75
_PROGRESS = 0.75
_FIXED_POINTS = 4
_MEMORY = 5


@dataclass
class Rows:
    """A point of each row, the value and the gradient there."""

    point: Float[Tensor, "rows groups n"]
    value: Float[Tensor, "rows groups"]
    gradient: Float[Tensor, "rows groups n"]

    def where(self, condition: Bool[Tensor, "rows groups"], other: "Rows") -> "Rows":
        """These rows where the condition holds, the other ones elsewhere."""
        chosen = condition[..., None]
        return Rows(
            torch.where(chosen, self.point, other.point), torch.where(condition, self.value, other.value),
            torch.where(chosen, self.gradient, other.gradient),
        )  # fmt: skip

    def higher(self, other: "Rows") -> "Rows":
        """Row by row the higher of the two."""
        return other.where(other.value > self.value, self)

    def highest(self, count: int) -> Float[Tensor, "some groups n"]:
        """The points of the `count` highest rows of each group, fewer where there are fewer."""
        row = self.value.sort(dim=0, descending=True, stable=True).indices[:count]
        return self.point.gather(0, row[..., None].expand(-1, -1, self.point.shape[-1]))

    def best(self) -> "Rows":
        """The highest row of each group, as one row."""
        row = self.value.argmax(0, keepdim=True)
        index = row[..., None].expand(-1, -1, self.point.shape[-1])
        return Rows(self.point.gather(0, index), self.value.gather(0, row), self.gradient.gather(0, index))


class Scaled:
    """f of u = δ/c with the gradient c⊙g; what is not finite is −∞ with gradient 0. Counts."""

    def __init__(self, function: Function, scale: Vector):
        self.function, self.scale = function, scale
        self.evaluations = 0
        self.walls = torch.zeros((), dtype=torch.int64, device=scale.device)

    def __call__(self, u: Float[Tensor, "rows groups n"]) -> Rows:
        return self.counted(u, *self.function(u * self.scale))

    def counted(self, u: Tensor, value: Tensor, gradient: Tensor) -> Rows:
        finite = value.isfinite() & gradient.isfinite().all(-1)
        self.evaluations += value.numel()
        self.walls += (~finite).sum()
        gradient = torch.where(finite[..., None], gradient * self.scale, 0)
        return Rows(u, torch.where(finite, value.double(), -math.inf), gradient)

    def centre(self, groups: int) -> Rows:
        """At δ = 0, where the value counts though the gradient may not be finite."""
        zero = self.scale.new_zeros(1, groups, len(self.scale))
        value, gradient = self.function(zero)
        return replace(self.counted(zero, value, gradient), value=value.double())


def ascended(evaluate: Scaled, ball: Ball, rows: Rows, steps: int) -> Rows:
    """The best point of each row's projected ascent with momentum; a step that meets a wall goes back and is halved."""
    at, best, previous, value = rows, rows, rows.point, rows.value
    step = torch.full_like(value, 2 * ball.radius)
    marks = _checkpoints(steps)
    rises, known, mark, changed = torch.zeros_like(value), best.value, 0, torch.zeros_like(value, dtype=torch.bool)
    for number in range(1, steps + 1):
        ahead = ball.project(at.point + step.to(at.point.dtype)[..., None] * ball.direction(at.gradient))
        if number > 1:
            ahead = _MOMENTUM * ahead + (1 - _MOMENTUM) * (2 * at.point - previous)
            ahead = ball.project(ahead)
        previous, at = at.point, evaluate(ahead)
        rises, value = rises + (at.value > value), at.value
        best = best.higher(at)
        back = ~at.value.isfinite()
        if number in marks:
            stuck = (best.value <= known) & ~changed
            changed = (rises < _PROGRESS * (number - mark)) | stuck
            back |= changed
            rises, known, mark = torch.zeros_like(rises), best.value, number
        step = torch.where(back, step / 2, step)
        at, value = best.where(back, at), torch.where(back, best.value, value)
        previous = torch.where(back[..., None], at.point, previous)
    return best


def _checkpoints(steps: int) -> set[int]:
    """⌈p_j·steps⌉ with p_1 = 0.22 and p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)."""
    marks, before, now = set(), 0.0, 0.22
    while now <= 1:
        marks.add(math.ceil(now * steps))
        before, now = now, now + max(now - before - 0.03, 0.06)
    return marks


def fixed(evaluate: Scaled, ball: Ball, rows: Rows) -> Rows:
    """u ← argmax gᵀu over the ball, for as long as a row rises and at most `_FIXED_POINTS` times."""
    for _ in range(_FIXED_POINTS):
        new = evaluate(ball.corner(rows.gradient, rows.point))
        risen = new.value > rows.value
        rows = new.where(risen, rows)
        if not bool(risen.any()):
            break
    return rows


def polished(evaluate: Scaled, ball: Ball, rows: Rows, steps: int) -> Rows:
    """The best point of projected gradient steps from each row, of the length ‖s‖²/|sᵀy| of Barzilai and Borwein.

    s and y are the last changes of the point and of the reduced gradient. A step below the lowest of the last
    `_MEMORY` values goes back to the best point and is quartered.
    """
    at, best = rows, rows
    gradient = ball.reduced(at.point, at.gradient)
    step = 0.1 * _longest(ball, gradient)
    recent = rows.value.expand(_MEMORY, *rows.value.shape)
    for _ in range(steps):
        new = evaluate(ball.project(at.point + step.to(at.point.dtype)[..., None] * gradient))
        s, changed = new.point - at.point, ball.reduced(new.point, new.gradient)
        curvature = inner_products(s, changed - gradient).abs()
        length = torch.where(curvature > 0, inner_products(s, s) / curvature, math.inf)
        fallen = ~(new.value >= recent.amin(0)) | ~new.value.isfinite()
        best = best.higher(new)
        at = best.where(fallen, new)
        gradient = torch.where(fallen[..., None], ball.reduced(at.point, at.gradient), changed)
        step = torch.where(fallen, step / 4, torch.minimum(length, _longest(ball, gradient)))
        recent = torch.cat([recent[1:], torch.where(fallen, recent[-1], new.value)[None]])
    return best


def _longest(ball: Ball, gradient: Float[Tensor, "rows groups n"]) -> Float[Tensor, "rows groups"]:
    """The step along the gradient that is ten times as long as the ball's radius in its own norm; 0 for none."""
    size = ball.length(gradient)
    return torch.where(size > 0, 10 * ball.radius / size, 0.0)
