"""PAC-Bayes σ, against the normal distribution on a linear classifier."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from subjects import measured, rescaled_before_norm, rescaled_layer, trained
from torch import nn

from landscape import seeds
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem


def classifier(dtype=torch.float64, size: float = 1.0, examples: int = 300) -> Problem:
    """Logits ⟨w, x⟩ of balanced labels; w of length about `size`·√30."""
    rng, like = seeds.stream(0, "classifier"), torch.empty(30, dtype=torch.float64)
    model = nn.Linear(30, 1, bias=False).double()
    w = seeds.gaussian(rng, 1, like)
    x = seeds.gaussian(rng, examples, like)
    with torch.no_grad():
        model.weight.copy_(size * w)
    targets = (x @ w[0] > 0).double()[:, None]
    targets[:15] = 1 - targets[:15]
    return Problem(model.to(dtype), loss_by_name("bce"), [(x, targets)])


def exact(problem: Problem, variances) -> float:
    """σ with mean drop 0.1; variances(σ): of each coordinate's noise. P(hit) = Φ(±⟨w, x⟩/√Σ x_i² variance_i)."""
    (x, y), w = problem.batches[0], problem.weights.numpy()  # type: ignore[index]
    x, side = x.numpy(), 2 * y.numpy()[:, 0] - 1

    def excess(logarithm: float) -> float:
        deviation = np.sqrt(np.square(x) @ variances(math.exp(logarithm)))
        margins = side * (x @ w)
        return (margins > 0).mean() - norm.cdf(margins / deviation).mean() - 0.1

    return math.exp(brentq(excess, -15, 10))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.1, 4.0])
def test_sigma_is_the_standard_deviation_of_the_noise_that_costs_the_drop(size):
    problem = classifier(size=size)
    w = problem.weights.numpy()
    plain, magnitude = measured("pac-bayes", problem, max_pairs=300, sigma_tolerance=0.2)
    for row, expected in [
        (plain, exact(problem, lambda s: s**2 * np.ones(30))),
        (magnitude, exact(problem, lambda s: s**2 * w**2)),
    ]:
        low, high = row.certificate["interval"]
        assert low < expected < high
        assert row.certificate["converged"]
        assert row.value == pytest.approx(expected**-2, rel=0.2)
        assert abs(row.value - expected**-2) < 3.5 * row.error
        assert not low < math.sqrt(expected) < high  # noise of standard deviation σ² would give √σ
        assert row.certificate["evaluations"] == 2 * row.certificate["pairs"]


def test_the_interval_widens_where_the_pairs_do_not_decide():
    plain, _ = measured("pac-bayes", classifier(), max_pairs=40)
    low, high = plain.certificate["interval"]
    assert not plain.certificate["converged"]
    assert low < exact(classifier(), lambda s: s**2 * np.ones(30)) < high
    assert plain.error == pytest.approx(2 * plain.value * math.log(high / low) / 6)


@pytest.mark.slow
def test_batch_norm_is_folded_first_so_that_rescaled_weights_give_the_same():
    options = {"max_pairs": 15, "sigma_tolerance": 0.5}
    rows = measured("pac-bayes", trained("foldable"), **options)
    again = measured("pac-bayes", trained("foldable", change=rescaled_before_norm), **options)
    assert rows[0].certificate["folded"] == ["1", "4", "8"]
    for row, other in zip(rows, again, strict=True):
        assert "batch-norm" in row.invariant
        assert other.value == pytest.approx(row.value, rel=1e-6)
    rows = measured("pac-bayes", trained("mlp"), **options)
    moved = measured("pac-bayes", trained("mlp", change=lambda model: rescaled_layer(model, 1e4)), **options)
    assert moved[0].value != pytest.approx(rows[0].value, rel=0.1)
    assert moved[1].value == pytest.approx(rows[1].value, rel=1e-6)
    assert "relu" in rows[1].invariant
    assert "relu" not in rows[0].invariant
    left = measured("pac-bayes", trained("cnn"), max_pairs=10, sigma_tolerance=0.8)[0]
    assert (left.certificate["not_folded"], left.invariant) == (["5"], ())


@pytest.mark.slow
def test_float32_gives_the_same():
    options = {"max_pairs": 100, "sigma_tolerance": 0.2}
    single, double = (measured("pac-bayes", classifier(t), **options)[0] for t in (torch.float32, torch.float64))
    assert abs(single.value - double.value) < 3 * (single.error + double.error)


def test_what_has_no_accuracy_to_lose_is_refused():
    x = torch.ones(4, 2)
    regression = Problem(nn.Linear(2, 1), loss_by_name("mse"), [(x, x[:, :1])])
    with pytest.raises(InputError, match="mse has no accuracy"):
        measured("pac-bayes", regression)
    with pytest.raises(InputError, match=r"drop = 0\.99 is not below the accuracy"):
        measured("pac-bayes", classifier(), drop=0.99)
    with pytest.raises(InputError, match="not a drop that noise causes here"):
        measured("pac-bayes", classifier(), drop=0.7, max_pairs=20)
