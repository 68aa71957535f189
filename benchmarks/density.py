"""The whole Hessian spectrum of a digits network: ours against the packages that have Lanczos quadrature.

error: Wasserstein-1 distance, mean over SEEDS seeds, between the estimated spectrum and the exact one, in
units of λ1; the truth is a float64 dense Hessian by `torch.func`. All use the same number of products, each
with its own operator in float32; a peer's are split over 1, 2 or 5 probes. Peers are taken at their raw
quadrature nodes and weights, before any smoothing. Ours are the defaults, 100 products a probe, at most.
PyHessian's density fails on any current PyTorch.
"""

import copy
import hashlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from benchmarks.harness import Contender, race, report
from benchmarks.models import digits_problem
from landscape import density, seeds
from landscape.problem import Problem
from landscape.spec import DensitySpec

BUDGETS, SPLITS, SEEDS, REPEATS = (50, 100, 200), (1, 2, 5), 5, 1
Nodes = tuple[np.ndarray, np.ndarray]
"""Points and their weights, of sum 1."""


def exact_spectrum(problem: Problem) -> np.ndarray:
    """All eigenvalues, ascending, from a dense Hessian of one batch; kept in the temporary folder (two minutes)."""
    w = problem.weights
    key = hashlib.sha256(w.numpy().tobytes()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"landscape-spectrum-{key}.npy"
    if kept.exists():
        return np.load(kept)
    ((inputs, targets),) = problem.passes(w)

    def mean_loss(x: Tensor) -> Tensor:
        return problem.loss(functional_call(problem.model, problem.named(x), (inputs,)), targets) / problem.size

    rows = torch.eye(len(w), dtype=w.dtype)
    product = vmap(lambda v: jvp(grad(mean_loss), (w,), (v,))[1])
    H = torch.cat([product(block) for block in rows.split(32)])
    values = torch.linalg.eigvalsh((H + H.T) / 2).numpy()
    np.save(kept, values)
    return values


def ours(problem: Problem, products: int, seed: int) -> Nodes:
    """Our defaults: 100 products a probe."""
    probes = max(1, products // DensitySpec().steps)
    found = density.measure(problem, DensitySpec(steps=products // probes, probes=probes, seed=seed))
    assert found.matvecs == products
    known, n = len(found.eigenvalues), found.size
    weights = np.concatenate([np.full(known, 1 / n), found.weights.mean(0) * (n - known) / n])
    return np.concatenate([found.eigenvalues, found.nodes]), weights


def eigenthings(problem: Problem, products: int, probes: int, seed: int) -> Nodes:
    """hessian-eigenthings' `spectral_density`."""
    from hessian_eigenthings import HessianOperator, spectral_density

    model = copy.deepcopy(problem.model).requires_grad_(True)
    batches = list(problem.passes(problem.weights))
    operator = HessianOperator(model, batches, lambda m, b: problem.loss(m(b[0]), b[1]) / problem.size)
    found = spectral_density(
        operator, num_runs=probes, lanczos_steps=products // probes, num_grid_points=2, seed=1000 * seed
    )
    kept = ~found.raw_eigenvalues.isnan()
    return found.raw_eigenvalues[kept].numpy(), found.raw_weights[kept].double().numpy() / probes


def curvlinops(problem: Problem, products: int, probes: int, seed: int) -> Nodes:
    """The Lanczos runs behind curvlinops' `lanczos_approximate_spectrum`, without the products for its boundaries."""
    from curvlinops import HessianLinearOperator
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    model = copy.deepcopy(problem.model).requires_grad_(True)
    parameters = list(model.parameters())
    loss, data = torch.nn.CrossEntropyLoss(), list(problem.passes(problem.weights))
    operator = HessianLinearOperator(model, loss, parameters, data, check_deterministic=False)
    with seeds.global_stream(seed, "curvlinops"):
        runs = [fast_lanczos(operator, products // probes) for _ in range(probes)]
    values, weights = (
        torch.cat(part).double().numpy() for part in zip(*((v, y[0] ** 2) for v, y in runs), strict=True)
    )
    return values, weights / probes


def main() -> None:
    problem, exact = digits_problem(torch.float32), digits_problem(torch.float64)
    truth = exact_spectrum(exact)

    def contender(estimate: Callable[[int], Nodes], products: int) -> Contender:
        def run() -> dict[str, float]:
            distances = []
            for seed in range(SEEDS):
                nodes, weights = estimate(seed)
                distances.append(wasserstein_distance(nodes, truth, weights) / truth[-1])
            return {"error": float(np.mean(distances)), "worst": max(distances), "products": products}

        return run

    packages = {"hessian-eigenthings": eigenthings, "curvlinops": curvlinops}
    for products in BUDGETS:
        own = contender(partial(ours, problem, products), products)
        peers = {
            f"{name}, probes = {split}": contender(partial(peer, problem, products, split), products)
            for name, peer in packages.items()
            for split in SPLITS
        }
        where = f"{products} products, digits MLP, n = {len(truth)}, float32, mean of {SEEDS} seeds"
        report([race("density", where, own, peers, REPEATS)])


if __name__ == "__main__":
    sys.exit(main())
