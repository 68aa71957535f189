"""Average-case sharpness against closed forms and the identities it must obey."""

import copy
import math

import numpy as np
import pytest
import torch
from problems import prescribed
from test_worst_case import small_network
from torch import nn

from landscape import measures
from landscape.measures import average_case
from landscape.problem import Problem
from landscape.spec import MeasuresSpec


def spec(**options):
    fixed = dict(measures=("average-case",), average_rhos=(), adaptive_average_rhos=())
    return MeasuresSpec(**{**fixed, **options})


@pytest.mark.parametrize(
    ("noise", "adaptive"),
    [
        ("uniform", False),
        ("uniform", True),
        *[pytest.param("gaussian", adaptive, marks=pytest.mark.slow) for adaptive in (False, True)],
    ],
)
def test_of_a_quadratic_it_is_half_the_weighted_trace(noise, adaptive):
    """E[½δᵀAδ + gᵀδ] = ½ρ² Σ c_i² A_ii, inside the 99 % interval for at least 23 of 24 seeds."""
    problem, A = prescribed(np.linspace(0.1, 3, 20), batch_size=20)
    w = torch.linspace(-1, 2, 20, dtype=torch.float64)
    expected = 0.5 * 0.3**2 * (A.diagonal() * (w**2 if adaptive else 1)).sum().item()
    field = "adaptive_average_rhos" if adaptive else "average_rhos"
    inside = 0
    for seed in range(24):
        asked = spec(**{field: (0.3,)}, noise=noise, average_tolerance=0.05, measure_seed=seed)
        result = measures.measure(problem, asked, w)
        assert result.certificates[0]["converged"]
        assert result.errors[0] <= 0.05 * result.values[0]
        assert result.values[0] == pytest.approx(expected, rel=0.25)
        inside += abs(result.values[0] - expected) <= 2.58 * result.errors[0]
    assert inside >= 23


def test_pairs_take_the_gradient_away():
    """A linear function has S_avg = 0 exactly, not only in the mean."""
    model = nn.Linear(4, 1, bias=False).double()
    problem = Problem(model, lambda o, t: o.sum(), [(torch.ones(3, 4).double(), torch.zeros(3))])
    result = measures.measure(problem, spec(average_rhos=(1.0,), max_pairs=12))
    assert abs(result.values[0]) < 1e-12


def test_pair_i_is_the_same_however_many_are_drawn_and_for_every_radius():
    w = torch.zeros(50, dtype=torch.float64)
    few, many = (average_case._noise(w, spec(max_pairs=k), 3) for k in (5, 500))
    assert torch.equal(few, many)
    assert torch.equal(average_case._noise(w.float(), spec(), 3), few.float())
    assert not torch.equal(average_case._noise(w, spec(measure_seed=1), 3), few)
    wide = torch.zeros(200000, dtype=torch.float64)
    for noise in ("gaussian", "uniform"):
        drawn = average_case._noise(wide, spec(noise=noise), 0)
        assert drawn.std().item() == pytest.approx(1, rel=0.01)
        assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.abs().max().item() <= 3**0.5


def test_it_stops_at_the_tolerance_with_ten_pairs_at_least_and_says_when_it_did_not():
    problem = small_network(0)
    loose = measures.measure(problem, spec(average_rhos=(0.01,), average_tolerance=100.0))
    assert loose.certificates[0] == {"pairs": 23, "converged": True, "walls": 0}
    tight = measures.measure(problem, spec(average_rhos=(0.01,), average_tolerance=1e-9, max_pairs=23))
    assert tight.certificates[0] == {"pairs": 23, "converged": False, "walls": 0}
    short = measures.measure(problem, spec(average_rhos=(0.01,), average_tolerance=100.0, max_pairs=4))
    assert short.certificates[0] == {"pairs": 4, "converged": False, "walls": 0}
    assert math.isfinite(short.errors[0])


def test_adaptive_values_survive_a_rescaled_relu_layer_and_plain_ones_do_not():
    problem = small_network(4, nn.ReLU)
    model = copy.deepcopy(problem.model).requires_grad_(True)
    with torch.no_grad():
        model[0].weight.mul_(4)
        model[0].bias.mul_(4)
        model[2].weight.div_(4)
    other = Problem(model, problem.loss, problem.batches)
    asked = spec(average_rhos=(0.05,), adaptive_average_rhos=(0.1,), max_pairs=20)
    before, after = (measures.measure(p, asked) for p in (problem, other))
    assert before.names == ("average-case ρ=0.05", "average-case adaptive ρ=0.1")
    assert after.values[1] == pytest.approx(before.values[1], rel=1e-6)
    assert abs(after.values[0] / before.values[0] - 1) > 0.1


def test_normalised_logits_no_radii_seeds_and_float32():
    problem = small_network(5)
    assert measures.measure(problem, spec()).names == ()
    asked = spec(average_rhos=(0.1,), max_pairs=20)
    first, again = (measures.measure(problem, asked) for _ in range(2))
    assert first.values.tolist() == again.values.tolist()
    narrow = measures.measure(small_network(5, dtype=torch.float32), asked)
    assert narrow.values == pytest.approx(first.values, rel=1e-3)
    other = measures.measure(problem, spec(average_rhos=(0.1,), max_pairs=20, logit_normalisation=True))
    assert other.values[0] != pytest.approx(first.values[0], rel=0.05)


def test_a_loss_that_is_not_finite_makes_the_mean_infinite():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.full((3,), 0.1, dtype=torch.float64))

        def forward(self, x):
            return x * self.w.sum().log()

    problem = Problem(Root(), lambda o, t: o.sum(), [(torch.ones(4, 1).double(), torch.zeros(4))])
    result = measures.measure(problem, spec(average_rhos=(1.0,)))
    assert result.values[0] == math.inf
    assert result.certificates[0]["walls"] == 1
    assert not result.certificates[0]["converged"]
