import numpy as np
import pytest
from scipy.stats import kendalltau

from landscape.methods.ranks import granulated, kendall


@pytest.mark.parametrize("ties", [False, True])
def test_tau_and_its_resamples_are_those_of_scipy(ties):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 25))
    y = y + x
    if ties:
        x, y = np.round(x), np.round(y)
    assert kendall(x, y)[0] == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)
    drawn = rng.integers(25, size=(10, 25))
    counts = np.stack([np.bincount(row, minlength=25) for row in drawn])
    expected = [kendalltau(x[row], y[row]).statistic for row in drawn]
    np.testing.assert_allclose(kendall(x, y, counts), expected, atol=1e-12)


def test_a_constant_has_no_order():
    assert np.isnan(kendall(np.ones(5), np.arange(5.0))[0])


def test_granulated_sees_through_a_factor_that_drives_both():
    """Simpson: within each group y falls with x, over all points it rises."""
    x = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    y = np.array([2.0, 1.0, 0.0, 12.0, 11.0, 10.0])
    assert kendall(x, y)[0] > 0
    assert granulated(x, y, [[0, 1, 2], [3, 4, 5]]) == (-1.0, 2)
    assert granulated(x, np.ones(6), [[0, 1], [3, 4]])[1] == 0
