import numpy as np
import pytest
import torch
from matrices import SPECTRA, symmetric
from scipy.stats import chi2

from landscape import seeds
from landscape.errors import InputError
from landscape.methods.quadrature import Quadrature, by_rows, quadrature, resolved


def operator(A):
    return by_rows(lambda v: A @ v)


def gaussian(count, A, seed=0):
    return torch.cat([seeds.gaussian(seeds.stream(seed, "probe", i), 1, A[0]) for i in range(count)])


@pytest.mark.parametrize("probes", [1, 2, 3])
@pytest.mark.parametrize("name", SPECTRA)
def test_every_probe_has_its_own_gauss_quadrature(name, probes):
    """zᵀAʲz/zᵀz = Σ ω θʲ for all j ≤ 2·steps − 1."""
    steps, A = 4, symmetric(SPECTRA[name])
    Z = gaussian(probes, A)
    found = quadrature(operator(A), Z, steps)
    scale = np.abs(SPECTRA[name]).max() or 1.0
    power = Z
    for j in range(2 * steps):
        exact = ((Z * power).sum(1) / Z.square().sum(1)).numpy()
        np.testing.assert_allclose(found.weights @ (found.values / scale) ** j, exact, atol=1e-12)
        power = power @ A / scale
    np.testing.assert_allclose(found.weights.sum(1), 1)
    assert found.products <= probes * steps


@pytest.mark.parametrize("probes", [1, 2, 7])
def test_a_space_that_spans_everything_gives_all_eigenvalues_and_components(probes):
    spectrum = np.linspace(-1, 3, 20) ** 3
    A = symmetric(spectrum)
    Z = gaussian(probes, A)
    found = quadrature(operator(A), Z, 50)
    values, vectors = torch.linalg.eigh(A)
    np.testing.assert_allclose(found.values, values, atol=1e-12)
    np.testing.assert_allclose(found.weights, (Z @ vectors).square() / Z.square().sum(1, keepdim=True), atol=1e-12)
    assert found.residuals.max() < 1e-12
    assert found.invariant
    assert resolved(found, 1e-3).all()


@pytest.mark.parametrize("name", ["outliers", "opposite", "all_negative", "clustered", "huge", "minute"])
def test_residuals_are_those_of_explicit_vectors(name):
    """‖Ax − θx‖ of a Ritz pair bounds the distance to an eigenvalue, and is zero where they meet."""
    spectrum = SPECTRA[name]
    A = symmetric(spectrum)
    found = quadrature(operator(A), gaussian(2, A), 12)
    distance = np.abs(found.values[:, None] - spectrum).min(1)
    assert (distance <= found.residuals + 1e-13 * np.abs(spectrum).max()).all()
    start = quadrature(operator(A), gaussian(1, A), 1)
    z = gaussian(1, A)[0]
    z = z / z.norm()
    assert start.values[0] == pytest.approx((z @ A @ z).item())
    assert start.residuals[0] == pytest.approx((A @ z - (z @ A @ z) * z).norm().item())


@pytest.mark.parametrize("probes", [1, 2])
def test_locked_eigenvectors_leave_the_deflated_operator(probes):
    spectrum = SPECTRA["outliers"]
    A = symmetric(spectrum)
    values, vectors = torch.linalg.eigh(A)
    locked, rest = vectors[:, -4:].T.contiguous(), vectors[:, :-4]
    Z = gaussian(probes, A)
    found = quadrature(operator(A), Z, 5, locked)
    reduced = quadrature(operator(rest.T @ A @ rest), Z @ rest, 5)
    np.testing.assert_allclose(found.values, reduced.values, atol=1e-12)
    np.testing.assert_allclose(found.weights, reduced.weights, atol=1e-12)
    assert found.dimension == len(spectrum) - 4
    assert found.values.max() < values[-4] - 0.5


def test_when_all_is_locked_nothing_is_left():
    A = symmetric(SPECTRA["three"])
    found = quadrature(operator(A), gaussian(2, A), 5, torch.eye(3, dtype=A.dtype))
    assert (len(found.values), found.weights.shape, found.products) == (0, (2, 0), 0)


@pytest.mark.parametrize("probes", [1, 2, 3])
@pytest.mark.parametrize("name", ["low_rank", "identity", "zero", "one", "three", "integers", "repeated"])
def test_after_a_breakdown_all_is_exact(name, probes):
    """Every Ritz value is an eigenvalue, none occurs too often, and the weights are those of the eigenspaces."""
    spectrum = SPECTRA[name]
    A = symmetric(spectrum)
    Z = gaussian(probes, A)
    found = quadrature(operator(A), Z, 60)
    values, vectors = torch.linalg.eigh(A)
    components = ((Z @ vectors).square() / Z.square().sum(1, keepdim=True)).numpy()
    for value in np.unique(np.round(spectrum, 12)):
        here, there = np.abs(found.values - value) < 1e-11, np.abs(values.numpy() - value) < 1e-11
        assert here.sum() <= there.sum()
        np.testing.assert_allclose(found.weights[:, here].sum(1), components[:, there].sum(1), atol=1e-12)
    assert found.residuals.max() < 1e-13 * max(np.abs(spectrum).max(), 1)


@pytest.mark.parametrize("name", ["low_rank", "identity", "zero"])
def test_a_breakdown_ends_the_products(name):
    A = torch.block_diag(symmetric(SPECTRA[name]), torch.zeros(400, 400, dtype=torch.float64))
    assert quadrature(operator(A), gaussian(2, A), 200).products <= 60


def test_a_probe_that_repeats_another_adds_nothing():
    A = symmetric(SPECTRA["outliers"])
    z = gaussian(1, A)
    twice = quadrature(operator(A), torch.cat([z, 3 * z]), 6)
    once = quadrature(operator(A), z, 6)
    np.testing.assert_allclose(twice.values, once.values, atol=1e-12)
    np.testing.assert_allclose(twice.weights, np.repeat(once.weights, 2, axis=0), atol=1e-12)


def test_rows_may_be_multiplied_together():
    A = symmetric(SPECTRA["repeated"])
    Z = gaussian(3, A)
    together, alone = (quadrature(matvec, Z, 6) for matvec in (lambda rows: rows @ A, operator(A)))
    np.testing.assert_allclose(together.values, alone.values, atol=1e-12)
    np.testing.assert_allclose(together.weights, alone.weights, atol=1e-12)


def test_float32_agrees_with_float64():
    A = symmetric(SPECTRA["outliers"])
    Z = gaussian(2, A)
    double, single = (quadrature(operator(A.to(t)), Z.to(t), 12) for t in (torch.float64, torch.float32))
    for j in range(1, 6):
        np.testing.assert_allclose(
            single.weights @ single.values**j, double.weights @ double.values**j, rtol=1e-4, atol=1e-4
        )


def test_the_products_are_those_said_and_watched():
    A = symmetric(SPECTRA["outliers"])
    rows, told = [], []

    def counted(block):
        rows.append(len(block))
        return block @ A

    found = quadrature(counted, gaussian(3, A), 5, watch=told.append)
    assert rows == [3] * 5
    assert told == [3, 6, 9, 12, 15]
    assert found.products == 15


def test_bad_probes_and_products_are_refused():
    A = symmetric(SPECTRA["outliers"])
    for bad in (0.0, float("nan")):
        with pytest.raises(InputError, match="norm of a probe"):
            quadrature(operator(A), bad * gaussian(2, A), 3)
    with pytest.raises(InputError, match="not finite"):
        quadrature(lambda rows: rows * float("nan"), gaussian(2, A), 3)


# ---- which Ritz values stand for one eigenvalue ------------------------------------------------------------------


def test_outliers_are_resolved_and_the_bulk_is_not():
    spectrum = np.r_[9.0, 6.0, 4.0, 2.5, -1.5, 0.1 * np.cos(np.arange(400))]
    A = symmetric(spectrum)
    found = quadrature(operator(A), gaussian(2, A), 12)
    single = resolved(found, 1e-3)
    assert set(spectrum[:5]) <= set(np.round(found.values[single], 8))
    assert single.sum() < 10


@pytest.mark.parametrize("probes", [1, 2, 3])
def test_a_large_eigenspace_does_not_pass_for_one_eigenvalue(probes):
    A = symmetric(SPECTRA["low_rank"])
    found = quadrature(operator(A), gaussian(probes, A), 10)
    single = resolved(found, 1e-3)
    zero = np.abs(found.values) < 0.5
    rest = found.weights[:, ~single].mean(0)
    share = (single & zero).sum() / 60 + (60 - single.sum()) / 60 * rest[zero[~single]].sum() / rest.sum()
    assert share == pytest.approx(57 / 60, abs=0.05)
    assert (single & ~zero).sum() <= 3


def test_a_pair_of_equal_eigenvalues_is_resolved_by_two_probes():
    spectrum = np.r_[4.0, 4.0, 1.5, 0.1 * np.cos(np.arange(300))]
    A = symmetric(spectrum)
    found = quadrature(operator(A), gaussian(2, A), 15)
    np.testing.assert_allclose(np.sort(found.values[resolved(found, 1e-6)])[-3:], [1.5, 4, 4])


@pytest.mark.parametrize("probes", [1, 3])
def test_the_crowded_are_told_by_their_weights(probes):
    limit = chi2.isf(1e-3, probes) / 1000 / probes
    for weight, expected in ((0.99 * limit, True), (1.01 * limit, False)):
        weights = np.repeat([[weight, 1 - weight]], probes, axis=0)
        found = Quadrature(np.array([1.0, 2.0]), weights, np.array([0.0, 1.0]), 1000, False, 1e-12, 10)
        assert resolved(found, 1e-3)[0] == expected


def test_close_ritz_values_are_not_told_apart_by_a_large_residual():
    weights = np.array([[0.001, 0.001, 0.998]])
    found = Quadrature(np.array([1.0, 1.001, 2.0]), weights, np.array([5e-4, 5e-5, 1.0]), 1000, False, 1e-12, 10)
    assert resolved(found, 1e-3).tolist() == [False, True, False]
