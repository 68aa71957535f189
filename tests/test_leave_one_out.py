"""The leave-one-out estimates by their definition: one probe left out at a time, with explicit inverses."""

import numpy as np
import pytest
import torch
from matrices import SPECTRA, symmetric

from landscape import seeds
from landscape.methods import leave_one_out


def probes(A, count, seed=0):
    Z = seeds.rademacher(seeds.stream(seed, "probes"), count, A[0])
    return Z.numpy(), (Z @ A).numpy()


def test_samples_are_what_the_definition_says():
    A = symmetric(SPECTRA["opposite"])
    Z, Y = probes(A, 9)
    G, W = Z @ Y.T, Y @ Y.T
    control = leave_one_out.control(G)
    off = G - np.diag(np.diag(G))
    tau = (np.square(off).sum() / 8) ** 0.5
    expected = []
    for i in range(9):
        others = np.arange(9) != i
        M = np.linalg.inv(G[np.ix_(others, others)] + 1j * tau * np.eye(8)).real
        approximation = Y[others].T @ M @ Y[others]
        expected.append(np.trace(approximation) + Z[i] @ (A.numpy() - approximation) @ Z[i])
    np.testing.assert_allclose(leave_one_out.samples(control, G, W), expected, rtol=1e-9)


def test_blocks_and_coordinates_add_up_to_the_samples():
    A = symmetric(SPECTRA["outliers"])
    Z, Y = probes(A, 7)
    control = leave_one_out.control(Z @ Y.T)
    whole = leave_one_out.samples(control, Z @ Y.T, Y @ Y.T)
    parts = [
        leave_one_out.samples(control, Z[:, s] @ Y[:, s].T, Y[:, s] @ Y[:, s].T) for s in (slice(0, 13), slice(13, 60))
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-10)
    np.testing.assert_allclose(leave_one_out.coordinate_samples(control, Z, Y).sum(1), whole, rtol=1e-10)
    block = leave_one_out.coordinate_samples(control, Z[:, :13], Y[:, :13]).sum(1)
    np.testing.assert_allclose(block, parts[0], rtol=1e-10)


@pytest.mark.parametrize("name", ["outliers", "opposite", "integers", "all_negative", "clustered"])
def test_unbiased_and_the_error_is_the_scatter(name):
    """Over 400 sets of 12 probes; the naive s/√m is up to a quarter too small, the error used here is not."""
    A = symmetric(SPECTRA[name])
    means, errors = [], []
    for seed in range(400):
        Z, Y = probes(A, 12, seed)
        control = leave_one_out.control(Z @ Y.T)
        means.append(leave_one_out.samples(control, Z @ Y.T, Y @ Y.T).mean())
        errors.append(leave_one_out.standard_error(control, Z @ Y.T, Y @ Y.T))
    scatter = np.std(means)
    assert abs(np.mean(means) - A.trace().item()) < 4 * scatter / 20
    assert np.square(errors).mean() ** 0.5 == pytest.approx(scatter, rel=0.12)


def test_control_lowers_the_variance_of_a_decaying_spectrum():
    A = symmetric(10.0 * 0.8 ** np.arange(60))
    plain, controlled = [], []
    for seed in range(200):
        Z, Y = probes(A, 20, seed)
        G = Z @ Y.T
        plain.append(np.diag(G).mean())
        controlled.append(leave_one_out.samples(leave_one_out.control(G), G, Y @ Y.T).mean())
    assert np.var(controlled) < np.var(plain) / 2.5


def test_zero_and_scale():
    Z, Y = probes(torch.zeros(5, 5, dtype=torch.float64), 4)
    control = leave_one_out.control(Z @ Y.T)
    np.testing.assert_array_equal(leave_one_out.samples(control, Z @ Y.T, Y @ Y.T), 0)
    Z, Y = probes(symmetric(SPECTRA["outliers"]), 6)
    found = [
        leave_one_out.samples(leave_one_out.control(Z @ y.T), Z @ y.T, y @ y.T) / s for s in (1e-30, 1.0, 1e30)
        for y in [s * Y]
    ]  # fmt: skip
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-9)


def test_one_probe_has_no_error():
    assert np.isnan(
        leave_one_out.standard_error(leave_one_out.control(np.ones((1, 1))), np.ones((1, 1)), np.ones((1, 1)))
    )
