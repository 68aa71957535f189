"""The maximum of a function in a ball ‖δ/c‖_p ≤ ρ around 0, p = 2 or ∞, with a certificate.

Everything is done in u = δ/c, where the ball is ‖u‖_p ≤ ρ and the gradient is c⊙g. So the steepest ascent of
the norm in use is δ = ρ·c²⊙g/‖c⊙g‖₂ for p = 2 and ρ·c⊙sign(g) for p = ∞, the path is covariant under rescalings
of δ and c together, and coordinates with c_i = 0 do not move.

Four kinds of work follow one another, all for the best point that was ever evaluated:

- projected ascents with momentum and with steps halved when progress stalls, from the gradient's direction and
  from every start: Croce and Hein 2020 (arXiv 2003.01690), algorithm 1;
- fixed-point steps u ← argmax gᵀu over the ball, which never fall where f is convex;
- for p = ∞ flips of some of the best point's coordinates to opposite bounds, with a short climb each;
- a polish of the best point, its opposite and the best rows: projected gradient steps of the length of Barzilai and
  Borwein 1988, along the boundary for p = 2, and fixed-point steps again.

Several independent functions (groups: the shards of m-sharpness) are maximised at once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods.norm_balls import Ball, MaximumBall, ball, inner_products

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
"""δ (rows, groups, n) ↦ f_group(δ) (rows, groups) and its gradients (rows, groups, n)."""

_MOMENTUM = 0.75
_PROGRESS = 0.75
_FIXED_POINTS = 4
_FLIPPED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35)
ROWS = 6
"""Points that are evaluated at once, or starts + 1 if that is more."""

_WINDOWS = 30
_GOLDEN = 0.6180339887498949
_MEMORY = 5
_RIVALS = 2
_SHORT = 3
CONVERGED = 1e-3


@dataclass(frozen=True)
class BallMaximum:
    """The best point of the ball that was evaluated for each group, and how good it is.

    value: f(δ) − f(0) ≥ 0. point: δ. gap: max_{s in the ball} ∇fᵀ(s − δ) ≥ 0, how much a first-order step still
    promises. converged: gap ≤ 1e-3·value. evaluations: of f and its gradient. walls: how many of them were not
    finite and counted as −∞.
    """

    value: Float[Tensor, " groups"]
    point: Float[Tensor, "groups n"]
    gap: Float[Tensor, " groups"]
    converged: Bool[Tensor, " groups"]
    evaluations: int
    walls: int


@dataclass
class _Rows:
    """A point of each row, the value and the gradient there."""

    point: Float[Tensor, "rows groups n"]
    value: Float[Tensor, "rows groups"]
    gradient: Float[Tensor, "rows groups n"]

    def where(self, condition: Bool[Tensor, "rows groups"], other: "_Rows") -> "_Rows":
        """These rows where the condition holds, the other ones elsewhere."""
        chosen = condition[..., None]
        return _Rows(
            torch.where(chosen, self.point, other.point), torch.where(condition, self.value, other.value),
            torch.where(chosen, self.gradient, other.gradient),
        )  # fmt: skip

    def higher(self, other: "_Rows") -> "_Rows":
        """Row by row the higher of the two."""
        return other.where(other.value > self.value, self)

    def highest(self, count: int) -> Float[Tensor, "some groups n"]:
        """The points of the `count` highest rows of each group, fewer where there are fewer."""
        row = self.value.sort(dim=0, descending=True, stable=True).indices[:count]
        return self.point.gather(0, row[..., None].expand(-1, -1, self.point.shape[-1]))

    def best(self) -> "_Rows":
        """The highest row of each group, as one row."""
        row = self.value.argmax(0, keepdim=True)
        index = row[..., None].expand(-1, -1, self.point.shape[-1])
        return _Rows(self.point.gather(0, index), self.value.gather(0, row), self.gradient.gather(0, index))


class _Scaled:
    """f of u = δ/c with the gradient c⊙g; what is not finite is −∞ with gradient 0. Counts."""

    def __init__(self, function: Function, scale: Vector):
        self.function, self.scale = function, scale
        self.evaluations = 0
        self.walls = torch.zeros((), dtype=torch.int64, device=scale.device)

    def __call__(self, u: Float[Tensor, "rows groups n"]) -> _Rows:
        return self.counted(u, *self.function(u * self.scale))

    def counted(self, u: Tensor, value: Tensor, gradient: Tensor) -> _Rows:
        finite = value.isfinite() & gradient.isfinite().all(-1)
        self.evaluations += value.numel()
        self.walls += (~finite).sum()
        gradient = torch.where(finite[..., None], gradient * self.scale, 0)
        return _Rows(u, torch.where(finite, value.double(), -math.inf), gradient)

    def centre(self, groups: int) -> _Rows:
        """At δ = 0, where the value counts though the gradient may not be finite."""
        zero = self.scale.new_zeros(1, groups, len(self.scale))
        value, gradient = self.function(zero)
        return replace(self.counted(zero, value, gradient), value=value.double())


def maximise_in_ball(
    function: Function,
    norm: str,
    radius: float,
    scale: Vector,
    groups: int,
    starts: Float[Tensor, "starts #groups n"],
    steps: int,
) -> BallMaximum:
    """max f_group(δ) − f_group(0) over ‖δ/c‖_p ≤ ρ for each group; norm: "l2" or "linf"; scale: c (n,) ≥ 0.

    starts: points u = δ/c, those outside the ball are moved to it; the direction of the gradient at 0 is always
    one. steps: of each projected ascent and of each polish. The value is never below 0, nor that of a start or of
    the steepest-ascent corner of the gradient at 0. Costs at most (starts + 5)·(steps + 5) evaluations for each
    group, and for p = ∞ at most 24·steps more. Raises `InputError` when f(0) is not finite.
    """
    if not bool((scale >= 0).all() & scale.isfinite().all()):
        raise illegal("scale", "a vector", "finite and at least 0 everywhere", "Check the weights for NaN and Inf.")
    inside, evaluate = ball(norm, radius), _Scaled(function, scale)
    centre = evaluate.centre(groups)
    if not bool(centre.value.isfinite().all()):
        raise illegal("the function", "NaN or Inf at the centre", "finite there", "Check the weights and the data.")
    moving = (scale > 0).to(scale.dtype)
    corner = inside.corner(centre.gradient, inside.to_boundary(_pattern(scale) * moving).expand_as(centre.point))
    given = inside.project(starts * moving).expand(-1, groups, -1)
    rows = _ascended(evaluate, inside, evaluate(torch.cat([corner, given])), steps)
    rows = _fixed(evaluate, inside, rows)
    best = centre.higher(rows.best())
    if isinstance(inside, MaximumBall):
        best = _shaken(evaluate, inside, best, steps)
    rivals = evaluate(torch.cat([best.point, -best.point, rows.highest(_RIVALS)]))
    best = best.higher(_fixed(evaluate, inside, _polished(evaluate, inside, rivals, steps)).best())
    gap = (inside.gain(best.gradient) - inner_products(best.gradient, best.point))[0].clamp(min=0)
    value = (best.value - centre.value)[0]
    return BallMaximum(
        value=value, point=best.point[0] * scale, gap=gap, converged=gap <= CONVERGED * value,
        evaluations=evaluate.evaluations, walls=int(evaluate.walls),
    )  # fmt: skip


def _ascended(evaluate: _Scaled, ball: Ball, rows: _Rows, steps: int) -> _Rows:
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


def _fixed(evaluate: _Scaled, ball: Ball, rows: _Rows) -> _Rows:
    """u ← argmax gᵀu over the ball, for as long as a row rises and at most `_FIXED_POINTS` times."""
    for _ in range(_FIXED_POINTS):
        new = evaluate(ball.corner(rows.gradient, rows.point))
        risen = new.value > rows.value
        rows = new.where(risen, rows)
        if not bool(risen.any()):
            break
    return rows


def _polished(evaluate: _Scaled, ball: Ball, rows: _Rows, steps: int) -> _Rows:
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


def _shaken(evaluate: _Scaled, ball: MaximumBall, best: _Rows, steps: int) -> _Rows:
    """Flip some of the best point's coordinates to opposite bounds, climb shortly, and begin again where that rose.

    For p = ∞, each group on its own: steps/2 rounds of `ROWS` flips each. First those coordinates are flipped
    that the gradient holds most weakly, window after window; then, where no window is left, scattered ones.
    """
    n = best.point.shape[-1]
    windows = torch.tensor(_windows(n), device=best.point.device)
    tried = torch.arange(ROWS, device=best.point.device)[:, None]
    reached = torch.zeros_like(best.value[0], dtype=torch.int64)
    for _ in range(-(-steps // 2)):
        corner, number = ball.corner(best.gradient, best.point), reached + tried
        held = (best.gradient * corner).argsort(-1).argsort(-1)
        first, last = windows[number.clamp(max=len(windows) - 1)].unbind(-1)
        window = (held >= first[..., None]) & (held < last[..., None])
        scattered = _scattered(best.point[0, 0], (number - len(windows)).clamp(min=0))
        flipped = torch.where((number < len(windows))[..., None], window, scattered)
        flips = torch.where(flipped, -corner, best.point)
        risen = _fixed(evaluate, ball, evaluate(flips))
        new = best.higher(_polished(evaluate, ball, risen, _SHORT).best())
        reached = torch.where((new.value > best.value)[0], 0, reached + ROWS)
        best = new
    return best


def _windows(n: int) -> list[tuple[int, int]]:
    """First and last place in the order of holding: the weakest 1 %, 2 %, … 35 %, then the next 1 %, and so on."""
    sizes = dict.fromkeys(max(1, int(share * n)) for share in _FLIPPED)
    return [(turn * size, (turn + 1) * size) for turn in range(n) for size in sizes if (turn + 1) * size <= n][
        :_WINDOWS
    ]


def _scattered(like: Vector, number: Int[Tensor, "*rows"]) -> Bool[Tensor, "*rows n"]:
    """A half, a sixth or a third of the coordinates, others for each number, without a draw: i·number·φ modulo 1."""
    place = torch.arange(1, len(like) + 1, device=like.device, dtype=torch.float64)
    share = torch.where(number % 3 == 0, 1 / 2, torch.where(number % 3 == 1, 1 / 6, 1 / 3))
    return (place * ((number[..., None] + 1) * _GOLDEN % 1)) % 1 < share[..., None]


def _pattern(like: Vector) -> Vector:
    """Signs to begin with where there is no gradient."""
    return torch.where(_scattered(like, like.new_zeros((), dtype=torch.int64)), -1, 1).to(like.dtype)
