"""The tridiagonalisation and the eigenvalue solver on matrices whose eigenvalues are prescribed."""

import numpy as np
import pytest
import torch
from matrices import SPECTRA, fresh, symmetric, wanted

from landscape import seeds
from landscape.errors import InputError
from landscape.methods.lanczos import ritz_pairs, tridiagonalise
from landscape.methods.restart import extreme_eigenpairs, smallest_basis

ENDS = ("largest", "smallest", "magnitude", "both")
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def counting(A):
    calls = []

    def matvec(v):
        calls.append(1)
        return A @ v

    return matvec, calls


def solve(name, count, ends, dtype=torch.float64, seed=0, **options):
    A = symmetric(SPECTRA[name]).to(dtype)
    matvec, calls = counting(A)
    pairs = extreme_eigenpairs(matvec, fresh(A[0], seed), count, ends, **options)
    assert pairs.matvecs == len(calls)
    return A.double(), pairs


def check(A, pairs, count, ends, accuracy):
    """Values, bounds and orthonormality, against numpy's dense solver."""
    exact = np.linalg.eigvalsh(A.numpy())
    expected, scale = wanted(exact, count, ends), max(np.abs(exact).max(), 1e-300)
    found = np.sort(np.abs(pairs.values))[::-1] if ends == "magnitude" else pairs.values
    np.testing.assert_allclose(
        found, np.abs(expected) if ends == "magnitude" else expected, rtol=0, atol=accuracy * scale
    )
    V = pairs.vectors.double()
    explicit = (V @ A - torch.from_numpy(pairs.values)[:, None] * V).norm(dim=1).numpy()
    assert (explicit <= pairs.residuals).all()
    eps = torch.finfo(pairs.vectors.dtype).eps
    assert (V @ V.T - torch.eye(len(V), dtype=torch.float64)).abs().max() <= 20 * eps


# -- tridiagonalise --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("steps", [1, 2, 25, 60])
def test_the_lanczos_relation_holds(steps, dtype):
    A = symmetric(SPECTRA["outliers"]).to(dtype)
    T = tridiagonalise(lambda v: A @ v, fresh(A[0])(0), steps)
    Q, r = T.basis.double(), T.remainder.double()
    k, eps = len(Q), torch.finfo(dtype).eps
    defect = A.double() @ Q.T - Q.T @ torch.from_numpy(T.matrix())
    defect[:, -1] -= r
    assert defect.norm() < 100 * eps * 9
    assert (Q @ Q.T - torch.eye(k, dtype=torch.float64)).abs().max() < 20 * eps
    assert (Q @ r).abs().max() < 100 * eps


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_lanczos_stops_where_the_krylov_space_ends(dtype):
    diagonal = torch.tensor([4.0, 3.0, -2.0, 1.0, 1.0, 0.5], dtype=dtype)
    start = torch.tensor([1.0, 0.0, 2.0, 3.0, 1.0, 0.0], dtype=dtype)
    T = tridiagonalise(lambda v: diagonal * v, start, 6)
    assert T.remainder.abs().max() == 0
    np.testing.assert_allclose(np.linalg.eigvalsh(T.matrix()), [-2, 1, 4], atol=30 * torch.finfo(dtype).eps)


def test_ritz_pairs_carry_their_true_residuals():
    A = symmetric(SPECTRA["outliers"])
    ritz = ritz_pairs(tridiagonalise(lambda v: A @ v, fresh(A[0])(0), 20))
    explicit = (ritz.vectors @ A - torch.from_numpy(ritz.values)[:, None] * ritz.vectors).norm(dim=1)
    np.testing.assert_allclose(ritz.residuals, explicit.numpy(), atol=1e-13)


@pytest.mark.parametrize("start", [torch.zeros(4), torch.full((4,), float("nan"))])
def test_a_start_that_is_no_direction_is_refused(start):
    with pytest.raises(InputError, match="start vector"):
        tridiagonalise(lambda v: v, start, 2)


# -- extreme_eigenpairs ----------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_of_prescribed_spectra(name, ends):
    A, pairs = solve(name, 4, ends, tolerance=1e-9)
    assert pairs.complete
    assert pairs.converged.all()
    check(A, pairs, 4, ends, 1e-8)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_in_float32(name, ends):
    A, pairs = solve(name, 4, ends, torch.float32, tolerance=1e-4)
    assert pairs.complete
    assert pairs.converged.all()
    check(A, pairs, 4, ends, 1e-4)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", ["outliers", "repeated", "integers", "low_rank", "opposite"])
def test_a_basis_as_small_as_can_be(name, ends):
    A, pairs = solve(name, 3, ends, tolerance=1e-7, max_basis=1)
    assert pairs.converged.all()
    check(A, pairs, 3, ends, 1e-7)


def test_a_small_basis_is_restarted_and_kept_to():
    A = symmetric(np.linspace(-1, 1, 400))
    pairs = extreme_eigenpairs(lambda v: A @ v, fresh(A[0]), 3, "largest", 1e-6, max_basis=1)
    assert smallest_basis(3, "largest", 400) == 18
    assert pairs.restarts > 3
    assert pairs.converged.all()
    check(A, pairs, 3, "largest", 1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_multiplicities_are_found_from_any_start(seed):
    rng = np.random.default_rng(seed)
    spectrum = np.r_[rng.choice([3.0, 2.0, 2.0 - 1e-7, 1.0], 8), rng.uniform(-0.5, 0.5, 40)]
    A = symmetric(spectrum, seed)
    pairs = extreme_eigenpairs(lambda v: A @ v, fresh(A[0], seed), 8, "largest", 1e-9)
    check(A, pairs, 8, "largest", 1e-8)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_more_eigenvalues_than_the_matrix_has(count):
    _, pairs = solve("three", count, "both", tolerance=1e-9)
    np.testing.assert_allclose(pairs.values, [2, 2, -1], atol=1e-12)
    assert pairs.matvecs <= 6


def test_a_budget_that_ends_too_soon_is_said():
    A, pairs = solve("outliers", 4, "both", tolerance=1e-9, max_matvecs=9)
    assert pairs.matvecs == 9
    assert not pairs.converged.any()
    assert not pairs.complete
    check(A, pairs, 4, "both", 1.0)


def test_a_budget_that_ends_before_the_search_for_copies_is_said():
    _, full = solve("repeated", 3, "largest", tolerance=1e-4)
    _, cut = solve("repeated", 3, "largest", tolerance=1e-4, max_matvecs=full.matvecs - 1)
    assert full.converged.all()
    assert not cut.converged.any()


def test_an_unreachable_tolerance_ends_without_using_up_the_budget():
    A, pairs = solve("outliers", 4, "largest", torch.float32, tolerance=1e-9)
    assert pairs.complete
    assert not pairs.converged.any()
    assert pairs.matvecs <= 60
    check(A, pairs, 4, "largest", 1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_refused(bad):
    A = symmetric(SPECTRA["outliers"])
    A[3, 4] = A[4, 3] = bad
    with pytest.raises(InputError, match="not finite"):
        extreme_eigenpairs(lambda v: A @ v, fresh(A[0]), 2)


def test_noisy_products_are_noticed_in_the_bounds():
    """A product with relative errors of 1e-5, as of finite differences: no bound may fall below the noise."""
    A = symmetric(SPECTRA["outliers"])
    draws = iter(range(10_000))

    def matvec(v):
        noise = seeds.gaussian(seeds.stream(0, "noise", next(draws)), 1, v)[0]
        return A @ v + 9e-5 * noise / len(v) ** 0.5

    pairs = extreme_eigenpairs(matvec, fresh(A[0]), 3, "largest", 1e-8)
    assert not pairs.converged.any()
    assert pairs.matvecs < 200
    check(A, pairs, 3, "largest", 1e-4)


def test_bounds_allow_for_what_float32_does_to_the_operator():
    """Rounding may change the operator and stay symmetric: only products in float64 can show that."""
    A, E = symmetric(SPECTRA["outliers"]), symmetric(2e-5 * SPECTRA["opposite"], seed=1)
    rounded = (A + E).float()
    pairs = extreme_eigenpairs(lambda v: rounded @ v, fresh(rounded[0]), 4, exact=lambda v: A @ v)
    assert pairs.converged.all()
    check(A, pairs, 4, "largest", 1e-5)


def test_few_products_are_needed():
    """Ten outliers over a narrow bulk: two products for each, and a dozen to rule out copies."""
    spectrum = np.r_[np.arange(1.0, 11.0), 0.1 * np.cos(np.arange(490.0))]
    A = symmetric(spectrum)
    matvec, calls = counting(A)
    pairs = extreme_eigenpairs(matvec, fresh(A[0]), 10)
    assert pairs.converged.all()
    assert len(calls) <= 32
