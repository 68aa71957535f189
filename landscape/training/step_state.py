"""What a step remembers beside the optimiser's state: the scale of float16 losses and Friendly-SAM's mean gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from landscape.spec import TrainSpec
from landscape.training import foreach

_SCALE, _GROWTH, _MEAN = "scaler.scale", "scaler.growth", "mean."


@dataclass
class StepState:
    """scaler: torch's, None unless the precision is float16. mean: Friendly-SAM's m_t, empty before the first step.

    stacks: whether m-SAM's shards may be tried as one batched program; found out anew by every process.
    """

    scaler: GradScaler | None = None
    mean: list[Tensor] = field(default_factory=list)
    stacks: bool = True

    @property
    def scale(self) -> float:
        """What losses are multiplied by before their backward pass."""
        return 1.0 if self.scaler is None else self.scaler.get_scale()

    def check_overflow(self, optimiser: Optimizer) -> None:
        """Let torch's scaler look at the final gradients, which every pass has unscaled, before they are clipped.

        The scaler wants to unscale them itself. Scales are powers of two, so scaling first changes no bit.
        """
        if self.scaler is not None:
            gradients = _gradients(optimiser)
            if gradients:
                foreach.multiply_(gradients, self.scale)
                self.scaler.unscale_(optimiser)

    def step(self, optimiser: Optimizer) -> None:
        """One step of the optimiser; in float16 none when a gradient overflowed, and then the scale is halved."""
        if self.scaler is None or not _gradients(optimiser):
            optimiser.step()
            return
        self.scaler.step(optimiser)
        self.scaler.update()

    def tensors(self) -> dict[str, Tensor]:
        """Everything as named tensors; nothing for a plain training."""
        named = {f"{_MEAN}{i}": m for i, m in enumerate(self.mean)}
        if self.scaler is not None:
            state = self.scaler.state_dict()
            named[_SCALE] = torch.tensor(state["scale"], dtype=torch.float64)
            named[_GROWTH] = torch.tensor(state["_growth_tracker"])
        return named

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> None:
        """Undo `tensors`."""
        if any(name.startswith(_MEAN) for name in tensors):
            self.mean[:] = [torch.empty_like(p).copy_(tensors[f"{_MEAN}{i}"]) for i, p in enumerate(parameters)]
        if self.scaler is not None and _SCALE in tensors:
            state = self.scaler.state_dict()
            state["scale"], state["_growth_tracker"] = tensors[_SCALE].item(), int(tensors[_GROWTH].item())
            self.scaler.load_state_dict(state)


def step_state(spec: TrainSpec, device: torch.device) -> StepState:
    """That of a training that begins."""
    return StepState(GradScaler(device.type) if spec.precision == "float16" else None)


def _gradients(optimiser: Optimizer) -> list[Tensor]:
    return [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
