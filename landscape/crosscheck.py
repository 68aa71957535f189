"""PyHessian as an independent check of the leading eigenvalues.

Yao, Gholami, Keutzer & Mahoney 2020, "PyHessian: Neural networks through the lens of the Hessian". Version 0.1
on current PyTorch: power iteration (`eigenvalues`) works and is used here; the trace works, with a stopping
rule that can end by chance; the density fails, because it calls `torch.eig`, which is gone.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape import seeds
from landscape.aliases import Batch
from landscape.errors import InputError
from landscape.kernels import twice_differentiable
from landscape.precision import full_precision
from landscape.problem import Problem

NOTE = (
    "power iteration by magnitude, without error bounds; it can stall between eigenvalues close in magnitude; "
    "its norm + 1e-6 puts values 2e-6 low"
)


@dataclass(frozen=True)
class CrossCheck:
    """eigenvalues (count,) as PyHessian found them, by magnitude; products it used; what it can and cannot do."""

    eigenvalues: np.ndarray
    products: int
    note: str


class _Batches:
    """The problem's batches as PyHessian wants them; `rows` of the batch at hand, `passes` begun so far."""

    def __init__(self, problem: Problem):
        self.problem, self.passes, self.rows, self.total = problem, 0, 0, 0
        for inputs, _ in problem.passes(problem.weights):
            if not isinstance(inputs, Tensor):
                raise InputError(
                    f"PyHessian takes models whose input is one tensor, and this one's is a {type(inputs).__name__}. "
                    "Leave the check out, or wrap the model."
                )
            self.total += len(inputs)

    def __iter__(self) -> Iterator[Batch]:
        self.passes += 1
        for inputs, targets in self.problem.passes(self.problem.weights):
            self.rows = len(inputs)
            yield inputs, targets


@full_precision()
def pyhessian_eigenvalues(
    problem: Problem, count: int, tolerance: float = 1e-6, iterations: int = 1000, seed: int = 0
) -> CrossCheck:
    """The `count` eigenvalues of largest magnitude according to PyHessian, at the problem's own weights.

    It runs on a fresh copy of the model without gradients, on the problem's batches, loss and batch-norm
    policy. An eigenvalue ends when two iterations differ by less than `tolerance`, relatively, or after
    `iterations`. Raises `InputError` when the model's input is not one tensor.
    """
    from pyhessian import hessian

    batches, model = _Batches(problem), _fresh_model(problem)
    modes = [(module, module.training) for module in model.modules()]
    free = [p for p in model.parameters() if p.requires_grad]

    def mean_loss(outputs: Any, targets: Any) -> Tensor:
        # PyHessian weighs batch b by its rows_b, hence the division; and it fails on parameters that the
        # loss does not reach, hence the zero that reaches all of them.
        unreached = sum((0 * p.square()).sum() for p in free)
        return problem.loss(outputs, targets) * (batches.total / problem.size / batches.rows) + unreached

    with (
        seeds.global_stream(seed, "pyhessian"),
        twice_differentiable(model),
        torch.accelerator.device_index(problem.weights.device.index),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # backward(create_graph=True) warns at every product
        checker = hessian(model, mean_loss, dataloader=batches, cuda=problem.weights.is_cuda)
        for module, training in modes:
            module.training = training  # PyHessian has set them all to eval
        values, _ = checker.eigenvalues(maxIter=iterations, tol=tolerance, top_n=count)
    for parameter in free:
        parameter.grad = None  # breaks the cycle through which create_graph keeps its graphs alive
    return CrossCheck(np.array(values, dtype=np.float64), batches.passes, NOTE)


def _fresh_model(problem: Problem) -> nn.Module:
    """A copy of the problem's model whose free parameters ask for gradients and have none yet."""
    model, free = copy.deepcopy(problem.model), problem.named(problem.weights)
    for name, parameter in model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name in free)
    return model
