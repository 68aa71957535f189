"""Perceptrons side by side: forward and backward pass of a whole stack as a few batched matrix products.

A layer of all members is one (members, outputs, inputs + 1) array whose last column is the bias, and activations are
columns over a last row of ones: z = W·h and ∂f/∂W = δ·hᵀ are then one `torch.bmm` each, bias included. On a CPU this is
several times faster than `torch.func.vmap` of the gradient, whose cost for small layers is that of its dispatch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from landscape.aliases import Vector
from landscape.training.ensemble_heads import Head, head_of
from landscape.training.prepare import Training

Weights = Float[Tensor, "members n"]

_Pointwise = tuple[Callable[[Tensor, Tensor], object], Callable[[Tensor, Tensor, Tensor], object]]


def _relu_back(delta: Tensor, z: Tensor, h: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(delta, z, 0, grad_input=delta)


def _tanh_back(delta: Tensor, z: Tensor, h: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(delta, h, grad_input=delta)


_ACTIVATIONS: dict[type[nn.Module], _Pointwise] = {
    nn.ReLU: (lambda z, h: torch.clamp_min(z, 0, out=h), _relu_back),
    nn.Tanh: (lambda z, h: torch.tanh(z, out=h), _tanh_back),
    nn.Identity: (lambda z, h: h.copy_(z), lambda delta, z, h: None),
}
"""An activation into its array h, and δ ← δ·φ'(z) in place."""


@dataclass(frozen=True)
class _Layer:
    """A linear layer with the activation that follows it; its weights begin at `start` of a member's vector."""

    name: str
    outputs: int
    inputs: int
    start: int
    activation: type[nn.Module]

    @property
    def size(self) -> int:
        return self.outputs * (self.inputs + 1)

    def of(self, weights: Weights) -> Tensor:
        """(members, outputs, inputs + 1) of these weights: a view."""
        part = weights[:, self.start : self.start + self.size]
        return part.view(len(weights), self.outputs, self.inputs + 1)


class Chain:
    """Stacked perceptrons of one architecture; a member's vector is W and b of each layer, row by row."""

    def __init__(self, layers: list[_Layer], head: Head) -> None:
        self.layers, self.head = layers, head
        self._arrays: dict[tuple[int, int], tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]] = {}

    @staticmethod
    def of(training: Training) -> "Chain | None":
        """The chain that computes what this model does; None where it is no plain perceptron."""
        head, layers = head_of(training.loss.name, training.spec.label_smoothing), _layers(training)
        return Chain(layers, head) if layers and head is not None else None

    def pack(self, trainings: Iterable[Training]) -> Weights:
        """The weights of all members as rows."""
        states = [dict(training.model.named_parameters()) for training in trainings]
        return torch.stack([self._row(state) for state in states])

    def unpack(self, row: Vector) -> dict[str, Tensor]:
        """A member's weights by name."""
        named = {}
        for layer in self.layers:
            both = layer.of(row[None])[0]
            named[f"{layer.name}weight"], named[f"{layer.name}bias"] = both[:, :-1], both[:, -1]
        return named

    def matrices(self, like: Weights) -> Vector:
        """1 for entries of weight matrices, 0 for biases: what ASAM scales and what it does not."""
        mask = torch.ones_like(like[:1])
        for layer in self.layers:
            layer.of(mask)[..., -1] = 0
        return mask[0]

    def arrange(self, inputs: Tensor) -> Tensor:
        """Examples as this engine reads them: flat, with a last entry of 1."""
        flat = inputs.reshape(len(inputs), -1)
        return torch.cat([flat, torch.ones_like(flat[:, :1])], 1).contiguous()

    def keep(self, members: Tensor) -> None:
        """The other members have ended."""
        self._arrays.clear()

    def gradient(self, weights: Weights, inputs: Tensor, targets: Tensor, count: int, into: Weights) -> Tensor:
        """Write ∂f/∂w of every member on its own batch; the outputs (members, outputs, batch) are returned.

        inputs: (members, batch, inputs + 1). f is the objective's sum divided by `count`.
        """
        zs, hs, deltas, products = self._arrays_for(weights, inputs.shape[1])
        outputs = self._forward(weights, inputs, zs, hs)
        delta = self.head.derivative(outputs, targets, count)
        for i in reversed(range(len(self.layers))):
            layer = self.layers[i]
            before = inputs if i == 0 else hs[i - 1].transpose(1, 2)
            torch.bmm(delta, before, out=products[i])
            layer.of(into).copy_(products[i])
            if i:
                torch.bmm(layer.of(weights)[..., :-1].transpose(1, 2), delta, out=deltas[i - 1])
                delta = deltas[i - 1]
                _ACTIVATIONS[self.layers[i - 1].activation][1](delta, zs[i - 1], hs[i - 1][:, :-1])
        return outputs

    def outputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        """(members, outputs, examples) of every member on the same examples (examples, inputs + 1)."""
        zs, hs, _, _ = _new_arrays(self.layers, weights, len(inputs), forward_only=True)
        return self._forward(weights, inputs.expand(len(weights), *inputs.shape), zs, hs)

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sum of the plain loss, and hits, of every member; targets (members, batch, …)."""
        return self.head.score(outputs, targets)

    def _forward(self, weights: Weights, inputs: Tensor, zs: list[Tensor], hs: list[Tensor]) -> Tensor:
        h = inputs.transpose(1, 2)
        for i, layer in enumerate(self.layers):
            torch.bmm(layer.of(weights), h, out=zs[i])
            if i < len(hs):
                _ACTIVATIONS[layer.activation][0](zs[i], hs[i][:, :-1])
                h = hs[i]
        return zs[-1]

    def _arrays_for(self, weights: Weights, batch: int) -> tuple[list[Tensor], ...]:
        key = len(weights), batch
        if key not in self._arrays:
            self._arrays[key] = _new_arrays(self.layers, weights, batch)
        return self._arrays[key]

    def _row(self, named: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for layer in self.layers:
            weight, bias = named[f"{layer.name}weight"].detach(), named[f"{layer.name}bias"].detach()
            parts.append(torch.cat([weight, bias[:, None]], 1).reshape(-1))
        return torch.cat(parts)


def _new_arrays(
    layers: list[_Layer], like: Weights, batch: int, forward_only: bool = False
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """z of each layer; h of the hidden ones, over a row of ones; δ of the hidden ones; ∂f/∂W of each."""
    hidden, members = layers[:-1], len(like)
    zs = [like.new_empty(members, layer.outputs, batch) for layer in layers]
    hs = [like.new_ones(members, layer.outputs + 1, batch) for layer in hidden]
    if forward_only:
        return zs, hs, [], []
    deltas = [like.new_empty(members, layer.outputs, batch) for layer in hidden]
    return zs, hs, deltas, [like.new_empty(members, layer.outputs, layer.inputs + 1) for layer in layers]


def _layers(training: Training) -> list[_Layer]:
    """The layers of a plain perceptron; none where anything else is found."""
    layers: list[_Layer] = []
    flat, start = training.train[0].dim() == 2, 0
    for name, module in _steps(training.model):
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return []
        if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1) and not layers:
            flat = True
        elif type(module) is nn.Linear and module.bias is not None:
            layers.append(_Layer(name, module.out_features, module.in_features, start, nn.Identity))
            start += layers[-1].size
        elif type(module) in _ACTIVATIONS and layers and layers[-1].activation is nn.Identity:
            last = layers.pop()
            layers.append(_Layer(last.name, last.outputs, last.inputs, last.start, type(module)))
        else:
            return []
    whole = sum(p.numel() for p in training.parameters) == start == sum(p.numel() for p in training.model.parameters())
    shared = len(training.parameters) != 2 * len(layers)
    if not layers or not flat or not whole or shared or layers[-1].activation is not nn.Identity:
        return []
    return layers


def _steps(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of nested `nn.Sequential`s in the order in which they are called."""
    if type(module) is not nn.Sequential:
        yield prefix, module
        return
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        yield prefix, module  # not called as a plain sequence
        return
    for name, child in module.named_children():
        yield from _steps(child, f"{prefix}{name}.")
