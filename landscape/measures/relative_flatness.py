"""Relative flatness of one layer: its curvature, weighted by the inner products of its neurons' weights.

    κ = Σ_{s,s'} ⟨w_s, w_s'⟩ · tr H_{s,s'},

w_s row s of the layer's weight W (neurons, inputs), H_{s,s'} the (inputs, inputs) block of the Hessian of the mean loss
in W that belongs to the rows s and s'. With WWᵀ = LLᵀ, L (neurons, rank),

    κ = tr (WWᵀ ⊗ I) H = tr (Lᵀ ⊗ I) H (L ⊗ I),

the trace of a symmetric matrix of rank·inputs rows, which is never formed: by as many Hessian products as it has rows
when these are few, otherwise by deflation and random probes (as `landscape.trace`), to the tolerance and within the
budget that are that measure's defaults. Source: Petzka et al. 2021 (arXiv 2001.00939), definition 3.

The same when the whole layer is scaled by α and what it feeds by 1/α, and when its neurons are, each by its own factor.
It moves when the units that feed the layer are scaled by different factors, which changes the ⟨w_s, w_s'⟩.
error: one standard error, 0 when exact. certificate: layer, exact, products, converged.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from landscape import seeds
from landscape.aliases import Vector
from landscape.errors import InputError, UndefinedError, illegal
from landscape.measures.execution import calls
from landscape.measures.row import Row, Subject
from landscape.methods.deflation import deflate
from landscape.methods.probing import ControlledProbes
from landscape.problem import Problem
from landscape.products.product import Product
from landscape.products.several import AT_ONCE
from landscape.spec import TraceSpec

EXACT = 1000
"""Up to so many products are taken for the exact number."""

_LOOKS = 8
_STEPS = 100


def rows(subject: Subject) -> list[Row]:
    """κ of `spec.layer`."""
    name = _layer(subject)
    problem = subject.problem.restricted([name], subject.w)
    W = problem.named(problem.weights)[name]
    operator = _Weighted(problem.hessian(problem.weights, many=True), _factor(W), W)
    value, error, certificate = (_exact if operator.size <= EXACT else _estimated)(operator, subject)
    return [
        Row(f"relative flatness {name}", value, error, {"layer": name, **certificate}, ("relu-layer", "batch-norm"))
    ]


def asked_layer(problem: Problem, w: Vector, asked: str | None) -> str | None:
    """The weight that `layer` = asked names, itself or by its module; `InputError` where that is none."""
    if asked is None:
        return None
    pieces = problem.named(w)
    name = f"{asked}.weight" if asked not in pieces and f"{asked}.weight" in pieces else asked
    if name not in _matrices(problem, w):
        raise illegal("layer", asked, _legal(problem, w), "Name another layer.")
    return name


def _layer(subject: Subject) -> str:
    """The name of the weight: what `spec.layer` names, or the weight of the last linear layer called."""
    problem, w = subject.problem, subject.w
    if name := asked_layer(problem, w, subject.spec.layer):
        return name
    linear = [step.name for step in calls(problem, w) if isinstance(step.module, nn.Linear)]
    names = [f"{name}.weight" if name else "weight" for name in linear]
    found = [name for name in names if name in _matrices(problem, w)]
    if not found:
        raise UndefinedError(
            f"relative-flatness needs a trainable linear layer, and finds none. Set layer to {_legal(problem, w)}."
        )
    return found[-1]


def _matrices(problem: Problem, w: Vector) -> list[str]:
    return [name for name, piece in problem.named(w).items() if piece.dim() == 2]


def _legal(problem: Problem, w: Vector) -> str:
    return f"a weight with two axes ({', '.join(_matrices(problem, w)) or 'the model has none'})"


def _factor(W: Float[Tensor, "neurons inputs"]) -> Float[Tensor, "neurons rank"]:
    """L with LLᵀ = WWᵀ: left singular vectors times singular values, without those that are zero."""
    left, values, _ = torch.linalg.svd(W.double(), full_matrices=False)
    kept = values > torch.finfo(W.dtype).eps * max(W.shape) * values.max()
    return (left[:, kept] * values[kept]).to(W.dtype)


@dataclass(frozen=True)
class _Weighted:
    """(Lᵀ ⊗ I) H (L ⊗ I), on vectors of rank·inputs entries."""

    product: Product
    factor: Float[Tensor, "neurons rank"]
    W: Float[Tensor, "neurons inputs"]

    @property
    def size(self) -> int:
        return self.factor.shape[1] * self.W.shape[1]

    def rows(self, vectors: Float[Tensor, "p m"]) -> Float[Tensor, "p m"]:
        raised = (self.factor @ vectors.view(len(vectors), -1, self.W.shape[1])).flatten(1)
        images = self.product.rows(raised)
        return (self.factor.T @ images.view(len(vectors), *self.W.shape)).flatten(1)

    def __call__(self, v: Vector) -> Vector:
        return self.rows(v[None])[0]


def _exact(operator: _Weighted, subject: Subject) -> tuple[float, float, dict]:
    total, W = 0.0, operator.W
    for row in range(0, operator.size, AT_ONCE):
        subject.watch(f"{row} of {operator.size} products")
        entries = torch.arange(row, min(row + AT_ONCE, operator.size), device=W.device)
        units = W.new_zeros(len(entries), operator.size).scatter_(1, entries[:, None], 1.0)
        total += float((units * operator.rows(units)).double().sum())
    if not math.isfinite(total):
        raise InputError("a Hessian product at these weights is not finite. Check the weights and the data.")
    return total, 0.0, {"exact": True, "products": operator.size, "converged": True}


def _estimated(operator: _Weighted, subject: Subject) -> tuple[float, float, dict]:
    """Deflated Hutchinson to the tolerance of `TraceSpec`, within its budget of products."""
    spec, like = TraceSpec(), operator.W.new_empty(operator.size)
    seed: Callable[..., torch.Generator] = lambda *name: seeds.stream(  # noqa: E731
        subject.spec.measure_seed, "relative-flatness", *name
    )
    known = deflate(operator, seeds.gaussian(seed("start"), 1, like)[0], spec.tolerance, _STEPS, spec.max_matvecs)
    budget = spec.max_matvecs - known.matvecs
    probes, until, converged = ControlledProbes(like, budget), spec.min_probes, False
    value = error = math.nan
    while not converged and len(probes) < budget:
        for number in range(len(probes), min(until, budget)):
            z = seeds.rademacher(seed(number), 1, like)[0]
            probes.add(z, known.project(operator(known.project(z))))
        found = probes.summary(details=False)
        value, error = known.trace + found.mean, found.standard_error
        subject.watch(f"{value:.4g} ± {error:.2g}")
        converged = bool(error <= spec.tolerance * abs(value))
        until = len(probes) + max(1, len(probes) // _LOOKS)
    return value, error, {"exact": False, "products": known.matvecs + len(probes), "converged": converged}
