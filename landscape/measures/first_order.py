"""First-order sharpness: the rise of the loss at the point that sharpness-aware training ascends to.

SAM:  f(w + ρ·g/‖g‖₂) − f(w)        (Foret et al. 2021, arXiv 2010.01412, equation 2)
ASAM: f(w + ρ·T²g/‖T g‖₂) − f(w)    (Kwon et al. 2021, arXiv 2102.11600, section 4)

g = ∇f(w), T = |w| + 0.01 for weights and 1 for parameters with at most one axis, which are biases and norms. The
ascended point is the trainer's own (`landscape.training.sam.ascended`). Neither is invariant under rescalings: SAM
has no scale and ASAM adds 0.01 to it.

certificate: gradient (‖g‖₂), zero_gradient (nothing moves then and the value is 0), walls (1 where the loss or the
gradient is not finite; the value is then infinite).
"""

import math

import torch
from torch import Tensor

from landscape.aliases import Vector
from landscape.measures.row import Row, Subject
from landscape.methods.inner import norm
from landscape.problem import Problem
from landscape.training.sam import ascended


def rows(subject: Subject) -> list[Row]:
    """SAM's rise for each of sam_rhos, ASAM's for each of asam_rhos."""
    spec, problem, w = subject.spec, subject.problem, subject.w
    asked = [("SAM", radius) for radius in spec.sam_rhos] + [("ASAM", radius) for radius in spec.asam_rhos]
    if not asked:
        return []
    subject.watch("")
    value, gradient = problem.value_and_gradient(w)
    size = norm(gradient).item()
    found = []
    for kind, radius in asked:
        rise = problem.value(_ascended(problem, w, gradient, radius, kind == "ASAM")) - value if size else 0.0
        finite = math.isfinite(rise)
        certificate = {"gradient": size, "zero_gradient": size == 0, "walls": int(not finite)}
        found.append(Row(f"{kind} ρ={radius:g}", rise if finite else float("inf"), certificate=certificate))
    return found


def _ascended(problem: Problem, w: Vector, gradient: Vector, radius: float, adaptive: bool) -> Tensor:
    """w + ε̂ by the trainer's rule, which looks at parameters and their `.grad`."""
    parameters = [piece.clone().requires_grad_(True) for piece in problem.named(w).values()]
    for parameter, slope in zip(parameters, problem.named(gradient).values(), strict=True):
        parameter.grad = slope
    with ascended(parameters, radius, adaptive):
        return torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
