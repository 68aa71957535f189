"""Training problems whose value, gradient and Hessian are known some other way.

`Case` is a network with its data as one float64 tensor pair; the dense derivatives are taken by `torch.func`
from the mean loss over all of it, without `Problem`. `prescribed` has any spectrum one likes.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from matrices import symmetric
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian
from torch.nn import functional as F

from landscape import seeds
from landscape.kernels import twice_differentiable
from landscape.losses import Loss, loss_by_name
from landscape.problem import Problem


class SpeltOutLayerNorm(nn.LayerNorm):
    """Layer norm by its formula. `torch.func.hessian` of the built-in one is wrong in its weights (torch 2.13)."""

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(input, -1, correction=0, keepdim=True)
        return (input - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class TransformerBlock(nn.Module):
    """Self-attention by `scaled_dot_product_attention`, a feed-forward layer, two layer norms, a mean and a head."""

    def __init__(self, width: int = 4, heads: int = 2, classes: int = 3, norm: type[nn.LayerNorm] = nn.LayerNorm):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm1, self.norm2 = norm(width), norm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.GELU(), nn.Linear(10, 3))


def cnn_with_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (6,)),
    "cnn_with_batch_norm": (cnn_with_batch_norm, (1, 6, 6)),
    "transformer": (TransformerBlock, (3, 4)),
    "lstm": (Recurrent, (3, 3)),
}


@dataclass(frozen=True)
class Case:
    """A network, all inputs and targets as one batch, the loss that sums over it; `reference` computes the same."""

    model: nn.Module
    reference: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss

    def problem(self, batch_size: int = 16, dtype: torch.dtype = torch.float64, **options) -> Problem:
        batches = list(zip(self.inputs.split(batch_size), self.targets.split(batch_size), strict=True))
        return Problem(copy.deepcopy(self.model).to(dtype), self.loss, batches, **options)

    @property
    def weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])

    def mean_loss(self, w: Tensor) -> Tensor:
        free = dict(self.model.named_parameters())
        pieces = w.split([p.numel() for p in free.values()])
        parameters = {k: x.view(p.shape) for (k, p), x in zip(free.items(), pieces, strict=True)}
        return self.loss(functional_call(self.reference, parameters, (self.inputs,)), self.targets) / len(self.inputs)

    def gradient(self, w: Tensor) -> Tensor:
        with twice_differentiable(self.model):
            return grad(self.mean_loss)(w)

    def hessian(self, w: Tensor) -> Tensor:
        with twice_differentiable(self.model), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.func's own use of torch.jit
            H = hessian(self.mean_loss)(w)
        return (H + H.T) / 2


@cache
def network(name: str, examples: int = 40, steps: int = 60) -> Case:
    """A float64 network after some steps of gradient descent on three noisy classes, in eval mode."""
    build, shape = NETWORKS[name]
    targets = torch.arange(examples) % 3
    rng = seeds.stream(0, "data", name)
    like = torch.empty(int(np.prod(shape)), dtype=torch.float64)
    centres = seeds.gaussian(rng, 3, like)
    inputs = (centres[targets] + seeds.gaussian(rng, examples, like)).view(examples, *shape)
    with seeds.global_stream(0, "model", name):
        model = build().double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    model.zero_grad(set_to_none=True)
    with seeds.global_stream(0, "reference"):
        spelt_out = name == "transformer"
        reference = TransformerBlock(norm=SpeltOutLayerNorm).double().eval() if spelt_out else model.eval()
    return Case(model.eval(), reference, inputs, targets, loss_by_name("cross_entropy"))


def prescribed(spectrum: np.ndarray, dtype: torch.dtype = torch.float64, batch_size: int = 7) -> tuple[Problem, Tensor]:
    """f(w) = ½ wᵀAw with the given eigenvalues, and A: a linear map of n examples, one per eigenvector.

    Example i is √n q_i and its loss ½ λ_i (x_iᵀw)², so that the mean has Hessian Σ λ_i q_i q_iᵀ.
    """
    n = len(spectrum)
    A = symmetric(spectrum)
    values, vectors = torch.linalg.eigh(A)
    inputs = (n**0.5 * vectors.T).to(dtype)
    with seeds.global_stream(0, "prescribed"):
        model = nn.Linear(n, 1, bias=False).to(dtype)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (targets * outputs.squeeze(1).square()).sum()

    batches = list(zip(inputs.split(batch_size), values.to(dtype).split(batch_size), strict=True))
    return Problem(model, loss, batches), A
