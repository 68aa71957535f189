"""The trace of the Hessian of the mean loss, with its standard error."""

import time
from collections.abc import Callable

import torch

from landscape import seeds
from landscape.aliases import Vector
from landscape.errors import InputError
from landscape.methods.hutchinson import Estimate, hutchinson, summarise
from landscape.problem import Problem
from landscape.results import TraceResult
from landscape.spec import TraceSpec

Progress = Callable[[int, int | None, str], object]

_CHUNK_BYTES = 1 << 28


def measure(
    problem: Problem, spec: TraceSpec, weights: Vector | None = None, progress: Progress | None = None
) -> TraceResult:
    """tr ∇²f(w) by Hutchinson's estimator with Rademacher probes, f the mean loss.

    w: `weights` (n,), default the problem's own. Stops when the standard error of all probes so far is at
    most tolerance·|trace|, never before `min_probes`; `converged` is False when `max_probes` came first.
    progress(probes, max_probes, note) is called as they come in. Probe i does not depend on how many are
    drawn. Raises `InputError` when a product is not finite.
    """
    began = time.perf_counter()
    w = problem.weights if weights is None else weights
    if spec.max_probes < spec.min_probes:
        raise InputError(
            f"max_probes = {spec.max_probes} is less than min_probes = {spec.min_probes}. Raise it, or lower the other."
        )
    evaluation = problem.evaluate(w)
    matvec = problem.hessian(w)
    chunk = int(min(5, max(1, _CHUNK_BYTES // (w.numel() * w.element_size()))))
    samples = torch.zeros(0, dtype=torch.float64)
    converged = False
    while not converged and len(samples) < spec.max_probes:
        count = min(chunk, spec.max_probes - len(samples))
        if len(samples) < spec.min_probes:
            count = min(count, spec.min_probes - len(samples))
        numbers = range(len(samples), len(samples) + count)
        probes = torch.cat([seeds.rademacher(seeds.stream(spec.seed, "trace", i), 1, w) for i in numbers])
        estimate = summarise(torch.cat([samples, hutchinson(matvec, probes).samples]))
        samples = estimate.samples
        converged = len(samples) >= spec.min_probes and _precise(estimate, spec.tolerance)
        if progress is not None:
            progress(len(samples), spec.max_probes, f"{estimate.mean:.4g} ± {estimate.standard_error:.2g}")
    return TraceResult(
        spec=spec, trace=estimate.mean, standard_error=estimate.standard_error, converged=converged,
        matvecs=len(samples), samples=samples.numpy(), seconds=time.perf_counter() - began,
        conditions={**problem.conditions(), **evaluation._asdict()},
    )  # fmt: skip


def _precise(estimate: Estimate, tolerance: float) -> bool:
    return estimate.standard_error <= tolerance * abs(estimate.mean)
