"""Curvature operators beside the Hessian, each a sum over batches of a pure function of (w, batch, v).

With J_i the Jacobian of the outputs for term i of the loss, H_L,i the curvature of that term in its outputs
and g_i = J_iᵀ∇L_i its gradient:

    generalised Gauss-Newton   G = (1/N) Σ_i J_iᵀ H_L,i J_i        (the Hessian without the network's own curvature)
    empirical Fisher           F = (1/N) Σ_i g_i g_iᵀ
    sampled Fisher             the same with one target per term drawn from the model's own distribution; its mean is G

A term takes one forward-mode and one reverse-mode product with J, so it needs first derivatives of the model
alone. Sources: Schraudolph 2002; Martens 2020 (arXiv 1412.1193); Kunstner, Balles & Hennig 2019 (1905.12558) on
the empirical Fisher being another matrix.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import jvp
from torch.func import vjp as _vjp
from torch.utils._pytree import tree_flatten, tree_unflatten

from landscape import seeds
from landscape.aliases import Batch, Vector
from landscape.errors import InputError, illegal
from landscape.likelihoods import Likelihood

OPERATORS = ("hessian", "ggn", "fisher-empirical", "fisher-sampled")

Outputs = Callable[[Tensor, Any], Any]
"""The model as a function of the flat vector and a batch's inputs."""

Term = Callable[[Tensor, Batch, Tensor], Tensor]
"""term(w, batch, v) -> (n,): the operator's product with v, summed over the batch and not divided by N."""

OUTPUT_BYTES = 1 << 26
"""A part of a batch whose outputs are larger than this is taken in smaller ones; about six copies are alive at once."""


def operator_term(operator: str, outputs_of: Outputs, loss: Any) -> Term:
    """The term of `ggn`, `fisher-empirical` or `fisher-sampled`.

    loss: sums over its batch; where it has a `likelihood`, derivatives with respect to the outputs are closed
    forms, else they come from differentiating the loss twice at the outputs. The batches of `fisher-sampled`
    have `Drawn` targets. Without a likelihood, Fisher's terms are the outputs' first axis.
    """
    likelihood = getattr(loss, "likelihood", None)
    if operator == "ggn":
        return _gauss_newton(outputs_of, loss, likelihood)
    if operator == "fisher-empirical":
        return _fisher(outputs_of, likelihood.gradient if likelihood else _gradient_of(loss), likelihood)
    if operator == "fisher-sampled":
        score = _likelihood_of(loss).score
        return _fisher(outputs_of, lambda outputs, targets: score(outputs, targets.drawn), likelihood)
    raise illegal("operator", operator, f"one of {', '.join(OPERATORS)}", "Fisher matrices are named with a dash.")


class Drawn(NamedTuple):
    """A batch's own targets, and those drawn from the model's predictive distribution."""

    targets: Any
    drawn: Tensor


def drawn_targets(outputs_of: Outputs, loss: Any, w: Vector, batch: Batch, seed: int, *name: object) -> Drawn:
    """The batch's targets with drawn ones, from the predictive distribution at w: the same for the same name."""
    inputs, targets = batch
    with torch.no_grad():
        drawn = _likelihood_of(loss).draw(outputs_of(w, inputs), targets, seeds.stream(seed, "fisher", *name))
    return Drawn(targets, drawn)


def _likelihood_of(loss: Any) -> Likelihood:
    likelihood = getattr(loss, "likelihood", None)
    if likelihood is None:
        raise InputError(
            f"the loss {_name(loss)} has no predictive distribution to draw targets from. Use one of the losses by "
            "name (cross_entropy, mse, …), or the operator ggn or fisher-empirical."
        )
    return likelihood


def _gauss_newton(outputs_of: Outputs, loss: Any, likelihood: Likelihood | None) -> Term:
    def term(w: Tensor, batch: Batch, v: Tensor) -> Tensor:
        inputs, targets = batch
        flat = _FlatOutputs(outputs_of, inputs)
        tangents = _jacobian_product(flat, w, v)
        outputs, pull = vjp(flat, w)
        if likelihood is not None:
            return pull((likelihood.curvature(outputs[0], targets, tangents[0]),))[0]
        return pull(_curvature_by_differentiation(flat, loss, outputs, targets, tangents))[0]

    return term


def _fisher(outputs_of: Outputs, gradient: Any, likelihood: Likelihood | None) -> Term:
    within = likelihood.within if likelihood is not None else _within_row

    def term(w: Tensor, batch: Batch, v: Tensor) -> Tensor:
        inputs, targets = batch
        flat = _FlatOutputs(outputs_of, inputs)
        tangents = _jacobian_product(flat, w, v)
        outputs, pull = vjp(flat, w)
        if len(outputs) > 1:
            raise InputError("the Fisher operators need a model that returns one tensor of outputs. Use ggn.")
        residual = gradient(outputs[0], targets)
        return pull((residual * within(residual * tangents[0]),))[0]

    return term


def _gradient_of(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, targets: vjp(lambda o: loss(o, targets), outputs)[1](outputs.new_ones(()))[0]


def _within_row(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1).view(-1, *(1,) * (x.dim() - 1)) if x.dim() > 1 else x


def _curvature_by_differentiation(
    flat: "_FlatOutputs", loss: Any, outputs: tuple[Tensor, ...], targets: Any, tangents: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """H_L u by a reverse product with the derivative of ∂L/∂o, which is symmetric."""

    def total(*o: Tensor) -> Tensor:
        return loss(flat.restore(o), targets)

    def gradient(*o: Tensor) -> tuple[Tensor, ...]:
        value, pull = vjp(total, *o)
        return pull(torch.ones_like(value))

    try:
        return vjp(gradient, *outputs)[1](tangents)
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented" not in str(error) and "not differentiable" not in str(error):
            raise
        raise InputError(
            f"the loss {_name(loss)} cannot be differentiated twice ({str(error).splitlines()[0]}). "
            "Use the operator fisher-empirical."
        ) from error


def _jacobian_product(function: Callable[[Tensor], Any], w: Tensor, v: Tensor) -> Any:
    """J v: forward mode, or where an operation has none, the derivative of u ↦ Jᵀu, which is linear in u."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.func's own use of torch.jit
            return jvp(function, (w,), (v,))[1]
    except NotImplementedError:
        outputs, pull = vjp(function, w)
        _, transposed = vjp(lambda *u: pull(u)[0], *(torch.zeros_like(o) for o in outputs))
        return transposed(v)


class _FlatOutputs:
    """The model as a function of w alone whose value is a tuple of floating-point tensors."""

    def __init__(self, outputs_of: Outputs, inputs: Any):
        self.outputs_of, self.inputs = outputs_of, inputs
        self.parts: _Parts | None = None

    def __call__(self, w: Tensor) -> tuple[Tensor, ...]:
        leaves, structure = tree_flatten(self.outputs_of(w, self.inputs))
        chosen = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.is_floating_point()]
        self.parts = _Parts([None if i in chosen else x for i, x in enumerate(leaves)], chosen, structure)
        return tuple(leaves[i] for i in chosen)

    def restore(self, outputs: tuple[Tensor, ...]) -> Any:
        """What the model returned, with these tensors in it."""
        assert self.parts is not None
        leaves = list(self.parts.rest)
        for i, x in zip(self.parts.chosen, outputs, strict=True):
            leaves[i] = x
        return tree_unflatten(leaves, self.parts.structure)


class _Parts(NamedTuple):
    rest: list[Any]
    chosen: list[int]
    structure: Any


def vjp(function: Callable[..., Any], *primals: Tensor) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp` without auxiliary outputs, as type checkers can follow it."""
    value, pull = _vjp(function, *primals)[:2]
    return value, pull


def _name(loss: Any) -> str:
    return getattr(loss, "name", getattr(loss, "__name__", type(loss).__name__))
