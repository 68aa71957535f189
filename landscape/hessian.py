"""Extreme eigenvalues of the Hessian (or Gauss-Newton, or Fisher) of the mean loss, by thick-restart Lanczos."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape import reduced, seeds
from landscape.aliases import Matvec, Vector
from landscape.errors import InputError
from landscape.methods.restart import Eigenpairs, extreme_eigenpairs
from landscape.plan import plan_basis
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.products.product import Product
from landscape.progressive import measure_pairs
from landscape.results import HessianResult
from landscape.spec import HessianSpec

Progress = Callable[[int, int | None, str], object]


@full_precision()
def measure(
    problem: Problem,
    spec: HessianSpec,
    weights: Vector | None = None,
    progress: Progress | None = None,
    start: Float[Tensor, "m n"] | None = None,
) -> HessianResult:
    """Eigenvalues λ of ∇²f(w), f the mean loss, at the wanted ends of the spectrum; or of `spec.operator`.

    w: `weights` (n,), default the problem's own. Each residual ‖Hv − λv‖ bounds the distance from λ to an
    eigenvalue of H, also in float32: one product in float64 measures the rounding error of the others. A
    pair that did not converge within `spec.max_matvecs` products says so. conditions["complete"]: whether a
    fresh random start has shown that no further eigenvalue belongs to the wanted ones (`methods.restart`), with
    `spec.progressive` on the sample (`landscape.progressive`). conditions["sampling_limited"]: whether the
    standard error of some λ exceeds the error asked for, so that more accurate products would tell no more.
    progress(matvecs, None, note) is called at every look. start: rows that approximate the eigenvectors, those
    of a neighbouring checkpoint say; they save products and change nothing in what is certified.

    The basis lies on w's device or, where it does not fit there, in the host's memory (`plan`), as
    conditions["basis"] says. Raises `InputError` when it fits nowhere, and when a product is not finite.
    Source: Wu & Simon 2000; Ghorbani, Krishnan & Xiao 2019 (arXiv 1901.10159) for networks.
    """
    began = time.perf_counter()
    w = problem.weights if weights is None else weights
    evaluation = problem.evaluate(w)
    if not np.isfinite(evaluation.loss):
        raise InputError(f"the loss at the weights is {evaluation.loss}: its Hessian means nothing. Check the weights.")

    def watch(matvecs: int, converged: int) -> None:
        if progress is not None:
            progress(matvecs, None, f"{converged} eigenvalues converged")

    pairs, engine, how = _pairs(problem, spec, w, watch, start)
    errors = _sampling_errors(problem, w, pairs, spec)
    return HessianResult(
        spec=spec, eigenvalues=pairs.values, residuals=pairs.residuals, converged=pairs.converged,
        sampling_errors=errors, scale=pairs.scale, matvecs=pairs.matvecs, restarts=pairs.restarts,
        vectors=pairs.vectors.cpu().numpy() if spec.vectors else np.zeros((0, 0), np.float32),
        seconds=time.perf_counter() - began,
        conditions={**problem.conditions(), **evaluation._asdict(), "operator": spec.operator,
                    "complete": pairs.complete, "engine": engine, **how,
                    "sampling_limited": bool((errors > spec.tolerance * pairs.scale).any())},
    )  # fmt: skip


def _pairs(
    problem: Problem,
    spec: HessianSpec,
    w: Vector,
    watch: Callable[[int, int], object],
    start: Float[Tensor, "m n"] | None,
) -> tuple[Eigenpairs, str, dict[str, Any]]:
    """The pairs, the engine of the products, and further conditions of how they were found."""
    plan, fresh = plan_basis(spec, w), partial(_start, spec.seed, like=w)
    if spec.progressive and spec.search != "reduced":
        done = measure_pairs(
            problem, spec, w, plan, fresh, lambda some, product: _exact(some, w, spec, product), watch
        )  # fmt: skip
        how = {"work": done.work, "sample": done.sample, "coverage": done.coverage}
        return done.pairs, done.engine, {"basis": str(plan), **how}
    matvec = problem.operator(spec.operator, w, spec.seed, many=True)
    exact = _exact(problem, w, spec, matvec)
    if reduced.wanted(spec, w, plan, matvec, fresh(0)):
        pairs, rough = reduced.measure_pairs(matvec, spec, w, plan, fresh, exact, watch, start)
        return pairs, matvec.chosen, {"basis": str(plan), "reduced_matvecs": rough}
    pairs = extreme_eigenpairs(
        matvec, fresh, spec.count, spec.ends, spec.tolerance, spec.max_matvecs,
        plan.rows, watch, exact, start, plan.device, plan.dtype, spec.exhaustive,
    )  # fmt: skip
    return pairs, matvec.chosen, {"basis": str(plan)}


def _exact(problem: Problem, w: Vector, spec: HessianSpec, matvec: Product) -> Matvec:
    """The product in float64, to measure the error of `matvec`; as it is where model or device cannot do float64.

    The error is measured on the first of the parts that `matvec` has recorded, Av + (B₆₄ − B)v with B the mean
    over that part: errors of single examples average out over all, so that a part rather overstates them.
    """

    def product(v: Vector) -> Vector:
        if matvec.part is None or spec.operator != "hessian":
            return _in_float64(problem, w, spec)(v)
        batch, run = matvec.part
        some, single = problem.only([batch]), v.to(w.dtype)
        if some.size == problem.size:
            return _in_float64(problem, w, spec)(v)
        return matvec(single).double() + _in_float64(some, w, spec)(v) - run(single).double() / some.size

    return product


def _in_float64(problem: Problem, w: Vector, spec: HessianSpec) -> Matvec:
    def product(v: Vector) -> Vector:
        try:
            return problem.double().operator(spec.operator, w.double(), spec.seed)(v)
        except (RuntimeError, TypeError):
            return problem.operator(spec.operator, w, spec.seed)(v.to(w.dtype)).double()

    return product


def _start(seed: int, number: int, *, like: Vector) -> Vector:
    return seeds.gaussian(seeds.stream(seed, "hessian", number), 1, like)[0]


def _sampling_errors(problem: Problem, w: Vector, pairs: Eigenpairs, spec: HessianSpec) -> np.ndarray:
    """Standard error of each λ = vᵀHv, the examples taken as a random sample: from vᵀH_b v over groups b.

    v is the sample's own eigenvector, chosen for large quotients: λ is on average above that of a large sample,
    and the quotients scatter more than λ does. The two make up for each other: |λ − λ(population)| ≤ 2 errors
    in 91-99 % of samples of 200 to 2,000 images, for digits and MNIST networks at several stages of training.
    """
    if not spec.sampling_error:
        return np.full(len(pairs.values), np.nan)
    counts, quotients = problem.rayleigh_by_group(w, pairs.vectors, operator=spec.operator, seed=spec.seed)
    return standard_errors(counts, quotients).numpy()


def standard_errors(counts: Float[Tensor, " groups"], means: Float[Tensor, "k groups"]) -> Float[Tensor, " k"]:
    """Standard error of Σ_b p_b m_b with p_b = n_b/N: √(B/(B−1) Σ_b p_b² (m_b − m)²), NaN for one group.

    For equal groups this is the usual s/√B. Source: Cochran 1977, Sampling Techniques, section 6 (the
    linearised ratio estimator).
    """
    shares = counts / counts.sum()
    deviations = means - (means @ shares)[:, None]
    variance = (shares.square() * deviations.square()).sum(1)
    groups = len(counts)
    if groups < 2:
        return torch.full_like(variance, float("nan"))
    return (variance * groups / (groups - 1)).sqrt()
