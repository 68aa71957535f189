"""The path norm: the ℓ2 norm over all paths from an input to an output of the products of the weights on them.

    √(Σ_outputs g(1)),   g the network with every weight and bias squared, 1 the input of ones,

so that a bias is a path that begins at its unit. Batch norms with fixed statistics are folded into the weights first
(`landscape.measures.folding`), and are their own affine maps, squared, where they do not follow a layer directly.
Pooling is left as it is: the largest of the paths' sums, or their mean. One forward pass in float64; exact, error 0.

That is a sum over paths for a network that is piecewise linear, with ReLU and pooling. Tried on the data: with the
inputs and all biases times 1024 the outputs must be, too. Tanh, GELU, layer norm and attention fail that.
Source: Neyshabur, Tomioka & Srebro 2015 (arXiv 1503.00036); Neyshabur et al. 2015 (arXiv 1506.02617).

The same under rescalings of units or layers with ReLU, and of weights in front of a batch norm.
certificate: folded and not_folded (names of batch norms).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from landscape.batch_norms import batch_norms
from landscape.errors import UndefinedError
from landscape.losses import prediction
from landscape.measures.execution import call, some_inputs
from landscape.measures.folding import folded, scale_and_shift, standardise
from landscape.measures.row import RESCALINGS, Row, Subject

_FACTOR = 1024.0
"""A power of two: rounding is the same at both scales, so that piecewise linear networks pass exactly."""


@torch.no_grad()
def rows(subject: Subject) -> list[Row]:
    """The path norm."""
    if any(m.training or m.running_mean is None for m in batch_norms(subject.problem.model)):
        raise UndefinedError(
            "path-norm needs batch norms with running statistics: one that takes each batch's own is no set of paths. "
            "Use batch_norm = running."
        )
    found = folded(subject.problem.double(), subject.w.double())
    model = found.problem.model_at(found.problem.weights)
    inputs = some_inputs(found.problem, found.problem.weights)
    for module in batch_norms(model):
        _as_affine_map(module)
    _check_piecewise_linear(model, inputs)
    for parameter in model.parameters():
        parameter.square_()
    ones = tree_map(lambda x: torch.ones_like(x[:1]), inputs)
    total = float(prediction(call(model, ones)).sum())
    certificate = {"folded": list(found.merged), "not_folded": list(found.left)}
    return [Row("path norm", math.sqrt(total), 0.0, certificate, RESCALINGS)]


def _as_affine_map(norm: _BatchNorm) -> None:
    """The same map with s and t as `norm`'s weight and bias, and neutral statistics."""
    scale, shift = scale_and_shift(norm)
    norm.weight, norm.bias = nn.Parameter(scale, requires_grad=False), nn.Parameter(shift, requires_grad=False)
    standardise(norm)


def _check_piecewise_linear(model: nn.Module, inputs: object) -> None:
    """Raise `UndefinedError` unless the outputs grow as the inputs and all biases do."""
    if not all(isinstance(x, Tensor) and x.is_floating_point() for x in tree_leaves(inputs)):
        raise UndefinedError("path-norm needs inputs that are real numbers: paths begin at them. Leave out path-norm.")
    before = prediction(call(model, inputs))
    biases = [p for name, p in model.named_parameters() if name.rpartition(".")[2] == "bias"]
    for bias in biases:
        bias.mul_(_FACTOR)
    after = prediction(call(model, tree_map(lambda x: x * _FACTOR, inputs)))
    for bias in biases:
        bias.div_(_FACTOR)
    if not torch.allclose(after, _FACTOR * before, rtol=1e-6, atol=1e-6 * _FACTOR * float(before.abs().max())):
        raise UndefinedError(
            "path-norm needs a network that is piecewise linear, such as one with ReLU: with inputs and biases times "
            f"{_FACTOR:g} this model's outputs are not (tanh, GELU, layer norm, attention, …). Leave out path-norm."
        )
