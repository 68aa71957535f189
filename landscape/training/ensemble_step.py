"""SAM, clipping and the base optimisers on stacked weights: each row of an array is one member.

The formulas are those of `landscape.training.sam` and `torch.optim`, every norm over one row.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.spec import TrainSpec

Weights = Float[Tensor, "members n"]
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # torch's defaults, which the trainer uses


def norms(rows: Weights) -> Float[Tensor, "members 1"]:
    """ℓ2 norm of each row, as a sum of squares."""
    return rows.square().sum(1, keepdim=True).sqrt_()


def ascended(weights: Weights, gradient: Weights, rho: Tensor, spec: TrainSpec, matrices: Vector) -> Weights:
    """w + ε̂ of every member: ε̂ = ρ·g/(‖g‖₂ + 1e-12), for ASAM ρ·T²g/(‖T g‖₂ + 1e-12); ρ is (members, 1).

    T = |w| + η where `matrices` is 1, and 1 elsewhere. Neither argument changes.
    """
    if not spec.adaptive:
        return torch.addcmul(weights, gradient, rho / (norms(gradient) + 1e-12))
    scale = weights.abs().add_(spec.eta - 1).mul_(matrices).add_(1)
    scaled = gradient * scale
    return torch.addcmul(weights, scaled.mul(rho / (norms(scaled) + 1e-12)), scale)


def clip(gradient: Weights, limit: Tensor) -> None:
    """g ← g·min(1, limit/(‖g‖₂ + 1e-6)) of every member, as `torch.nn.utils.clip_grad_norm_`; limit is (members, 1)."""
    gradient.mul_((limit / (norms(gradient) + 1e-6)).clamp_max_(1))


class Optimiser:
    """sgd, adam or adamw on stacked weights, with each member's own learning rate and weight decay.

    Members share all else: kind, momentum, Nesterov, schedule.
    """

    def __init__(self, specs: Sequence[TrainSpec], like: Weights) -> None:
        self.spec, self.steps = specs[0], 0
        # As long as the weights: a factor that is one number per row takes torch several times longer to apply.
        self.rate, self.decay = (
            like.new_tensor(values)[:, None].expand_as(like).contiguous()
            for values in ([s.learning_rate for s in specs], [s.weight_decay for s in specs])
        )
        self.decays = any(s.weight_decay for s in specs)
        self.first = torch.zeros_like(like)
        self.second = torch.zeros_like(like) if self.spec.optimiser != "sgd" else None
        self.work = torch.empty_like(like)

    def step(self, weights: Weights, gradient: Weights, factor: float) -> None:
        """One step from `weights`, in place, at `factor` times the learning rates; the gradient may change."""
        self.steps += 1
        if self.decays and self.spec.optimiser == "adamw":
            weights.mul_(torch.mul(self.rate, self.decay, out=self.work).mul_(-factor).add_(1))
        elif self.decays:
            gradient.addcmul_(weights, self.decay)
        if self.second is None:
            self._descend(weights, gradient, factor)
            return
        self.first.lerp_(gradient, 1 - _BETA1)
        self.second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        # m̂/(√v̂ + eps) = (√c₂/c₁)·m/(√v + eps·√c₂), with c the bias corrections
        first, second = 1 - _BETA1**self.steps, (1 - _BETA2**self.steps) ** 0.5
        torch.sqrt(self.second, out=self.work)
        torch.div(self.first, self.work.add_(_EPS * second), out=self.work)
        weights.addcmul_(self.work, self.rate, value=-factor * second / first)

    def keep(self, members: Tensor) -> None:
        """The other members have ended."""
        self.rate, self.decay, self.first = self.rate[members], self.decay[members], self.first[members]
        self.second = self.second[members] if self.second is not None else None
        self.work = torch.empty_like(self.rate)

    def _descend(self, weights: Weights, gradient: Weights, factor: float) -> None:
        if self.spec.momentum:
            self.first.mul_(self.spec.momentum).add_(gradient)
            if self.spec.nesterov:
                gradient.add_(self.first, alpha=self.spec.momentum)
            else:
                gradient = self.first
        weights.addcmul_(gradient, self.rate, value=-factor)
