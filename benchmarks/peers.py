"""Other packages' Hessian products and eigenvalues, each by its own interface, on a problem of ours.

Every call starts from a fresh copy of the model and from the problem's own batches, in its type and on its
device. The kernels are those with a double backward: without that none of them differentiates attention twice.
"""

import copy
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import installed
from landscape import seeds
from landscape.aliases import Batch, Matvec
from landscape.kernels import twice_differentiable
from landscape.problem import Problem


@dataclass(frozen=True)
class Found:
    """Eigenvalues in any order, and the products that they took."""

    eigenvalues: np.ndarray
    products: int


def available() -> list[str]:
    """Import names of the peers that are installed; a line on standard error for each other."""
    return [name for name in PRODUCTS if installed(name)]


def model_and_batches(problem: Problem) -> tuple[nn.Module, list[Batch]]:
    """A fresh copy of the model, to be trained, and all batches in memory."""
    return copy.deepcopy(problem.model).requires_grad_(True), list(problem.passes(problem.weights))


@contextmanager
def _conditions(model: nn.Module) -> Iterator[None]:
    with twice_differentiable(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyHessian's backward(create_graph=True) warns at every product
        yield


# -- products --------------------------------------------------------------------------------------


def _within(model: nn.Module, product: Matvec) -> Matvec:
    def run(v: Tensor) -> Tensor:
        with _conditions(model):
            return product(v)

    return run


def curvlinops_product(problem: Problem) -> Matvec:
    operator, model = _curvlinops(problem)
    return _within(model, lambda v: operator @ v)


def eigenthings_product(problem: Problem) -> Matvec:
    operator, model = _eigenthings(problem)
    return _within(model, operator.matvec)


def pyhessian_product(problem: Problem) -> Matvec:
    """With one batch PyHessian keeps the graph of the gradient; with more it makes each anew at every product."""
    checker, model = _pyhessian(problem)
    shapes = [p.shape for p in checker.params]
    sizes = [shape.numel() for shape in shapes]

    def product(v: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(v.split(sizes), shapes, strict=True)]
        if checker.full_dataset:
            image = checker.dataloader_hv_product(pieces)[1]
        else:
            image = sys.modules["pyhessian.hessian"].hessian_vector_product(checker.gradsH, checker.params, pieces)
        return torch.cat([x.reshape(-1) for x in image])

    return _within(model, product)


PRODUCTS: dict[str, Callable[[Problem], Matvec]] = {
    "pyhessian": pyhessian_product,
    "hessian_eigenthings": eigenthings_product,
    "curvlinops": curvlinops_product,
}


# -- eigenvalues -----------------------------------------------------------------------------------


def pyhessian_eigenvalues(problem: Problem, count: int) -> Found:
    """Power iteration with deflation, by magnitude, at PyHessian's defaults (100 iterations, tolerance 1e-3)."""
    with seeds.global_stream(0, "pyhessian"):
        checker, model = _pyhessian(problem)
        with _conditions(model), _counted(checker) as calls:
            values, _ = checker.eigenvalues(top_n=count)
    for parameter in model.parameters():
        parameter.grad = None  # breaks the cycle through which create_graph keeps its graphs alive
    return Found(np.array(values), calls[0])


def eigenthings_eigenvalues(problem: Problem, count: int, steps: int) -> Found:
    """Lanczos, `steps` products, with the reorthogonalisation that is the default up to 50 steps."""
    from hessian_eigenthings import lanczos

    operator, model = _eigenthings(problem)
    with _conditions(model):
        found = lanczos(operator, k=count, max_iter=steps, which="LA", seed=0, reorthogonalize=True)
    return Found(found.eigenvalues.double().cpu().numpy(), steps)


def curvlinops_eigenvalues(problem: Problem, count: int, tolerance: float) -> Found:
    """SciPy's ARPACK on curvlinops' operator."""
    operator, model = _curvlinops(problem)
    wrapped = operator.to_scipy(dtype=np.float32)
    with _conditions(model):
        return arpack(wrapped.matvec, wrapped.shape[0], count, tolerance)


def arpack(product: Callable[[np.ndarray], np.ndarray], n: int, count: int, tolerance: float) -> Found:
    """The largest eigenvalues by SciPy's `eigsh`, from a fixed start."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    calls = [0]

    def counted(v: np.ndarray) -> np.ndarray:
        calls[0] += 1
        return product(v.reshape(-1))

    operator = LinearOperator((n, n), matvec=counted, dtype=np.float32)  # type: ignore[call-arg]
    start = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    values = eigsh(operator, k=count, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)
    return Found(values.astype(np.float64), calls[0])


# -- their operators -------------------------------------------------------------------------------


def _curvlinops(problem: Problem) -> tuple[Any, nn.Module]:
    from curvlinops import HessianLinearOperator

    model, data = model_and_batches(problem)
    loss = nn.CrossEntropyLoss()
    return HessianLinearOperator(model, loss, list(model.parameters()), data, check_deterministic=False), model


def _eigenthings(problem: Problem) -> tuple[Any, nn.Module]:
    from hessian_eigenthings import HessianOperator

    model, data = model_and_batches(problem)
    loss = nn.CrossEntropyLoss()
    return HessianOperator(model, data, lambda m, batch: loss(m(batch[0]), batch[1])), model


def _pyhessian(problem: Problem) -> tuple[Any, nn.Module]:
    from pyhessian import hessian

    model, data = model_and_batches(problem)
    cuda = problem.weights.is_cuda
    with _conditions(model):
        if len(data) == 1:
            return hessian(model, nn.CrossEntropyLoss(), data=data[0], cuda=cuda), model
        return hessian(model, nn.CrossEntropyLoss(), dataloader=data, cuda=cuda), model


@contextmanager
def _counted(checker: Any) -> Iterator[list[int]]:
    """Counts PyHessian's products, which it does not tell."""
    module, calls = sys.modules["pyhessian.hessian"], [0]
    whole, single = checker.dataloader_hv_product, module.hessian_vector_product

    def counting(function: Callable) -> Callable:
        def run(*arguments: Any) -> Any:
            calls[0] += 1
            return function(*arguments)

        return run

    checker.dataloader_hv_product, module.hessian_vector_product = counting(whole), counting(single)
    try:
        yield calls
    finally:
        module.hessian_vector_product = single
        with suppress(AttributeError):
            del checker.dataloader_hv_product
