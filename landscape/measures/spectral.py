"""The product of the spectral norms of a network's linear and convolutional weights.

Π_l ‖A_l‖₂, where A_l is the linear map of layer l without its bias: for a linear layer the weight matrix, for a
convolution the matrix of the convolution on inputs of the size that it meets in the network, padding and stride
included, and not the kernel reshaped into a matrix. A layer counts once however often it is called, with the largest
norm that it has at any size of its inputs. Batch norms do not count.
Sources: Bartlett, Foster & Telgarsky 2017 (arXiv 1706.08498); Sedghi, Gupta & Long 2019 (arXiv 1805.10408) for
convolutions.

A linear layer's norm is by singular values. A convolution's ‖A‖₂² is the largest eigenvalue of AᵀA, by Lanczos on the
convolution and its adjoint, in float64; a residual r = ‖AᵀAx − σ²x‖ of that bounds the error of σ by r/(2σ) to first
order, and these add up to the row's error. The product may overflow; its log10 does not.
certificate: norms (by layer), largest_residual (r/σ²), tolerance, converged, left_out (names of other parameters with
two or more axes).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape import seeds
from landscape.aliases import Vector
from landscape.curvature import vjp
from landscape.errors import UndefinedError
from landscape.measures.execution import calls
from landscape.measures.row import Row, Subject
from landscape.methods.restart import extreme_eigenpairs

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

TOLERANCE = 1e-8
"""Of the residual relative to ‖A‖₂²."""

_PRODUCTS = 2000


def rows(subject: Subject) -> list[Row]:
    """The product and its decimal logarithm."""
    norms, residuals, converged = {}, {}, []
    model = subject.problem.model_at(subject.w)
    for name, shapes in _layers(subject, model).items():
        layer: Any = model.get_submodule(name)
        subject.watch(name)
        if isinstance(layer, nn.Linear):
            norms[name], residuals[name] = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2)), 0.0
            continue
        found = [_convolution(layer, shape, subject) for shape in shapes]
        norms[name], residuals[name], done = max(found)
        converged.append(done)
    if not norms:
        raise UndefinedError(
            "the model calls no linear or convolutional layer, whose spectral norms could be multiplied."
        )
    logarithm = sum(math.log10(v) if v > 0 else -math.inf for v in norms.values())
    product = 10.0**logarithm if logarithm < 308 else math.inf
    relative = sum(residuals.values()) / 2
    certificate = {
        "norms": norms, "largest_residual": max(residuals.values()), "tolerance": TOLERANCE,
        "converged": all(converged), "left_out": _left_out(model, norms),
    }  # fmt: skip
    return [
        Row("product of spectral norms", product, product * relative if product else 0.0, certificate, ("relu-layer",)),
        Row("log10 of the product of spectral norms", logarithm, relative / math.log(10), certificate, ("relu-layer",)),
    ]


def _layers(subject: Subject, model: nn.Module) -> dict[str, set[tuple[int, ...]]]:
    """The layers that are called, with the shapes of one example's input; linear ones also when read from outside."""
    found: dict[str, set[tuple[int, ...]]] = {
        name: set() for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    for step in calls(subject.problem, subject.w):
        if isinstance(step.module, Convolution):
            found.setdefault(step.name, set()).add(_one_example(step.module, step.inputs))
    return found


def _one_example(layer: Convolution, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = layer.weight.dim() - 1
    return (1, *shape[-axes:])


def _left_out(model: nn.Module, norms: dict[str, float]) -> list[str]:
    weights = {id(model.get_submodule(name).weight) for name in norms}
    return [name for name, p in model.named_parameters() if p.dim() > 1 and id(p) not in weights]


def _convolution(layer: Convolution, shape: tuple[int, ...], subject: Subject) -> tuple[float, float, bool]:
    """‖A‖₂ of the convolution on inputs of `shape`, the residual of AᵀA relative to ‖A‖₂², and whether converged."""
    weight = layer.weight.detach().double()
    parameters = (
        {"weight": weight} if layer.bias is None else {"weight": weight, "bias": weight.new_zeros(len(layer.bias))}
    )

    def apply(x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,))

    zeros = weight.new_zeros(shape)
    adjoint = vjp(apply, zeros)[1]

    def normal(v: Vector) -> Vector:
        return adjoint(apply(v.view(shape)))[0].reshape(-1)

    def fresh(number: int) -> Vector:
        rng = seeds.stream(subject.spec.measure_seed, "spectral-norms", number)
        return seeds.gaussian(rng, 1, zeros.reshape(-1))[0]

    pairs = extreme_eigenpairs(normal, fresh, 1, "largest", TOLERANCE, _PRODUCTS, exhaustive=False)
    value = max(float(pairs.values[0]), 0.0)
    return math.sqrt(value), float(pairs.residuals[0]) / value if value > 0 else 0.0, bool(pairs.converged[0])
