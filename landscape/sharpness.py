"""Keskar's ε-sharpness: how far the loss can rise in a small box around the weights, in percent.

φ = 100 · (max_{z ∈ C_ε} f(x + Az) − f(x)) / (1 + f(x)),   C_ε = {z : |z_i| ≤ ε(|(A⁺x)_i| + 1)}

N. S. Keskar et al., "On Large-Batch Training for Deep Learning", ICLR 2017, section 2.2.1. The full space
has A = I; the random subspace has p = 100 columns, whose law the paper leaves open. It matters: unit or
orthonormal columns keep ‖Az‖₂ below about ε√p = 0.01 for ε = 1e-3, N(0,1) entries reach about ε√(pn), as far
as the corners of the full box. Only sharpnesses under the same law can be compared.

How much each setting matters (`python -m landscape.study_keskar`, figures/gallery/keskar_dependence.png: a small- and
a large-batch minimum of a digits perceptron, n = 8,970, ε = 1e-3, defaults otherwise):
- Iterations: against 100, the default 10 miss 0.2 % of φ or less in the full space, nothing in the subspace;
  `until_converged` adds nothing. One L-BFGS-B climb by itself finds 8 and 10 % of φ in 10 iterations, 87 % in 100.
- Restarts: a second jittered start adds up to 10 % (full space) and 19 % (subspace), eight at most 0.4 % more.
- Law: at p = 100, N(0,1) columns give 950 and 7,600 times the φ of orthonormal ones; unit columns give that of
  orthonormal ones to about 1 %, and under these two laws the minima differ by 4 to 5 %, no more than trials do.
- p: from 10 to 1000, φ grows by 2e5 and 3e5 with N(0,1) columns, by 100 and 160 with orthonormal ones.
- Arithmetic: float32 and float64 differ by 0.05 % at most in the full space, by 2e-6 in the subspace.

φ is not invariant: scaling one ReLU layer up and the next down leaves the network the same function and
moves φ (Dinh et al. 2017).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape import seeds
from landscape.aliases import Vector
from landscape.errors import InputError
from landscape.methods.affine import Function, columns, pseudo_inverse, restricted, restricted_at_several
from landscape.methods.box import BoxMaximum, maximise_in_box
from landscape.methods.lockstep import EvaluateSeveral
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.results import SharpnessResult
from landscape.side_by_side import several_at_once
from landscape.spec import SharpnessSpec

Progress = Callable[[int, int, str], object]
_JITTER = (0.1, 1.0)


@full_precision()
def measure(
    problem: Problem, spec: SharpnessSpec, weights: Vector | None = None, progress: Progress | None = None
) -> SharpnessResult:
    """ε-sharpness at the problem's weights, or at `weights` (n,).

    Each trial draws its own A, starts and probes, and uses them for every ε, so that differences between
    ε are not noise. A larger box contains a smaller one: its maximisation also begins at the smaller
    one's best point, and φ never decreases with ε. progress(done, total, what) is called before each
    maximisation. Raises `InputError` when the loss at the weights is not finite.
    """
    begun = time.perf_counter()
    x = problem.weights if weights is None else weights
    loss, accuracy = problem.evaluate(x)
    if not np.isfinite(loss):
        raise InputError(f"the loss at the weights is {loss}: sharpness needs a finite one. Check weights and data.")
    several = several_at_once(problem, x, spec.restarts + 1)
    found = np.empty((len(spec.spaces), len(spec.epsilons), spec.trials), dtype=object)
    for i, space in enumerate(spec.spaces):
        for trial in range(spec.trials):
            place = _place(problem, x, space, spec, trial, several)
            smaller: tuple[float, BoxMaximum] | None = None
            for j in np.argsort(spec.epsilons, kind="stable"):
                if progress is not None:
                    done = sum(m is not None for m in found.flat)
                    progress(done, found.size, f"{space}, ε = {spec.epsilons[j]:g}, trial {trial + 1}")
                found[i, j, trial] = _maximum(place, spec, spec.epsilons[j], smaller)
                smaller = spec.epsilons[j], found[i, j, trial]
    return SharpnessResult(
        spec=spec, loss=loss, seconds=time.perf_counter() - begun,
        conditions=_conditions(problem, accuracy, found), **_summary(found, loss),
        evaluations=1 + sum(m.evaluations for m in found.flat),
    )  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """One trial's space: f of the coordinates z, |A⁺x| + 1, jittered starts and random corners in units of the box."""

    function: Function
    several: EvaluateSeveral | None
    scale: Vector
    starts: Float[Tensor, "restarts n"]
    corners: Float[Tensor, "corners n"]
    solver: str


def _place(
    problem: Problem, x: Vector, space: str, spec: SharpnessSpec, trial: int, several: EvaluateSeveral | None
) -> _Place:
    def draw(what: str, law: Callable[..., Tensor], count: int, like: Vector) -> Tensor:
        """Rows drawn one by one in float64, so that they are the same in float32 and need little memory."""
        rng, wide = seeds.stream(spec.seed, "sharpness", space, what, trial), like.double()
        rows = like.new_empty(count, like.numel())
        for row in rows:
            row.copy_(law(rng, 1, wide)[0])
        return rows

    function: Function
    if space == "full":
        scale, solver = x.abs() + 1, spec.solver

        def function(z: Tensor, /) -> tuple[float, Tensor]:
            return problem.value_and_gradient(x + z)

        at_several = several and (lambda z: several(x + z))
    else:
        rows = columns(draw("columns", seeds.gaussian, spec.dimension, x), spec.law)
        scale, solver = (pseudo_inverse(rows, x).abs() + 1).to(x.dtype), "scipy"
        function = restricted(problem.value_and_gradient, x, rows)
        at_several = several and restricted_at_several(several, x, rows)
    starts = draw("starts", seeds.uniform, spec.restarts, scale)
    for number, start in enumerate(starts):
        start *= _JITTER[number % len(_JITTER)]
    return _Place(
        function, at_several, scale, starts, draw("corners", seeds.rademacher, 2 * spec.restarts, scale), solver
    )


def _maximum(
    place: _Place, spec: SharpnessSpec, epsilon: float, smaller: tuple[float, BoxMaximum] | None
) -> BoxMaximum:
    radius = epsilon * place.scale
    probes = place.corners * radius
    if smaller is not None:
        known = smaller[1].point
        probes = torch.cat([probes, known[None], known[None] * (epsilon / smaller[0])])
    return maximise_in_box(
        place.function, radius, place.starts * radius, spec.iterations, probes, place.solver, place.several,
        spec.until_converged,
    )  # fmt: skip


def _summary(found: np.ndarray, loss: float) -> dict[str, Any]:
    def each(value: Callable[[BoxMaximum], float]) -> np.ndarray:
        return np.vectorize(value, otypes=[float])(found)

    maxima = each(lambda m: max(m.value, loss))  # z = 0 is in the box
    values = 100 * (maxima - loss) / (1 + loss)
    return {
        "sharpness": values.mean(-1),
        "deviation": values.std(-1, ddof=1) if values.shape[-1] > 1 else np.full(values.shape[:-1], np.nan),
        "values": values,
        "maxima": maxima,
        "active": each(lambda m: m.active),
        "projected_gradient": each(lambda m: m.projected_gradient),
        "spread": each(lambda m: m.value - m.values.min()),
        "probe": each(lambda m: m.probe),
    }


def _conditions(problem: Problem, accuracy: float, found: np.ndarray) -> dict[str, Any]:
    """converged: (space, ε, trial) flags; walls: evaluations that were not finite and counted as −∞."""
    return {
        **problem.conditions(),
        "accuracy": accuracy,
        "converged": np.vectorize(lambda m: m.converged, otypes=[bool])(found).tolist(),
        "walls": sum(m.walls for m in found.flat),
    }
