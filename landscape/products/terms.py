"""The Hessian product of one batch, written in the ways the engines need."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp

from landscape.aliases import Batch, Matvec, Vector
from landscape.products.algebra import MergedNorms

Total = Callable[[Vector, Batch], Tensor]
"""(w, batch) ↦ the loss summed over the batch, a scalar."""

AtBatch = Callable[[Vector, Batch], Matvec]
"""(w, batch) ↦ the product with the batch's matrix at w."""


@dataclass(frozen=True)
class Terms:
    """A curvature matrix that is a sum over batches.

    plain: the reference, which keeps nothing between products. recordable: other ways to the same product, whose
    operations are worth recording, the best first. gradient: (w, batch) ↦ gradient of the batch's loss, where
    the matrix is its derivative.
    """

    plain: AtBatch
    recordable: tuple[AtBatch, ...]
    gradient: Callable[[Vector, Batch], Vector] | None = None


def hessian_terms(total: Total, mergeable: bool = False) -> Terms:
    """The Hessian of `total`: double backward, forward over reverse, and the gradient itself.

    mergeable: whether the model has normalisations to merge (`algebra.MergedNorms`).
    """

    def gradient(w: Vector, batch: Batch, graph: bool = False) -> tuple[Vector, Vector]:
        with torch.enable_grad():
            leaf = w.detach().requires_grad_(True)
            loss = total(leaf, batch)
            found = torch.autograd.grad(loss, leaf, create_graph=graph, materialize_grads=True)[0]
        return found, leaf

    def plain(w: Vector, batch: Batch) -> Matvec:
        def product(v: Vector) -> Vector:
            found, leaf = gradient(w, batch, graph=True)
            return derivative(found, leaf, v)

        return product

    def retained(w: Vector, batch: Batch) -> Matvec:
        found, leaf = gradient(w, batch, graph=True)
        return lambda v: derivative(found, leaf, v, retain=True)

    def forward_over_reverse(w: Vector, batch: Batch) -> Matvec:
        return lambda v: jvp(grad(lambda x: total(x, batch)), (w.detach(),), (v,))[1]

    def merged(w: Vector, batch: Batch) -> Matvec:
        def rewritten(x: Vector) -> Tensor:
            with MergedNorms():
                return total(x, batch)

        return lambda v: jvp(grad(rewritten), (w.detach(),), (v,))[1]

    ways = (merged, forward_over_reverse, retained) if mergeable else (forward_over_reverse, retained)
    return Terms(plain, ways, lambda w, batch: gradient(w, batch)[0])


def derivative(gradient: Tensor, leaf: Tensor, v: Vector, retain: bool = False) -> Vector:
    """(∂gradient/∂leaf)ᵀ·v, zero where the gradient does not depend on the leaf (a linear function)."""
    if not gradient.requires_grad:
        return torch.zeros_like(leaf)
    with torch.enable_grad():
        return torch.autograd.grad(gradient, leaf, v, retain_graph=retain, materialize_grads=True)[0]
