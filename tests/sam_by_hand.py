"""Training by the papers' formulas on one flat vector of weights: what the trainer's variants of SAM must equal.

Nothing of the trainer is used but the order of the examples.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from landscape import seeds
from landscape.data.dataset import Dataset
from landscape.spec import TrainSpec


class ByHand:
    """A network's flat weights and buffers, moved by steps of the formulas.

    parts(examples) -> sizes of the pieces of one forward pass; shards(examples) -> sizes of m-SAM's shards.
    """

    def __init__(self, model: nn.Module, spec: TrainSpec, parts: Callable, shards: Callable) -> None:
        self.model, self.spec, self.parts, self.shards = model.train(), spec, parts, shards
        self.free = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.fixed = {k: p for k, p in model.named_parameters() if not p.requires_grad}
        self.w = torch.cat([p.detach().flatten() for p in self.free.values()])
        self.buffers = {k: b.clone() for k, b in model.named_buffers()}
        normed = {
            id(p) for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.LayerNorm) for p in m.parameters()
        }
        self.norms = torch.cat([torch.full((p.numel(),), float(id(p) in normed)) for p in self.free.values()]).to(
            self.w
        )
        self.matrix = torch.cat([torch.full((p.numel(),), float(p.dim() > 1)) for p in self.free.values()]).to(self.w)
        self.mean = torch.zeros_like(self.w)
        self.first, self.second, self.steps = torch.zeros_like(self.w), torch.zeros_like(self.w), 0

    def named(self, w: Tensor) -> dict[str, Tensor]:
        pieces = w.split([p.numel() for p in self.free.values()])
        return {k: piece.view(p.shape) for (k, p), piece in zip(self.free.items(), pieces, strict=True)}

    def gradient(self, w: Tensor, x: Tensor, y: Tensor, moving: bool) -> Tensor:
        """Of the mean loss, batch norm normalising each part; its statistics move when told to."""
        w, total = w.clone().requires_grad_(), torch.zeros((), dtype=w.dtype)
        buffers = self.buffers if moving else {k: b.clone() for k, b in self.buffers.items()}
        sizes = self.parts(len(y))
        for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
            outputs = functional_call(self.model, {**self.named(w), **self.fixed, **buffers}, (a,))
            total = total + F.cross_entropy(outputs, b, reduction="sum")
        return torch.autograd.grad(total / len(y), w)[0]

    def sharpness_aware(self, x: Tensor, y: Tensor) -> Tensor:
        spec, g = self.spec, self.gradient(self.w, x, y, True)
        direction = g
        if spec.sam_variant == "friendly":
            self.mean = spec.friendly_decay * self.mean + (1 - spec.friendly_decay) * g
            direction = g - spec.friendly_sigma * self.mean
        if spec.sam_norms_only:
            direction = direction * self.norms
        t = torch.where(self.matrix > 0, self.w.abs() + spec.eta, 1.0) if spec.adaptive else torch.ones_like(self.w)
        norm = (t * direction).norm()
        step = self.radius() * t * t * direction / norm if norm > 0 else 0
        h = self.gradient(self.w + step, x, y, False)
        if spec.sam_variant == "gsam":
            unit = h / h.norm()
            h = h - spec.gsam_alpha * (g - (g @ unit) * unit)
        return h

    def radius(self) -> float:
        low, high = self.spec.rho_min, self.spec.rho
        return high if low is None else low + (high - low) * self.rate() / self.spec.learning_rate

    def rate(self) -> float:
        """The learning rate, constant or falling by a cosine over 20 steps."""
        falling = self.spec.schedule == "cosine"
        return self.spec.learning_rate * ((1 + math.cos(math.pi * self.steps / 20)) / 2 if falling else 1)

    def step(self, x: Tensor, y: Tensor) -> None:
        spec = self.spec
        if self.steps % spec.sam_every:
            g = self.gradient(self.w, x, y, True)
            if spec.sam_variant == "friendly":
                self.mean = spec.friendly_decay * self.mean + (1 - spec.friendly_decay) * g
        else:
            sizes = self.shards(len(y))
            shards = zip(x.split(sizes), y.split(sizes), strict=True)
            g = torch.stack([self.sharpness_aware(a, b) * len(b) for a, b in shards]).sum(0) / len(y)
        if spec.clip_norm is not None:
            g = g * min(1, spec.clip_norm / (g.norm().item() + 1e-6))
        rate = self.rate()
        self.steps += 1
        g = g + spec.l2 * self.w
        if spec.optimiser == "sgd":
            self.first = spec.momentum * self.first + g
            self.w = self.w - rate * self.first
        else:
            self.first, self.second = 0.9 * self.first + 0.1 * g, 0.999 * self.second + 0.001 * g * g
            slope = self.first / (1 - 0.9**self.steps)
            self.w = self.w - rate * slope / ((self.second / (1 - 0.999**self.steps)).sqrt() + 1e-8)

    def train(self, data: Dataset) -> "ByHand":
        for epoch in range(1, self.spec.epochs + 1):
            order = seeds.permutation(seeds.stream(self.spec.seed, "order", epoch), len(data.train.targets))
            for part in order.split(self.spec.batch_size):
                self.step(data.train.inputs[part], data.train.targets[part])
        return self
