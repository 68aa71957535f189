"""Refined maxima against SciPy's bounded minimiser, closed forms, and curves that are not smooth."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from landscape.methods.peak import maximum, refine

CURVES = {
    "gaussian": lambda t: np.exp(-8 * (t - 0.3) ** 2) - 0.5 * t,
    "lopsided": lambda t: t**3 * (1 - t),
    "narrow": lambda t: 1 / (1 + (40 * (t - 0.37)) ** 2),
    "kink": lambda t: np.minimum(3 * t, 1.1 * (1 - t)),
    "flat top": lambda t: np.minimum(1.0, 20 * t * (1 - t)),
}


def refined(curves, points=25, share=1e-3, budget=30, wanted=None):
    asked = []

    def function(t: float) -> np.ndarray:
        asked.append(t)
        return np.array([curve(t) for curve in curves])

    t = np.linspace(0, 1, points)
    y = np.stack([curve(t) for curve in curves], axis=1)
    wanted = list(range(len(curves))) if wanted is None else wanted
    return refine(function, t, y, wanted, share, np.zeros(len(curves)), budget), asked


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("points", [9, 25, 26])
def test_heights_are_the_true_ones_to_the_accuracy_they_claim(name, points):
    curve = CURVES[name]
    around = np.linspace(0, 1, 1001)[np.argmax(curve(np.linspace(0, 1, 1001)))]
    best = -minimize_scalar(lambda t: -curve(t), bounds=(around - 1e-3, around + 1e-3), options={"xatol": 1e-12}).fun
    found, _ = refined([curve], points)
    assert found.accuracies[0] <= 1e-3 * found.heights[0]
    assert best - found.heights[0] + 1e-12 >= 0
    assert best - found.heights[0] <= 3e-3 * best
    assert found.heights[0] == curve(found.places[0])


def test_a_parabola_is_found_in_two_points_and_known_exactly():
    found, asked = refined([lambda t: 1 - (t - 0.4321) ** 2], points=6)
    assert len(asked) <= 2
    assert found.places[0] == pytest.approx(0.4321, abs=1e-12)
    assert found.heights[0] == pytest.approx(1, abs=1e-15)
    assert found.accuracies[0] < 1e-12


def test_a_maximum_on_a_point_of_the_grid_is_tested_beside_it():
    found, asked = refined([lambda t: t * (1 - t)], points=25)
    assert found.places[0] == 0.5
    assert len(asked) == 1
    assert 0.1 / 24 < abs(asked[0] - 0.5) < 1 / 24
    assert found.accuracies[0] < 1e-15


def test_several_curves_share_their_points():
    curves = [lambda t: t * (1 - t), lambda t: 3 * t * (1 - t), CURVES["gaussian"]]
    found, asked = refined(curves)
    assert len(asked) <= 8
    assert len(found.t) == 25 + len(asked)
    assert (np.diff(found.t) > 0).all()
    for k, curve in enumerate(curves):
        np.testing.assert_array_equal(found.y[:, k], curve(found.t))


def test_a_maximum_between_an_end_and_its_neighbour_is_found():
    for curve in (lambda t: 1 - (t - 0.02) ** 2, lambda t: 1 - (t - 0.98) ** 2):
        found, asked = refined([curve], points=25)
        assert len(asked) <= 2
        assert found.heights[0] == pytest.approx(1, abs=1e-12)


def test_only_what_is_wanted_costs_points():
    assert not refined([lambda t: -t, CURVES["narrow"]], wanted=[0])[1]


def test_no_budget_says_that_nothing_was_tested():
    found, asked = refined([CURVES["gaussian"], lambda t: -t], budget=0)
    assert not asked
    assert np.isnan(found.accuracies[0])
    assert found.accuracies[1] == 0
    assert (found.places[1], found.heights[1]) == (0, 0)


def test_points_within_the_floor_are_not_sought():
    y = np.array([0.0, 1e-9, 0.0])
    found = refine(lambda t: np.array([1e-9]), np.linspace(0, 1, 3), y[:, None], [0], 1e-2, np.array([1e-6]), 9)
    assert len(found.t) <= 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_makes_the_height_infinite_at_its_place(bad):
    top = maximum(np.linspace(0, 1, 5), np.array([0, 1, bad, 1, bad]))
    assert (top.height, top.place, top.bracket) == (np.inf, 0.5, None)


def test_a_value_that_turns_up_infinite_between_two_points_ends_the_search():
    found, asked = refined([lambda t: np.where(np.abs(t - 0.5) < 1e-3, np.inf, np.minimum(t, 1 - t))], points=10)
    assert found.heights[0] == np.inf
    assert len(asked) == 1
    assert np.isnan(found.accuracies[0])
