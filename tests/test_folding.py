"""Batch norm folded into the weights: the same function, and only where that holds."""

import torch
from subjects import rescaled_before_norm, trained
from torch import nn
from torch.nn.utils import parametrizations

from landscape.losses import loss_by_name
from landscape.measures.folding import folded
from landscape.problem import Problem


def outputs(problem: Problem) -> torch.Tensor:
    return torch.cat([o for o, _ in problem.outputs_and_targets(problem.weights)])


def test_folding_leaves_the_function_and_removes_the_parameters_of_batch_norm():
    problem = trained("foldable")
    found = folded(problem, problem.weights)
    assert found.merged == ("1", "4", "8")
    assert found.left == ()
    torch.testing.assert_close(outputs(found.problem), outputs(problem), rtol=1e-12, atol=1e-12)
    assert problem.weights.numel() - found.problem.weights.numel() == (4 + 4 - 4) + (5 + 5)  # the first got a bias
    again = trained("foldable", change=rescaled_before_norm)
    torch.testing.assert_close(folded(again, again.weights).problem.weights, found.problem.weights)


def test_other_weights_than_the_problems_own_are_folded():
    problem = trained("foldable")
    w = 1.1 * problem.weights
    found = folded(problem, w)
    assert abs(found.problem.value(found.problem.weights) - problem.value(w)) < 1e-12


def test_a_batch_norm_behind_a_relu_stays():
    problem = trained("cnn")
    found = folded(problem, problem.weights)
    assert (found.merged, found.left) == (("1",), ("5",))
    torch.testing.assert_close(outputs(found.problem), outputs(problem), rtol=1e-12, atol=1e-12)


class Awkward(nn.Module):
    """Layers whose outputs others read, too; that are called twice; whose weight is made of others; on other axes."""

    def __init__(self):
        super().__init__()
        self.read, self.twice = nn.Linear(4, 4), nn.Linear(4, 4)
        self.made = parametrizations.weight_norm(nn.Linear(4, 4))
        self.tied, self.tie = nn.Linear(4, 4), nn.Linear(4, 4)
        self.tie.weight = self.tied.weight
        self.axes, self.plain = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norms = nn.ModuleList([nn.BatchNorm1d(4) for _ in range(6)])

    def forward(self, x):
        h = self.read(x)
        x = self.norms[0](h) + h
        x = self.norms[1](self.twice(self.twice(x)))
        x = self.norms[2](self.made(x))
        x = self.norms[3](self.tied(x)) + self.tie(x)
        x = self.norms[4](self.axes(x[:, None].expand(-1, 4, -1))).mean(1)
        return self.norms[5](self.plain(x))


def test_what_cannot_be_folded_is_named():
    torch.manual_seed(0)
    model = Awkward().double()
    x = torch.randn(30, 4, dtype=torch.float64)
    for _ in range(5):
        model(x)
    problem = Problem(model, loss_by_name("cross_entropy"), [(x, torch.arange(30) % 4)])
    found = folded(problem, problem.weights)
    assert found.merged == ("norms.5",)
    assert found.left == tuple(f"norms.{i}" for i in range(5))
    torch.testing.assert_close(outputs(found.problem), outputs(problem), rtol=1e-12, atol=1e-12)


def test_batch_norms_of_each_batch_stay():
    problem = trained("foldable")
    model = problem.model_at(problem.weights)
    own = Problem(model, problem.loss, problem.batches, batch_norm="batch")
    found = folded(own, own.weights)
    assert found.merged == ()
    assert abs(found.problem.value(found.problem.weights) - own.value(own.weights)) < 1e-12


def test_frozen_parameters_stay_frozen():
    problem = trained("foldable")
    model = problem.model_at(problem.weights)
    model.requires_grad_(False)
    model.get_submodule("1").weight.requires_grad_(True)
    part = Problem(model, problem.loss, problem.batches)
    found = folded(part, part.weights)
    assert list(found.problem.named(found.problem.weights)) == ["0.weight"]
