"""Leading Hessian eigenvalues of a digits network: ours against PyHessian and SciPy's ARPACK on our own products.

error: largest |λ − truth| over the wanted eigenvalues, relative to λ1; the truth is a float64 dense Hessian.
"""

import sys

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from benchmarks.harness import race, report
from landscape import hessian
from landscape.checkpoints import prepare
from landscape.crosscheck import pyhessian_eigenvalues
from landscape.data import batches
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import HessianSpec, ProblemSpec, TrainSpec
from landscape.training.run import train

COUNT = 10


def digits_problem(dtype: torch.dtype) -> Problem:
    """A 64-64-64-10 perceptron after 20 epochs on the digits."""
    model, dataset = prepare(ProblemSpec(model="mlp", model_args=(("widths", "64,64"),), data="digits"), seed=0)
    trained = train(model, dataset, TrainSpec(epochs=20, learning_rate=0.05, schedule="cosine"))
    data = batches(dataset.train, 2000, torch.device("cpu"), dtype)
    return Problem(trained.model.to(dtype), loss_by_name("cross_entropy"), data)


def main() -> None:
    problem, exact = digits_problem(torch.float32), digits_problem(torch.float64)
    spec = HessianSpec(count=COUNT, tolerance=1e-8, sampling_error=False)
    truth = hessian.measure(exact, spec).eigenvalues
    n = len(problem.weights)

    def outcome(values: np.ndarray, products: int) -> dict[str, float]:
        return {"error": float(np.abs(np.sort(values)[::-1] - truth).max() / truth[0]), "products": products}

    def ours() -> dict[str, float]:
        found = hessian.measure(problem, HessianSpec(count=COUNT, tolerance=1e-3, sampling_error=False))
        return outcome(found.eigenvalues, found.matvecs)

    def pyhessian() -> dict[str, float]:
        found = pyhessian_eigenvalues(problem, COUNT, tolerance=1e-3, iterations=100)
        return outcome(found.eigenvalues, found.products)

    def arpack() -> dict[str, float]:
        matvec, calls = problem.hessian(problem.weights), [0]

        def product(v: np.ndarray) -> np.ndarray:
            calls[0] += 1
            return matvec(torch.from_numpy(v.reshape(-1))).numpy()

        operator = LinearOperator((n, n), matvec=product, dtype=np.float32)
        start = np.random.default_rng(0).standard_normal(n).astype(np.float32)
        values = eigsh(operator, k=COUNT, which="LA", tol=1e-3, v0=start, return_eigenvectors=False)
        return outcome(values, calls[0])

    peers = {"PyHessian, its defaults": pyhessian, "SciPy eigsh on our products": arpack}
    report([race("eigenvalues", f"top {COUNT}, digits MLP, n = {n}, float32", ours, peers)])


if __name__ == "__main__":
    sys.exit(main())
