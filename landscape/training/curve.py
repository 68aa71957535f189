"""A curve between two networks as one network to be trained: mode connectivity (Garipov et al. 2018).

Minimises E_{t ~ U(0,1)} f(B(t)) over the interior control points of B, by the loop that trains any network: each
step draws one t, so that its gradient is that of the loss at B(t) (arXiv 1802.10026, section 3.1).
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape import seeds
from landscape.aliases import Vector
from landscape.errors import illegal
from landscape.methods.curves import Curve, coefficients, combination
from landscape.spec import CurveSpec

_FIRST, _LAST, _BEND = "first", "last", "bends"


class CurveNetwork(nn.Module):
    """The network at B(t), with t drawn anew at every call in train mode and t = 1/2 in eval mode.

    Its parameters are the interior control points, each a list of tensors in the order and shapes of the network's
    trainable parameters, and start on the straight line, equally spaced; the two ends are buffers. t comes from torch's
    global state, so that SAM's second pass, which goes back to the first's state, sees the same t. Batch norm
    normalises by the batch in train mode; its running statistics, means over points of the curve, belong to none of
    them: recompute them for any use of the network.

    Raises `InputError` when the ends are not weights of this network.
    """

    first: Tensor
    last: Tensor

    def __init__(self, network: nn.Module, first: Tensor, last: Tensor, spec: CurveSpec) -> None:
        super().__init__()
        free = {name: p for name, p in network.named_parameters() if p.requires_grad}
        size = sum(p.numel() for p in free.values())
        for name, end in ((_FIRST, first), (_LAST, last)):
            if end.shape != (size,):
                raise illegal(name, tuple(end.shape), f"a vector of {size} parameters", "Both ends are of one model.")
            self.register_buffer(name, end.detach().clone())
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.kind, self.shapes = spec.kind, {name: p.shape for name, p in free.items()}
        shares = [k / (spec.bends + 1) for k in range(1, spec.bends + 1)]
        line = [combination((1 - s, s), (self.first, self.last)) for s in shares]
        self.bends = nn.ModuleList(nn.ParameterList(map(torch.clone, self._pieces(point))) for point in line)

    def forward(self, *inputs: Tensor) -> Tensor:
        t = seeds.position() if self.training else 0.5
        return functional_call(self.network, self.at(t), inputs)

    def at(self, t: float) -> dict[str, Tensor]:
        """B(t) as the network's parameters by name."""
        weights = coefficients(self.kind, t, len(self.bends) + 2)
        bends = (tuple(bend.parameters()) for bend in self.bends)
        points = (self._pieces(self.first), *bends, self._pieces(self.last))
        return {name: combination(weights, own) for name, *own in zip(self.shapes, *points, strict=True)}

    def _pieces(self, point: Vector) -> tuple[Tensor, ...]:
        parts = point.split([shape.numel() for shape in self.shapes.values()])
        return tuple(part.view(shape) for part, shape in zip(parts, self.shapes.values(), strict=True))


def curve_of(state: Mapping[str, Tensor], spec: CurveSpec) -> Curve:
    """The curve in the state dict of a `CurveNetwork`, with flat control points. Raises `InputError` for another's."""
    bends = [_bend(state, number) for number in range(spec.bends)]
    if _FIRST not in state or _LAST not in state or any(len(bend) != len(state[_FIRST]) for bend in bends):
        raise illegal("state", sorted(state)[:3], f"that of a curve with {spec.bends} bends", "Train one.")
    return Curve(spec.kind, torch.stack([state[_FIRST], *bends, state[_LAST]]))


def _bend(state: Mapping[str, Tensor], number: int) -> Tensor:
    prefix = f"{_BEND}.{number}."
    count = sum(name.startswith(prefix) for name in state)
    parts = [state[name].reshape(-1) for k in range(count) if (name := f"{prefix}{k}") in state]
    return torch.cat(parts) if parts else torch.zeros(0)
