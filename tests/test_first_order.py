"""First-order sharpness against its formulas written out, closed forms, and what the trainer does."""

import math

import numpy as np
import pytest
import torch
from problems import network, prescribed
from test_worst_case import small_network
from torch import nn

from landscape import measures
from landscape.problem import Problem
from landscape.spec import MeasuresSpec


def spec(**options):
    return MeasuresSpec(**{**dict(measures=("first-order",), sam_rhos=(), asam_rhos=()), **options})


def test_sam_of_a_quadratic():
    """f(w + ρĝ) − f(w) = ρ‖g‖ + ½ρ² ĝᵀAĝ."""
    problem, A = prescribed(np.array([3.0, 1.0, 0.2, -0.5]))
    w = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    g = A @ w
    size = torch.linalg.vector_norm(g)
    unit = g / size
    result = measures.measure(problem, spec(sam_rhos=(0.05, 2.0)), w)
    expected = [(rho * size + 0.5 * rho**2 * (unit @ A @ unit)).item() for rho in (0.05, 2.0)]
    assert result.names == ("SAM ρ=0.05", "SAM ρ=2")
    assert result.values == pytest.approx(expected, rel=1e-9)
    assert result.certificates[0]["gradient"] == pytest.approx(size.item(), rel=1e-9)


@pytest.mark.parametrize("name", ["mlp", "cnn_with_batch_norm", "transformer"])
def test_asam_scales_weights_and_leaves_biases_and_norms(name):
    case = network(name)
    w, g = case.weights, case.gradient(case.weights)
    scale = torch.cat([
        (p.detach().abs() + 0.01 if p.dim() > 1 else torch.ones_like(p)).reshape(-1) for p in case.model.parameters()
    ])  # fmt: skip
    moved = w + 0.5 * scale**2 * g / torch.linalg.vector_norm(scale * g)
    result = measures.measure(case.problem(), spec(asam_rhos=(0.5,)))
    assert result.names == ("ASAM ρ=0.5",)
    assert result.values[0] == pytest.approx((case.mean_loss(moved) - case.mean_loss(w)).item(), rel=1e-8)


def test_a_small_radius_is_the_norm_of_the_gradient():
    problem = small_network(1)
    size = torch.linalg.vector_norm(problem.gradient(problem.weights)).item()
    assert measures.measure(problem, spec(sam_rhos=(1e-6,))).values[0] == pytest.approx(1e-6 * size, rel=1e-3)


def test_zero_gradient_no_radii_and_nothing_of_the_callers_changes():
    problem, _ = prescribed(np.array([3.0, 1.0]))
    still = measures.measure(problem, spec(sam_rhos=(0.1,), asam_rhos=(0.1,)), torch.zeros(2, dtype=torch.float64))
    assert still.values.tolist() == [0, 0]
    assert all(c == {"gradient": 0, "zero_gradient": True, "walls": 0} for c in still.certificates)
    assert measures.measure(problem, spec()).names == ()
    network_problem = small_network(2)
    before = network_problem.weights.clone()
    asked = spec(sam_rhos=(0.1,), asam_rhos=(0.5,))
    first, again = (measures.measure(network_problem, asked) for _ in range(2))
    assert first.values.tolist() == again.values.tolist()
    assert torch.equal(network_problem.weights, before)
    assert all(p.grad is None for p in network_problem.model.parameters())
    narrow = measures.measure(small_network(2, dtype=torch.float32), asked)
    assert narrow.values == pytest.approx(first.values, rel=1e-4)


def test_a_loss_that_is_not_finite_at_the_ascended_point():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.full((1, 3), 0.1, dtype=torch.float64))

        def forward(self, x):
            return -x * self.w.sum().log()

    problem = Problem(Root(), lambda o, t: o.sum(), [(torch.ones(4, 1).double(), torch.zeros(4))])
    result = measures.measure(problem, spec(sam_rhos=(5.0, 0.01)))
    assert result.values[0] == math.inf
    assert [c["walls"] for c in result.certificates] == [1, 0]
    assert 0 < result.values[1] < 1
