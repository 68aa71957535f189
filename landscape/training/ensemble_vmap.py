"""Any network that `torch.func.vmap` can stack: outputs and gradients of all members as one batched program."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, grad, vmap

from landscape.aliases import Vector
from landscape.losses import prediction
from landscape.training.prepare import Training

Weights = Float[Tensor, "members n"]


class Stacked:
    """Members of one architecture; a member's vector is its trainable parameters in the order of the module.

    Frozen parameters and buffers are each member's own, and stay.
    """

    def __init__(self, trainings: Iterable[Training]) -> None:
        trainings = list(trainings)
        first = trainings[0]
        self.network, self.loss, self.objective = copy.deepcopy(first.model), first.loss, first.objective
        free = {name: p for name, p in first.model.named_parameters() if p.requires_grad}
        self.shapes = {name: p.shape for name, p in free.items()}
        everything = [{**dict(t.model.named_parameters()), **dict(t.model.named_buffers())} for t in trainings]
        self.fixed = {
            name: torch.stack([own[name].detach() for own in everything]) for name in everything[0] if name not in free
        }

    def pack(self, trainings: Iterable[Training]) -> Weights:
        """The weights of all members as rows."""
        return torch.stack([torch.cat([p.detach().reshape(-1) for p in t.parameters]) for t in trainings])

    def unpack(self, row: Vector) -> dict[str, Tensor]:
        """A member's trainable parameters by name."""
        parts = row.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for part, (name, shape) in zip(parts, self.shapes.items(), strict=True)}

    def matrices(self, like: Weights) -> Vector:
        """1 for entries of parameters with at least two axes, 0 for the rest: what ASAM scales and what it does not."""
        ones = like.new_ones(like.shape[1]).split([shape.numel() for shape in self.shapes.values()])
        return torch.cat([part * (len(shape) > 1) for part, shape in zip(ones, self.shapes.values(), strict=True)])

    def arrange(self, inputs: Tensor) -> Tensor:
        """Examples as this engine reads them."""
        return inputs

    def keep(self, members: Tensor) -> None:
        """The other members have ended."""
        self.fixed = {name: values[members] for name, values in self.fixed.items()}

    def gradient(self, weights: Weights, inputs: Tensor, targets: Tensor, count: int, into: Weights) -> Tensor:
        """Write ∂f/∂w of every member on its own batch (members, batch, …); the outputs are returned.

        f is the objective's sum divided by `count`.
        """

        def objective(row: Tensor, fixed: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            outputs = self._outputs(row, fixed, x)
            return self.objective(outputs, y) / count, outputs

        self.network.train()
        # vmap's own "different" would draw other masks than the trainer: networks that draw are refused
        found: Any = vmap(grad(objective, has_aux=True), randomness="error")(weights, self.fixed, inputs, targets)
        into.copy_(found[0])
        return found[1].detach()

    def outputs(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Outputs of every member, in eval mode, on the same examples."""
        self.network.eval()
        return vmap(self._outputs, in_dims=(0, 0, None), randomness="error")(weights, self.fixed, inputs)

    def score(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sum of the plain loss, and hits, of every member; targets (members, batch, …)."""
        hits = vmap(self.loss.hits)(outputs, targets) if self.loss.hits is not None else None
        return vmap(self.loss.total)(outputs, targets), hits

    def _outputs(self, row: Tensor, fixed: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return prediction(functional_call(self.network, {**self.unpack(row), **fixed}, (inputs,)))
