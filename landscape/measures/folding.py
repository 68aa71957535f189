"""Batch norm folded into the weights in front of it: the same function with fewer parameters.

A batch norm with fixed statistics behind a linear or convolutional layer, γ/√(v + ε)·(W∗x + b − μ) + β, is that layer
with weights sW and bias s(b − μ) + β, s = γ/√(v + ε). Noise on W means nothing before this: the function does not
change when W, μ and √(v + ε) grow alike. Jiang et al. 2020 (arXiv 1912.02178), appendix C, fold first, too.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from landscape.aliases import Vector
from landscape.batch_norms import batch_norms
from landscape.kernels import twice_differentiable
from landscape.measures.execution import call, some_inputs
from landscape.problem import Problem

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Folded(NamedTuple):
    """The problem at its own `weights`, names of the batch norms that were folded, and of those that were not."""

    problem: Problem
    merged: tuple[str, ...]
    left: tuple[str, ...]


def folded(problem: Problem, w: Vector) -> Folded:
    """The same function at w, with each batch norm folded that directly follows a linear or convolutional layer.

    The order of execution decides: what is folded normalises the output of a layer that nothing else reads, both
    called once and sharing no parameter. A batch norm that takes each batch's own statistics stays as it is. A new
    weight or bias is trainable where one of the parameters that went into it was.
    """
    model = problem.model_at(w)
    names = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    pairs = _pairs(model, some_inputs(problem, w)) if names else {}
    for norm, layer in pairs.items():
        fold(model.get_submodule(layer), model.get_submodule(norm))
    twin = Problem(model, problem.loss, problem.batches, problem.batch_norm, problem.engine)
    return Folded(twin, tuple(pairs), tuple(name for name in names if name not in pairs))


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """s and t (channels,) of the affine map s·x + t that a batch norm with fixed statistics is."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


def standardise(norm: _BatchNorm) -> None:
    """Mean 0 and variance 1 as the statistics of `norm`, so that its weight and bias are all it does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)


@torch.no_grad()
def fold(layer: nn.Module, norm: nn.Module) -> None:
    """Move `norm`'s map into `layer`, in place; `norm` stays in the model as the identity."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    assert isinstance(norm, _BatchNorm)
    scale, shift = scale_and_shift(norm)
    weight, bias = layer.weight, layer.bias
    moved = shift if bias is None else shift + bias * scale
    scaled = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    layer.weight = nn.Parameter(scaled, requires_grad=_trainable(weight, norm.weight))
    layer.bias = nn.Parameter(moved, requires_grad=_trainable(bias, norm.bias))
    norm.register_parameter("weight", None)
    norm.register_parameter("bias", None)
    standardise(norm)


def _trainable(*parameters: Tensor | None) -> bool:
    return any(p is not None and p.requires_grad for p in parameters)


def _pairs(model: nn.Module, inputs: Any) -> dict[str, str]:
    """Names of batch norms that can be folded, each with the name of its layer."""
    watch = _Watch()
    with ExitStack() as hooks, torch.no_grad(), twice_differentiable(model), watch:
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                hooks.callback(module.register_forward_hook(watch.made_by(name)).remove)
            elif isinstance(module, _BatchNorm):
                hooks.callback(module.register_forward_hook(watch.normed_by(name)).remove)
        watch.read(call(model, inputs))
    shared = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    fixed = [norm for norm in batch_norms(model) if not norm.training and norm.running_mean is not None]
    return {
        norm: layer
        for norm, layer in watch.pairs()
        if model.get_submodule(norm) in fixed and _foldable(model.get_submodule(layer), shared)
        and _own(model.get_submodule(norm), shared)
    }  # fmt: skip


def _foldable(layer: nn.Module, shared: Counter[int]) -> bool:
    """Whether its weight is a parameter, not made from others (parametrisations), and is no other module's."""
    return isinstance(layer._parameters.get("weight"), Tensor) and _own(layer, shared)


def _own(module: nn.Module, shared: Counter[int]) -> bool:
    return all(shared[id(p)] == 1 for p in module.parameters(recurse=False))


@dataclass(frozen=True)
class _Made:
    """An output, kept so that its id stays its own, and the layer it is of."""

    output: Tensor
    layer: str


class _Watch(TorchFunctionMode):
    """Inside, notices which batch norm is given which layer's output, and how often each output is read."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, _Made] = {}
        self.reads: Counter[int] = Counter()
        self.calls: Counter[str] = Counter()
        self.normed: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(x, Tensor) for x in tree_leaves(out)):  # asking for a shape is not reading
            self.read((args, kwargs))
        return out

    def read(self, tree: Any) -> None:
        """Count the layers' outputs in `tree`."""
        self.reads.update(id(x) for x in tree_leaves(tree) if isinstance(x, Tensor) and id(x) in self.made)

    def made_by(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self.calls[name] += 1
            if isinstance(module, _CONVOLUTIONS) or output.dim() == 2:  # else the channels lie on different axes
                self.made[id(output)] = _Made(output, name)

        return hook

    def normed_by(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self.calls[name] += 1
            if args and id(args[0]) in self.made:
                self.normed[name] = id(args[0])

        return hook

    def pairs(self) -> list[tuple[str, str]]:
        """(batch norm, layer) where both are called once and the layer's output is read by the batch norm alone."""
        found = [(norm, self.made[at].layer, self.reads[at]) for norm, at in self.normed.items()]
        return [(n, layer) for n, layer, reads in found if reads == self.calls[n] == self.calls[layer] == 1]
