"""The random subspace: columns by law, the pseudo-inverse, and the restriction, against numpy."""

import numpy as np
import pytest
import torch

from landscape.errors import InputError
from landscape.methods import affine
from landscape.seeds import gaussian, stream

SHAPES = [(3, 50), (100, 1000), (20, 70), (5, 5), (9, 4)]


def draws(p, n, dtype=torch.float64):
    return gaussian(stream(0, "test", p, n), p, torch.zeros(n, dtype=dtype))


@pytest.mark.parametrize(("p", "n"), SHAPES)
@pytest.mark.parametrize("law", ["gaussian", "unit"])
def test_pseudo_inverse_is_the_shortest_least_squares_solution(p, n, law):
    rows = affine.columns(draws(p, n), law)
    x = draws(1, n)[0] + 3
    expected = np.linalg.lstsq(rows.numpy().T, x.numpy(), rcond=None)[0]
    np.testing.assert_allclose(affine.pseudo_inverse(rows, x).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_pseudo_inverse_undoes_nearly_dependent_columns(monkeypatch):
    monkeypatch.setattr(affine, "_BLOCK", 37)  # several blocks, the last one short
    rows = draws(4, 200)
    rows[3] = rows[2] + 1e-6 * rows[3]
    z = torch.tensor([0.3, -1.0, 2.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(affine.pseudo_inverse(rows, rows.T @ z), z, rtol=1e-8, atol=0)


def test_pseudo_inverse_of_float32_is_taken_in_float64():
    rows, x = draws(4, 200, torch.float32), 1e3 * draws(1, 200, torch.float32)[0]
    expected = np.linalg.lstsq(rows.double().numpy().T, x.double().numpy(), rcond=None)[0]
    found = affine.pseudo_inverse(rows, x)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_unit_columns_are_the_draws_scaled_to_length_one():
    rows = affine.columns(draws(6, 40), "unit").numpy()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(rows, draws(6, 40).numpy() / np.linalg.norm(draws(6, 40).numpy(), axis=1)[:, None])


@pytest.mark.parametrize(("p", "n"), [(100, 1000), (7, 7), (20, 30)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_orthonormal_columns_are_gram_schmidt_of_the_draws(p, n, dtype, tolerance):
    rows = affine.columns(draws(p, n, dtype), "orthonormal").double().numpy()
    q, r = np.linalg.qr(draws(p, n, dtype).double().numpy().T)
    np.testing.assert_allclose(rows @ rows.T, np.eye(p), atol=tolerance)
    np.testing.assert_allclose(rows, (q * np.sign(np.diag(r))).T, atol=100 * tolerance)


def test_laws_and_dimensions_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="dimension = 9"):
        affine.columns(draws(9, 4), "orthonormal")
    with pytest.raises(InputError, match="one of gaussian, unit, orthonormal"):
        affine.columns(draws(2, 4), "cauchy")


def test_restriction_has_the_value_at_the_shifted_point_and_the_gradient_of_z():
    rows, x, z = draws(3, 30), draws(1, 30)[0], torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    value, gradient = affine.restricted(lambda w: (w.pow(3).sum().item(), 3 * w**2), x, rows)(z)
    A = rows.numpy().T
    point = x.numpy() + A @ z.numpy()
    assert value == pytest.approx((point**3).sum(), rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), A.T @ (3 * point**2), rtol=1e-12)
