"""The whole spectrum of the Hessian of the mean loss: its density, counts and moments, with standard errors."""

import time
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape import hessian, seeds
from landscape.aliases import Vector
from landscape.errors import InputError
from landscape.methods.quadrature import quadrature, resolved
from landscape.methods.restart import ROUNDING
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.results import DensityResult
from landscape.spec import DensitySpec, HessianSpec
from landscape.spectrum import Spectrum

Progress = Callable[[int, int | None, str], object]

WIDTH = 0.005
"""Width of the smoothing Gaussian in units of λmax − λmin. An absolute one would depend on the loss's units."""

ORDERS = (1, 2, 3, 4)


@full_precision()
def measure(
    problem: Problem, spec: DensitySpec, weights: Vector | None = None, progress: Progress | None = None
) -> DensityResult:
    """φ(x) = (1/n) Σ_i g(x − λ_i) over all eigenvalues λ_i of ∇²f(w), f the mean loss, g a narrow Gaussian.

    w: `weights` (n,), default the problem's own. Gaussian probes start one Krylov space of `spec.steps`
    products each. Ritz pairs that have converged count as one eigenvalue; the rest of the spectrum is the
    mean of the probes' quadratures (`methods.quadrature`). With `spec.outliers` the eigenvalues of largest
    magnitude are first found by `landscape.hessian` and projected out; a repeated one then counts as often
    as it occurs, not at most once a probe. progress(products, None, note) is called as products are made.

    Raises `InputError` when the basis does not fit into `spec.basis_gib`, and when the loss or a product is
    not finite. Source: Ghorbani, Krishnan & Xiao 2019 (arXiv 1901.10159), section 2, for networks.
    """
    began = time.perf_counter()
    w = problem.weights if weights is None else weights
    evaluation = problem.evaluate(w)
    if not np.isfinite(evaluation.loss):
        raise InputError(f"the loss at the weights is {evaluation.loss}: its Hessian means nothing. Check the weights.")
    _require_memory(spec, w)
    values, residuals, locked, spent, complete = _outliers(problem, spec, w, progress)

    def watch(products: int) -> None:
        if progress is not None:
            progress(spent + products, None, f"{spec.steps} steps of {spec.probes} probes")

    probes = torch.cat([seeds.gaussian(seeds.stream(spec.seed, "density", i), 1, w) for i in range(spec.probes)])
    matvec = problem.hessian(w, many=True)
    found = quadrature(matvec.rows, probes, spec.steps, locked, watch)
    single = resolved(found, spec.tolerance) if spec.deflate else np.zeros(len(found.values), bool)
    values = np.concatenate([values, found.values[single]])
    scale = np.abs(np.concatenate([values, found.values])).max()
    residuals = np.concatenate([residuals, found.residuals[single] + ROUNDING * torch.finfo(w.dtype).eps * scale])
    order = np.argsort(-values, kind="stable")
    spectrum = Spectrum(
        w.numel(),
        values[order],
        found.values[~single],
        _normalised(found.weights[:, ~single]),
        found.residuals[~single],
    )
    moments = np.array([spectrum.moment(order) for order in ORDERS])
    return DensityResult(
        spec=spec, size=spectrum.size, eigenvalues=spectrum.eigenvalues, residuals=residuals[order],
        nodes=spectrum.nodes, weights=spectrum.weights, spreads=found.residuals[~single],
        width=spec.width or default_width(spectrum), moments=moments[:, 0], moment_errors=moments[:, 1],
        complete=complete, matvecs=spent + found.products,
        seconds=time.perf_counter() - began,
        conditions={**problem.conditions(), **evaluation._asdict(), "engine": matvec.chosen},
    )  # fmt: skip


def default_width(spectrum: Spectrum) -> float:
    """`WIDTH`·(λmax − λmin), or the mean distance of the nodes where that is larger; positive in any case."""
    low, high = spectrum.range
    nodes = spectrum.nodes
    distance = (nodes[-1] - nodes[0]) / (len(nodes) - 1) if len(nodes) > 1 else 0.0
    return float(max(WIDTH * (high - low), distance) or WIDTH * abs(high) or WIDTH)


def _require_memory(spec: DensitySpec, w: Vector) -> None:
    rows = min(spec.outliers + spec.probes * (spec.steps + 1), w.numel() + spec.probes)
    gib = rows * w.numel() * w.element_size() / 2**30
    if gib > spec.basis_gib:
        raise InputError(
            f"basis_gib = {spec.basis_gib:g} is less than the {gib:.3g} GiB of {rows} vectors of {w.numel()} "
            "parameters. Raise it, or lower steps or probes."
        )


Outliers = tuple[np.ndarray, np.ndarray, Float[Tensor, "l n"] | None, int, bool]


def _outliers(problem: Problem, spec: DensitySpec, w: Vector, progress: Progress | None) -> Outliers:
    """Values, residuals and vectors of the eigenvalues searched for first, products used, none missing."""
    if not spec.outliers:
        return np.zeros(0), np.zeros(0), None, 0, True
    wanted = HessianSpec(
        count=spec.outliers, ends="magnitude", tolerance=spec.tolerance, basis_gib=spec.basis_gib,
        sampling_error=False, vectors=True, seed=spec.seed,
    )  # fmt: skip
    found = hessian.measure(problem, wanted, w, progress)
    good = found.residuals <= spec.tolerance * found.scale
    vectors = torch.from_numpy(found.vectors[good]).to(w)
    complete = bool(found.conditions["complete"])
    return found.eigenvalues[good], found.residuals[good], vectors, found.matvecs, complete


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(1, keepdims=True) if weights.size else weights
