"""Average-case sharpness: the mean rise of the loss under noise in the weights, plain or adaptive.

S_avg = E_δ f(w + δ) − f(w),   δ ~ N(0, ρ²·diag(c²)),   c = 1 (plain) or |w| (adaptive)

or uniform noise of the same standard deviation: Andriushchenko et al. 2023 (arXiv 2302.07011), section 3. The mean
is over antithetic pairs ½(f(w + δ) + f(w − δ)), which takes the gradient's noise away; pair i is a draw of its own,
the same for every radius and however many are drawn. Looks at the standard error begin at twenty pairs and are spaced
an eighth apart, and two in a row must find it small: a lucky one stops nothing. Near a minimum
S_avg ≈ ½ρ²·Σ_i c_i²·H_ii.

error: standard error over pairs. certificate: pairs, converged (standard error ≤ average_tolerance·|mean|), walls
(pairs whose loss is not finite; the first ends the search, for the mean is then infinite).
"""

import math

import numpy as np
import torch
from torch import Tensor

from landscape import seeds
from landscape.aliases import Vector
from landscape.measures.logits import SUFFIX, with_normalised_logits
from landscape.measures.row import RESCALINGS, Row, Subject
from landscape.problem import Problem
from landscape.spec import MeasuresSpec

_LEAST = 20


def rows(subject: Subject) -> list[Row]:
    """One row for each radius, plain ones first."""
    spec, w = subject.spec, subject.w
    radii = [(radius, False) for radius in spec.average_rhos] + [
        (radius, True) for radius in spec.adaptive_average_rhos
    ]
    if not radii:
        return []
    problem = with_normalised_logits(subject.problem) if spec.logit_normalisation else subject.problem
    centre, found = problem.value(w), []
    for radius, adaptive in radii:
        name = f"average-case {'adaptive ' if adaptive else ''}ρ={radius:g}"
        name += SUFFIX if spec.logit_normalisation else ""
        subject.watch(name)
        found.append(_row(name, problem, w, centre, radius, adaptive, spec))
    return found


def _row(
    name: str, problem: Problem, w: Vector, centre: float, radius: float, adaptive: bool, spec: MeasuresSpec
) -> Row:
    scale = radius * w.abs() if adaptive else torch.full_like(w, radius)
    rises: list[float] = []
    look, mean, error, small, converged = min(_LEAST, spec.max_pairs), math.nan, math.nan, False, False
    while not converged and len(rises) < spec.max_pairs:
        move = _noise(w, spec, len(rises)) * scale
        rise = (problem.value(w + move) + problem.value(w - move)) / 2 - centre
        rises.append(rise)
        if not math.isfinite(rise):
            mean, error, converged = math.inf, math.nan, False
            break
        if len(rises) in (look, spec.max_pairs):
            mean, error = float(np.mean(rises)), float(np.std(rises, ddof=1) / len(rises) ** 0.5)
            before, small = small, error <= spec.average_tolerance * abs(mean)
            converged = before and small
            look = math.ceil(len(rises) * 9 / 8)
    certificate = {
        "pairs": len(rises),
        "converged": converged,
        "walls": sum(not math.isfinite(rise) for rise in rises),
    }
    return Row(name, mean, error, certificate, RESCALINGS if adaptive else ())


def _noise(w: Vector, spec: MeasuresSpec, pair: int) -> Tensor:
    """One vector of unit variance, drawn in float64, so that it is the same in float32."""
    rng = seeds.stream(spec.measure_seed, "average-case", spec.noise, pair)
    if spec.noise == "uniform":
        return (3**0.5 * seeds.uniform(rng, 1, w.double())[0]).to(w.dtype)
    return seeds.gaussian(rng, 1, w.double())[0].to(w.dtype)
