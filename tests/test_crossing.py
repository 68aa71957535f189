"""Where a noisy increasing function crosses a target, against crossings that are known."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from landscape.methods.crossing import crossing


def noisy(deviation: float, seed: int):
    """Samples of mean log x, the i-th with the same noise at every x."""
    noise = np.random.default_rng(seed).normal(size=10000) * deviation
    return lambda x, i: math.log(x) + noise[i]


@pytest.mark.parametrize("start", [1e-6, 1.0, 3.7, 1e5])
def test_without_noise_the_interval_is_as_narrow_as_asked_and_holds_the_crossing(start):
    found = crossing(lambda x, i: math.log(x) + 1e-9 * (-1) ** i, 1.2, start, 0.01, 100)
    assert found.converged
    assert found.lower < math.exp(1.2) < found.upper < 1.01 * found.lower
    assert found.samples % 10 == 0  # the first test of each x decided


def test_the_interval_covers_the_crossing_and_its_sixth_is_no_less_than_the_error_made():
    errors, found = [], []
    for seed in range(60):
        found.append(crossing(noisy(0.3, seed), 1.0, 1.0, 0.02, 200))
        errors.append((math.log(found[-1].middle) - 1.0) / found[-1].relative_error)
    covered = [one.lower < math.e < one.upper for one in found]
    assert np.mean(covered) >= 0.95
    assert np.std(errors) < 1.3
    # three standard errors of 200 samples to either side, 0.064 each, cannot make 2 %
    assert not any(one.converged for one in found)
    assert 0.064 < np.median([math.log(one.upper / one.lower) for one in found]) < 0.2


def test_few_samples_suffice_far_from_the_crossing():
    few, many = crossing(noisy(0.02, 0), 1.0, 1.0, 0.02, 5000), crossing(noisy(0.3, 0), 1.0, 1.0, 0.02, 5000)
    assert few.converged
    assert few.samples < many.samples / 10


def test_a_mean_that_never_crosses_leaves_the_interval_open():
    never = crossing(lambda x, i: norm.cdf(i), 2.0, 1.0, 0.02, 20)
    always = crossing(lambda x, i: 1.0, 0.5, 1.0, 0.02, 20)
    assert (never.upper, never.converged) == (math.inf, False)
    assert (always.lower, always.middle, always.relative_error) == (0.0, 0.0, math.inf)
