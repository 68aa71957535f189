"""Minimise a function inside a box with limited-memory BFGS, on the device of its start vector.

The algorithm is L-BFGS-B: R. H. Byrd, P. Lu, J. Nocedal and C. Zhu, "A limited memory algorithm for bound
constrained optimization", SIAM J. Sci. Comput. 16 (1995), with the projected subspace step of J. L. Morales
and J. Nocedal, ACM TOMS 38 (2011). From one start it takes the same steps as SciPy's, up to rounding.
Vectors of length n stay where they are; only the memory's 2m×2m matrices and the line search's numbers
come to the host.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.methods import line_search
from landscape.methods.inner import inner, products
from landscape.methods.lockstep import Method

_BLOCK = 1 << 16


def minimise(radius: Vector, start: Vector, iterations: int, memory: int = 10) -> Method[int]:
    """Run L-BFGS-B from `start` inside |z_i| ≤ radius_i; returns the number of iterations taken.

    Yields points z and is sent (F, ∇F) there; who evaluates keeps what is to be kept. A value that is not finite is
    a wall: the line search turns back before it. Stops early only where no step lowers the value any more, as
    SciPy's does with `ftol = gtol = 0`.
    """
    model = Model(start, memory)
    z = start.clamp(-radius, radius)
    value, gradient = yield z
    done = 0
    while done < iterations and math.isfinite(value):
        found = yield from _step(model, z, value, gradient, radius, first=done == 0)
        if found is None and not len(model):
            break
        if found is None:
            model.forget()
            continue
        done += 1
        point, new_gradient, curvature, slope = found.kept
        if curvature > np.finfo(np.float64).eps * -slope * found.step:
            model.add(point - z, new_gradient - gradient, curvature)
        unchanged = found.value >= value
        z, value, gradient = point, found.value, new_gradient
        if unchanged:
            break
    return done


def _step(
    model: "Model", z: Vector, value: float, gradient: Vector, radius: Vector, first: bool
) -> Method[line_search.Trial | None]:
    """One step that lowers the value; its `kept` is (point, gradient, sᵀy, slope at its beginning)."""
    try:
        target = subspace_minimum(model, z, gradient, radius)
    except np.linalg.LinAlgError:
        return None
    direction = target - z
    slope = inner(direction, gradient).item()
    if not slope < 0:
        return None

    largest = 1.0 if first else max(1.0, _room(z, direction, radius))
    steps = line_search.search(value, slope, largest)
    try:
        step = next(steps)
        while True:
            point = target if step == 1 else torch.clamp(z + step * direction, -radius, radius)
            f, g = yield point
            there = inner(direction, g).item()
            step = steps.send((f, there, (point, g, step * (there - slope), slope)))
    except StopIteration as end:
        return end.value


def _room(z: Vector, direction: Vector, radius: Vector) -> float:
    """The largest t for which z + t·direction stays in the box."""
    face = torch.copysign(radius, direction)
    return torch.where(direction != 0, (face - z) / direction, torch.inf).min().item()


class Model:
    """A quadratic model with B = θI − Wᵀ M W, from the last m steps s and gradient changes y (section 3).

    The rows of W (2m, n) are y₁, θs₁, …, y_m, θs_m; they are stored in pairs without the θ.
    """

    def __init__(self, like: Vector, memory: int):
        self._memory = memory
        self._pairs = like.new_empty(memory, 2, like.numel())
        self.forget()

    def forget(self) -> None:
        self._count, self.theta = 0, 1.0
        self._sy, self._ss = np.zeros((0, 0)), np.zeros((0, 0))

    def __len__(self) -> int:
        return self._count

    def add(self, step: Vector, change: Vector, curvature: float) -> None:
        """Take in a pair with sᵀy = curvature > 0; the oldest leaves when the memory is full."""
        if self._count == self._memory:
            self._pairs[:-1] = self._pairs[1:].clone()
            self._sy, self._ss = self._sy[1:, 1:], self._ss[1:, 1:]
            self._count -= 1
        self._pairs[self._count, 0], self._pairs[self._count, 1] = change, step
        self._count += 1
        self._sy, self._ss = (np.pad(matrix, (0, 1)) for matrix in (self._sy, self._ss))
        with_step, with_change = products(self.rows, step).cpu(), products(self.rows, change).cpu()
        self._sy[-1], self._sy[:, -1] = with_step[::2], with_change[1::2]
        self._ss[-1] = self._ss[:, -1] = with_step[1::2]
        self.theta = with_change[-2].item() / curvature

    @property
    def rows(self) -> Float[Tensor, "rows n"]:
        return self._pairs[: self._count].flatten(0, 1)

    @property
    def scales(self) -> Float[np.ndarray, " rows"]:
        return np.tile([1.0, self.theta], self._count)

    def middle(self) -> Float[np.ndarray, "rows rows"]:
        """M = [[−D, Lᵀ], [L, θSᵀS]]⁻¹, D and L the diagonal and the strictly lower part of SᵀY (equation 3.4)."""
        lower = np.tril(self._sy, -1)
        in_halves = np.block([[-np.diag(np.diag(self._sy)), lower.T], [lower, self.theta * self._ss]])
        paired = np.arange(2 * self._count).reshape(2, -1).T.ravel()
        return np.linalg.inv(in_halves[np.ix_(paired, paired)])

    def times(self, vector: Vector) -> Float[np.ndarray, " rows"]:
        """W v."""
        return products(self.rows, vector).cpu().numpy() * self.scales

    def transposed(self, coefficients: np.ndarray) -> Vector:
        """Wᵀ c."""
        rows = self.rows
        return rows.new_tensor(coefficients * self.scales) @ rows

    def gram(self, free: Bool[Tensor, " n"]) -> Float[np.ndarray, "rows rows"]:
        """W Wᵀ over the free variables."""
        rows = self.rows
        half = np.zeros((len(rows), len(rows)))
        for k, row in enumerate(rows):
            half[k, : k + 1] = products(rows[: k + 1], row * free).cpu()
        return (np.tril(half) + np.tril(half, -1).T) * np.outer(self.scales, self.scales)


def subspace_minimum(model: Model, z: Vector, gradient: Vector, radius: Vector) -> Vector:
    """The Cauchy point, then the model's minimum over the variables that are free there (section 5.1)."""
    point = cauchy_point(model, z, gradient, radius)
    if not len(model):
        return point
    M, theta, step = model.middle(), model.theta, point - z
    free = point.abs() < radius
    residual = (model.transposed(M @ model.times(step)) - gradient - theta * step) * free
    weights = np.linalg.solve(np.eye(len(M)) - M @ model.gram(free) / theta, M @ model.times(residual))
    shift = residual / theta + model.transposed(weights / theta**2) * free
    target = torch.clamp(point + shift, -radius, radius)
    if inner(target - z, gradient).item() > 0:  # projection spoilt the descent: cut the step instead
        target = torch.clamp(point + min(1.0, _room(point, shift, radius)) * shift, -radius, radius)
    return target


def cauchy_point(model: Model, z: Vector, gradient: Vector, radius: Vector) -> Vector:
    """The first local minimiser of the quadratic model along the projected path P(z − t·gradient) (section 4)."""
    time = _first_minimum(model, z, gradient, radius) if len(model) else 1.0
    return torch.clamp(z - time * gradient, -radius, radius)


def _first_minimum(model: Model, z: Vector, gradient: Vector, radius: Vector) -> float:
    """The t of the Cauchy point.

    The path bends at the breakpoints t_i where a coordinate meets its bound. On each piece the model is a
    parabola, whose slope and curvature are running sums over the sorted breakpoints, taken block by block.
    """
    times = torch.where(gradient != 0, (z + torch.copysign(radius, gradient)) / gradient, torch.inf)
    descent = torch.where(times > 0, -gradient, 0)
    times, order = times.sort()
    order = order[: int(times.isfinite().sum())]
    by_coordinate, theta = model.rows.T.contiguous(), model.theta  # gathers one cache line, not 2m
    M, scales, p = (torch.as_tensor(x).to(z.device) for x in (model.middle(), model.scales, model.times(descent)))
    moved, left = torch.zeros_like(p), inner(descent, descent)
    before = torch.zeros_like(left)
    for block, ends in zip(order.split(_BLOCK), times[: len(order)].split(_BLOCK), strict=True):
        if not len(block):
            break
        d, ends = descent[block].double(), ends.double()
        starts = torch.cat([before[None], ends[:-1]])
        lengths = ends - starts
        drops = by_coordinate.index_select(0, block).T.contiguous() * (d * scales[:, None])
        P = p[:, None] - (drops.cumsum(1) - drops)  # W times the path's direction, piece by piece
        ways = lengths * P
        C = moved[:, None] + ways.cumsum(1) - ways  # W times the way so far
        rest = left - ((d * d).cumsum(0) - d * d)
        MP = M @ P
        slope = rest * (theta * starts - 1) - (C * MP).sum(0)
        curvature = theta * rest - (P * MP).sum(0)
        reach = torch.where(slope >= 0, 0, -slope / curvature.clamp(min=torch.finfo(torch.float64).tiny))
        hits = (reach < lengths).double()
        first = hits.argmax()
        hit, time = torch.stack([hits[first], starts[first] + reach[first]]).tolist()
        if hit:
            return time
        p, moved, left, before = p - drops.sum(1), moved + ways.sum(1), left - d @ d, ends[-1]
    return before.item()
