"""Losses by name against torch's own, and their derivatives against differences."""

import torch
from torch import nn
from torch.nn import functional as F

from landscape.losses import loss_by_name
from landscape.problem import Problem


def test_multi_margin_is_torchs_with_its_gradient():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 7, (50,), generator=generator)
    ours, theirs = (
        loss_by_name("multi_margin")(outputs, targets),
        F.multi_margin_loss(outputs, targets, reduction="sum"),
    )
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, outputs)[0] for loss in (ours, theirs)))


def test_multi_margin_has_hessian_products():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    problem = Problem(model, loss_by_name("multi_margin"), [(torch.randn(20, 3).double(), torch.arange(20) % 3)])
    w, v, h = problem.weights, torch.randn_like(problem.weights), 1e-6
    differences = (problem.gradient(w + h * v) - problem.gradient(w - h * v)) / (2 * h)
    torch.testing.assert_close(problem.hessian(w)(v), differences, rtol=1e-5, atol=1e-7)


def test_square_is_half_the_squared_distance_from_one_hot_targets():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 7, (50,), generator=generator)
    loss = loss_by_name("square")
    expected = F.mse_loss(outputs, F.one_hot(targets, 7).double(), reduction="sum") / 2
    torch.testing.assert_close(loss(outputs, targets), expected)
    assert (loss.count(targets), int(loss.hits(outputs, targets))) == (50, int((outputs.argmax(1) == targets).sum()))
