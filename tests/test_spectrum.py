"""Estimates of functions of a spectrum, against eigenvalues that are known, and their errors against their scatter."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from landscape import seeds
from landscape.methods.quadrature import quadrature, resolved
from landscape.spectrum import Spectrum

N = 300
EIGENVALUES = np.r_[9.0, 5.0, 3.0, -1.0, 0.1 * np.cos(np.linspace(0, 3, N - 4)) ** 3]


def estimate(seed: int, probes: int = 2, steps: int = 12, deflate: bool = True) -> Spectrum:
    """From a diagonal matrix: the law of Gaussian probes does not depend on the eigenvectors."""
    diagonal = torch.from_numpy(EIGENVALUES)
    Z = seeds.gaussian(seeds.stream(seed, "spectrum"), probes, diagonal)
    found = quadrature(lambda rows: rows * diagonal, Z, steps)
    single = resolved(found, 1e-3) & deflate
    weights = found.weights[:, ~single]
    return Spectrum(
        N,
        found.values[single],
        found.values[~single],
        weights / weights.sum(1, keepdims=True),
        found.residuals[~single],
    )


EXACT = Spectrum(N, EIGENVALUES, np.zeros(0), np.zeros((1, 0)))
GRID = np.array([-0.1, -0.04, 0.0, 0.05, 3.0])


def test_known_eigenvalues_have_no_error_and_give_the_formulas():
    assert EXACT.moment(2) == (pytest.approx((EIGENVALUES**2).mean()), 0)
    assert EXACT.count_above(0.05) == ((EIGENVALUES > 0.05).sum(), 0)
    assert EXACT.negative_mass() == (pytest.approx((EIGENVALUES < 0).mean()), 0)
    height, error = EXACT.density(GRID, 0.07)
    np.testing.assert_allclose(height, norm.pdf(GRID[:, None], EIGENVALUES, 0.07).mean(1))
    assert not error.any()
    assert EXACT.range == (-1, 9)


@pytest.mark.parametrize("probes", [1, 2])
def test_estimates_scatter_as_their_standard_errors_say(probes):
    spectra = [estimate(seed, probes, steps=20) for seed in range(60)]
    exact = {
        "tr A": (lambda s: s.moment(1), EIGENVALUES.mean()),
        "negative part": (lambda s: s.mean(lambda x: np.minimum(x, 0)), np.minimum(EIGENVALUES, 0).mean()),
    }
    for x in GRID[1:4]:
        at = np.array([x])
        exact[f"density at {x}"] = (lambda s, at=at: s.density(at, 0.03), norm.pdf(x, EIGENVALUES, 0.03).mean())
    for name, (of, truth) in exact.items():
        scores = [((value - truth) / error).item() for value, error in map(of, spectra)]
        assert abs(np.mean(scores)) < 4 / 60**0.5, name
        assert 0.7 < np.std(scores) < 1.35, name


def test_resolved_eigenvalues_take_most_of_the_error_away():
    plain, deflated = estimate(0, deflate=False), estimate(0)
    assert len(deflated.eigenvalues) >= 4
    for order in (1, 2):
        assert deflated.moment(order)[1] < 0.1 * plain.moment(order)[1]
    assert deflated.moment(2)[0] == pytest.approx((EIGENVALUES**2).mean(), rel=2e-3)


@pytest.mark.parametrize("width", [1e-3, 0.05])
@pytest.mark.parametrize("coordinate", [None, np.arcsinh, lambda x: np.arcsinh(x / 0.01)])
def test_the_density_integrates_to_one(width, coordinate):
    spectrum = estimate(1)
    points = np.concatenate([spectrum.eigenvalues, spectrum.nodes])
    points = points if coordinate is None else coordinate(points)
    grid = np.unique(
        np.concatenate(
            [
                (points[:, None] + width * np.linspace(-8, 8, 161)).ravel(),
                np.linspace(points.min() - 1, points.max() + 1, 20000),
            ]
        )
    )
    height, error = spectrum.density(grid, width, coordinate)
    assert np.trapezoid(height, grid) == pytest.approx(1, abs=2e-4)
    assert (height >= 0).all()
    assert (error >= 0).all()


def test_a_narrow_width_does_not_make_peaks_of_the_nodes():
    """Between the ends of a smooth bulk the density is that of the bulk, also much below the nodes' distance."""
    diagonal = torch.linspace(-1, 1, 2000, dtype=torch.float64)
    found = quadrature(lambda rows: rows * diagonal, seeds.gaussian(seeds.stream(0, "uniform"), 4, diagonal), 15)
    spectrum = Spectrum(2000, np.zeros(0), found.values, found.weights, found.residuals)
    height, _ = spectrum.density(np.linspace(-0.8, 0.8, 300), 1e-3)
    assert height.min() > 0.3
    assert height.max() < 0.75


def test_counts_agree_within_errors_that_allow_for_the_nodes():
    levels = np.array([-0.08, -0.04, 0.0, 0.01, 0.04, 0.08])
    scores = []
    for seed in range(30):
        spectrum = estimate(seed)
        for level in levels:
            count, error = spectrum.count_above(level)
            scores.append((count - (level < EIGENVALUES).sum()) / error)
    assert np.std(scores) < 1.2
    assert abs(np.mean(scores)) < 0.5
    assert np.abs(scores).max() < 4.5


def test_counts_fall_from_all_to_none():
    spectrum = estimate(3)
    counts = [spectrum.count_above(level)[0] for level in np.linspace(-2, 10, 500)]
    assert counts[0] == pytest.approx(N)
    assert counts[-1] == 0
    assert (np.diff(counts) <= 1e-9).all()
    assert spectrum.count_above(2.0) == (pytest.approx(3), pytest.approx(0, abs=1e-9))


def test_an_exact_zero_is_half_negative():
    assert Spectrum(4, np.array([1.0, 0.0, 0.0, -1.0]), np.zeros(0), np.zeros((1, 0))).negative_mass()[0] == 0.5
    share, error = Spectrum(4, np.zeros(0), np.zeros(1), np.ones((1, 1))).negative_mass()
    assert share == 0.5
    assert error > 0.1


def test_an_eigenspace_keeps_its_weight_in_one_place():
    """A node without residual is an eigenvalue that repeats: nothing of it lies between the nodes."""
    nodes, weights = np.array([0.0, 4.0]), np.array([[0.9, 0.1]])
    loose, exact = (Spectrum(100, np.zeros(0), nodes, weights, spreads) for spreads in (None, np.zeros(2)))
    assert exact.count_above(1.0)[0] == pytest.approx(10)
    assert loose.count_above(1.0)[0] > 20
    height, _ = exact.density(np.array([1.0]), 0.1)
    assert height < 1e-12
