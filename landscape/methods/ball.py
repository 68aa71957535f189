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

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods.ascent import Function, Rows, Scaled, ascended, fixed, polished
from landscape.methods.norm_balls import MaximumBall, ball, inner_products

_FLIPPED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35)
ROWS = 6
"""Points that are evaluated at once, or starts + 1 if that is more."""

_WINDOWS = 30
_GOLDEN = 0.6180339887498949
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
    inside, evaluate = ball(norm, radius), Scaled(function, scale)
    centre = evaluate.centre(groups)
    if not bool(centre.value.isfinite().all()):
        raise illegal("the function", "NaN or Inf at the centre", "finite there", "Check the weights and the data.")
    moving = (scale > 0).to(scale.dtype)
    corner = inside.corner(centre.gradient, inside.to_boundary(_pattern(scale) * moving).expand_as(centre.point))
    given = inside.project(starts * moving).expand(-1, groups, -1)
    rows = ascended(evaluate, inside, evaluate(torch.cat([corner, given])), steps)
    rows = fixed(evaluate, inside, rows)
    best = centre.higher(rows.best())
    if isinstance(inside, MaximumBall):
        best = _shaken(evaluate, inside, best, steps)
    rivals = evaluate(torch.cat([best.point, -best.point, rows.highest(_RIVALS)]))
    best = best.higher(fixed(evaluate, inside, polished(evaluate, inside, rivals, steps)).best())
    gap = (inside.gain(best.gradient) - inner_products(best.gradient, best.point))[0].clamp(min=0)
    value = (best.value - centre.value)[0]
    return BallMaximum(
        value=value, point=best.point[0] * scale, gap=gap, converged=gap <= CONVERGED * value,
        evaluations=evaluate.evaluations, walls=int(evaluate.walls),
    )  # fmt: skip


def _shaken(evaluate: Scaled, ball: MaximumBall, best: Rows, steps: int) -> Rows:
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
        risen = fixed(evaluate, ball, evaluate(flips))
        new = best.higher(polished(evaluate, ball, risen, _SHORT).best())
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
