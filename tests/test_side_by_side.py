"""Several weights at once: the same losses and gradients, for every family of models, where it pays."""

import math

import pytest
import torch
from test_products import FAMILIES, family

from landscape import sharpness, side_by_side
from landscape.side_by_side import several_at_once
from landscape.spec import SharpnessSpec


@pytest.fixture
def threads(monkeypatch):
    """As if there were two; two that really run beside other tests would wait for one another."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", FAMILIES)
def test_values_and_gradients_are_those_of_one_by_one(name, monkeypatch):
    monkeypatch.setattr(side_by_side, "_WORTH", math.inf)
    monkeypatch.setattr(side_by_side, "_QUICK", math.inf)
    problem = family(name)
    several = several_at_once(problem, problem.weights, 3)
    if name == "in place":  # writes into memory that has no place for several
        assert several is None
        return
    assert several is not None
    rows = problem.weights + 0.1 * torch.randn(3, len(problem.weights), dtype=torch.float64)
    values, gradients = several(rows)
    for row, value, gradient in zip(rows, values, gradients, strict=True):
        expected = problem.value_and_gradient(row)
        assert value == pytest.approx(expected[0], rel=1e-12)
        torch.testing.assert_close(gradient, expected[1], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("threads")
def test_only_where_it_pays(monkeypatch):
    problem = family("mlp")
    monkeypatch.setattr(side_by_side, "_WORTH", 0.0)
    assert several_at_once(problem, problem.weights, 3) is None
    monkeypatch.setattr(side_by_side, "_WORTH", math.inf)
    assert several_at_once(problem, problem.weights, 1) is None
    monkeypatch.setattr(side_by_side, "_QUICK", 0.0)
    assert several_at_once(problem, problem.weights, 3) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(side_by_side, "_QUICK", math.inf)
    assert several_at_once(problem, problem.weights, 3) is None


@pytest.mark.usefixtures("threads")
@pytest.mark.slow
def test_sharpness_is_the_same(monkeypatch):
    problem, spec = family("mlp"), SharpnessSpec(trials=2, dimension=10)
    found = []
    for worth in (0.0, math.inf):
        monkeypatch.setattr(side_by_side, "_WORTH", worth)
        found.append(sharpness.measure(problem, spec))
    assert found[1].sharpness == pytest.approx(found[0].sharpness, rel=1e-6)


def test_until_converged_is_no_less_and_says_so():
    problem = family("regression")  # smooth: at a kink nothing converges
    short, long = (
        sharpness.measure(problem, SharpnessSpec(trials=1, iterations=1, restarts=1, until_converged=until))
        for until in (False, True)
    )
    assert (long.maxima >= short.maxima - 1e-12).all()
    assert long.evaluations >= short.evaluations
    assert all(flag for space in long.conditions["converged"] for row in space for flag in row)
