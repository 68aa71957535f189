"""Progressive sampling: the eigenspace from the examples that make the curvature, its certificate from all of them.

In a trained network few examples carry nearly all of the Hessian: where the model is sure and right, both the
curvature of the loss in the outputs and its gradient vanish. One forward pass finds those that matter; Lanczos
runs on them alone; Rayleigh-Ritz on all examples then gives eigenvalues and residuals of the full Hessian.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from landscape import seeds
from landscape.aliases import Matvec, Vector
from landscape.errors import InputError
from landscape.methods.refine import refine
from landscape.methods.restart import Eigenpairs, extreme_eigenpairs
from landscape.plan import BasisPlan
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.products.product import Product
from landscape.spec import HessianSpec

_PROBES = 2
_FEWEST = 16
"""Examples in the sample for each eigenvalue wanted, at least."""

_LARGEST_SHARE = 0.5
_WITHOUT_CONCENTRATION = 0.2
"""The sample's share of the examples where no half of them carries the curvature."""

SCORING = 1 / 3
"""Cost of the forward pass that scores the examples, in products: less than this on every network measured."""


@dataclass(frozen=True)
class Sampled:
    """pairs: of the full operator. sample: examples in it; coverage: their share of all scores.

    work: everything, in products with all examples. engine: of the full products.
    """

    pairs: Eigenpairs
    sample: int
    coverage: float
    work: float
    engine: str


@full_precision()
def scores(problem: Problem, w: Vector, seed: int = 0) -> Float[Tensor, " rows"]:
    """How much each example may add to the Hessian: ‖∂ℓ/∂o‖ + tr⁺ ∂²ℓ/∂o², o its outputs and ℓ its loss.

    The Hessian of an example is JᵀΔJ + Σ_c (∂ℓ/∂o_c)·∇²o_c with Δ = ∂²ℓ/∂o²: the two terms vanish with the two
    summands. The trace is Hutchinson's with `_PROBES` random signs, its absolute value taken.
    """
    found = []
    for part, (outputs, loss) in enumerate(problem.outputs_and_losses(w)):
        with torch.enable_grad():
            gradient = torch.autograd.grad(loss, outputs, create_graph=True, materialize_grads=True)[0]
        size = gradient.detach().flatten(1).norm(dim=1)
        for probe in range(_PROBES if gradient.requires_grad else 0):
            rng = seeds.stream(seed, "progressive", part, probe)
            signs = seeds.rademacher(rng, 1, outputs.detach().reshape(-1))[0].view_as(outputs)
            image = torch.autograd.grad(gradient, outputs, signs, retain_graph=True, materialize_grads=True)[0]
            size = size + (signs * image).flatten(1).sum(1).abs() / _PROBES
        found.append(size.double())
    return torch.cat(found)


def measure_pairs(
    problem: Problem,
    spec: HessianSpec,
    w: Vector,
    plan: BasisPlan,
    fresh: Callable[[int], Vector],
    exact: Callable[[Problem, Product], Matvec],
    watch: Callable[[int, int], object],
) -> Sampled:
    """Eigenpairs of all examples by way of a sample. Raises `InputError` where batches may not be divided.

    The sample holds the examples of the highest scores, as many as carry 1 − tolerance/2 of the sum; or a fixed
    share where that would be more than half of all. Its eigenpairs are found and searched for missing ones as
    usual; those of all examples are certified by their residuals, with no further search.
    """
    if problem.batch_norm == "batch":
        raise InputError("progressive sampling divides batches, which batch_norm = batch forbids. Use running.")
    score = scores(problem, w, spec.seed)
    total = len(score)
    order = score.argsort(descending=True, stable=True)
    covered = score[order].cumsum(0) / score.sum().clamp_min(torch.finfo(score.dtype).tiny)
    enough = int((covered < 1 - spec.tolerance / 2).sum()) + 1
    concentrated = enough <= _LARGEST_SHARE * total
    size = min(total, max(enough if concentrated else round(_WITHOUT_CONCENTRATION * total), _FEWEST * spec.count))
    sample = problem.subset(order[:size].sort().values)
    product = sample.operator(spec.operator, w, spec.seed, many=True)
    found = extreme_eigenpairs(
        product, fresh, spec.count, spec.ends, spec.tolerance / 2,
        spec.max_matvecs, plan.rows, watch, exact(sample, product), store=plan.device,
        exhaustive=spec.exhaustive,
    )  # fmt: skip
    del product, sample  # what they keep makes room for the full data
    matvec = problem.operator(spec.operator, w, spec.seed, many=True)
    before = found.matvecs
    pairs = refine(
        matvec, w, found.vectors, spec.ends, len(found.values), spec.tolerance, spec.max_matvecs,
        plan.rows, plan.device, found.noise / max(found.scale, torch.finfo(torch.float64).tiny),
        lambda m, c: watch(before + m, c),
    )  # fmt: skip
    work = SCORING + found.matvecs * size / total + pairs.matvecs
    pairs = replace(pairs, complete=found.complete, matvecs=before + pairs.matvecs, restarts=found.restarts)
    return Sampled(pairs, size, float(covered[size - 1]), work, matvec.chosen)
