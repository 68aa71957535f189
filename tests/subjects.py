"""Measures of small float64 networks, their rescalings that are the same function, and their rows by name."""

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from landscape import seeds
from landscape.losses import loss_by_name
from landscape.measures.row import Row, Subject
from landscape.measures.several import FILES
from landscape.problem import Problem
from landscape.spec import MeasuresSpec, SharpnessSpec


def measured(name: str, problem: Problem, w: Tensor | None = None, initial: Tensor | None = None, **spec) -> list[Row]:
    """The rows of one measure."""
    w = problem.weights if w is None else w
    loss, accuracy = problem.evaluate(w)
    return FILES[name](Subject(problem, w, loss, accuracy, MeasuresSpec(**spec), SharpnessSpec(), initial))


def on(model: nn.Module, *shape: int, classes: int = 3, loss: str = "cross_entropy") -> Problem:
    """A problem of six random examples."""
    torch.manual_seed(0)
    inputs = torch.randn(6, *shape, dtype=torch.float64)
    return Problem(model.double().eval(), loss_by_name(loss), [(inputs, torch.arange(6) % classes)])


def relu_mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


def relu_cnn() -> nn.Sequential:
    """One batch norm behind a convolution, one behind a ReLU, which cannot be folded."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1, stride=2), nn.ReLU(),
        nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 3),
    )  # fmt: skip


def foldable_cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Flatten(), nn.Linear(20, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


BUILDERS = {"mlp": (relu_mlp, (6,)), "cnn": (relu_cnn, (1, 6, 6)), "foldable": (foldable_cnn, (1, 6, 6))}


@cache
def _trained(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    build, shape = BUILDERS[name]
    rng = seeds.stream(0, "subject", name)
    like = torch.empty(torch.Size(shape).numel(), dtype=torch.float64)
    targets = torch.arange(60) % 3
    inputs = (seeds.gaussian(rng, 3, like)[targets] + seeds.gaussian(rng, 60, like)).view(60, *shape)
    with seeds.global_stream(0, "subject", name):
        model = build().double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    model.zero_grad(set_to_none=True)
    return model.eval(), inputs, targets


def trained(name: str, dtype: torch.dtype = torch.float64, change=None, loss: str = "cross_entropy") -> Problem:
    """The network called `name` on 60 examples of three classes; change(model) is applied to a copy first."""
    model, inputs, targets = _trained(name)
    model = copy.deepcopy(model)
    if change is not None:
        with torch.no_grad():
            change(model)
    return Problem(model.to(dtype), loss_by_name(loss), list(zip(inputs.split(25), targets.split(25), strict=True)))


def rescaled_layer(model: nn.Module, factor: float = 4.0) -> None:
    """Dinh et al. 2017: αW₁, αb₁, W₂/α, for the last two linear layers."""
    first, second = [m for m in model.modules() if isinstance(m, nn.Linear)][-2:]
    first.weight.mul_(factor)
    first.bias.mul_(factor)
    second.weight.div_(factor)


def rescaled_units(model: nn.Module) -> None:
    """Each unit between the last two linear layers by its own factor."""
    first, second = [m for m in model.modules() if isinstance(m, nn.Linear)][-2:]
    factors = torch.linspace(0.5, 3.0, len(first.weight)).to(first.weight)
    first.weight.mul_(factors[:, None])
    first.bias.mul_(factors)
    second.weight.div_(factors)


def rescaled_before_norm(model: nn.Module) -> None:
    """Each channel of the layer in front of each batch norm by its own factor, with the statistics."""
    layer = None
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            layer = module
        if isinstance(module, _BatchNorm):
            assert layer is not None
            factors = torch.linspace(0.5, 3.0, len(layer.weight)).to(layer.weight)
            layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
            if layer.bias is not None:
                layer.bias.mul_(factors)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.mul_(factors)
            module.running_var.add_(module.eps).mul_(factors.square()).sub_(module.eps)
