"""Rows in one piece and in parts: the same numbers, and the same guarantees of what is built on them."""

import numpy as np
import pytest
import torch
from matrices import SPECTRA, fresh, symmetric, wanted

from landscape import seeds
from landscape.methods import restart
from landscape.methods.basis import Basis
from landscape.methods.restart import extreme_eigenpairs
from landscape.methods.rows import HALF, rows_at

WIDTHS = [None, 7, 60, 100]
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def filled(width, n=60, count=5, dtype=torch.float64):
    """Rows in parts of `width` columns, and the same numbers for numpy."""
    vectors = seeds.gaussian(seeds.stream(0, "rows"), count, torch.empty(n, dtype=dtype))
    rows = rows_at(vectors[0], count, width=width)
    for i, v in enumerate(vectors):
        rows[i] = v
    return rows, vectors.numpy().astype(np.float64)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_storage_gives_back_what_was_written(width):
    rows, expected = filled(width)
    assert rows.shape == (5, 60)
    assert rows.dtype == torch.float64
    assert rows.resident is (width is None)
    for i, row in enumerate(expected):
        np.testing.assert_array_equal(rows[i].numpy(), row)
    assert len(rows.first(3)) == 3


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_products_and_remainders(width, dtype):
    rows, R = filled(width, dtype=dtype)
    v = torch.linspace(-1, 1, 60, dtype=dtype)
    c = np.arange(1.0, 6.0)
    atol = 200 * torch.finfo(dtype).eps
    products = rows.products(v)
    assert products.dtype == torch.float64
    np.testing.assert_allclose(products.numpy(), R @ v.double().numpy(), atol=atol)
    rest = rows.without(torch.from_numpy(c), v)
    np.testing.assert_allclose(rest.numpy(), v.double().numpy() - c @ R, atol=atol)
    np.testing.assert_array_equal(rows.first(0).without(torch.zeros(0, dtype=torch.float64), v).numpy(), v.numpy())


@pytest.mark.parametrize("width", WIDTHS)
def test_rotations_in_place_and_combinations_elsewhere(width):
    rows, R = filled(width)
    M = seeds.gaussian(seeds.stream(0, "rotation"), 3, torch.empty(4, dtype=torch.float64))
    out = torch.empty(3, 60, dtype=torch.float64)
    rows.first(4).combine(M, out)
    np.testing.assert_allclose(out.numpy(), M.numpy() @ R[:4], atol=1e-13)
    rows.rotate(M, 4)
    np.testing.assert_allclose(np.stack([row.numpy() for row in (rows[0], rows[1], rows[2])]), out.numpy(), atol=0)
    np.testing.assert_array_equal(rows[4].numpy(), R[4])


@pytest.mark.parametrize("ends", ["largest", "both"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenpairs_from_rows_in_parts(monkeypatch, name, dtype, ends):
    monkeypatch.setattr(restart, "rows_at", lambda like, capacity, *_: rows_at(like, capacity, width=17))
    A = symmetric(SPECTRA[name]).to(dtype)
    single = dtype == torch.float32
    pairs = extreme_eigenpairs(lambda v: A @ v, fresh(A[0]), 3, ends, 1e-4 if single else 1e-8, max_basis=1)
    assert pairs.converged.all()
    exact = np.linalg.eigvalsh(A.double().numpy())
    scale = max(np.abs(exact).max(), 1e-300)
    np.testing.assert_allclose(pairs.values, wanted(exact, 3, ends), rtol=0, atol=(1e-4 if single else 1e-7) * scale)
    V = pairs.vectors.double()
    explicit = (V @ A.double() - torch.from_numpy(pairs.values)[:, None] * V).norm(dim=1).numpy()
    assert (explicit <= pairs.residuals).all()
    assert (V @ V.T - torch.eye(len(V), dtype=torch.float64)).abs().max() <= 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("width", [None, 17])
def test_half_precision_keeps_eleven_bits_of_unit_vectors_of_any_length(width):
    for n in (60, 10**6):
        vectors = torch.nn.functional.normalize(seeds.gaussian(seeds.stream(0, "half"), 3, torch.empty(n)))
        vectors[2] = 0
        vectors[2, 1] = 1  # all in one place
        rows = rows_at(vectors[0], 3, dtype=HALF, width=width if n == 60 else None)
        for i, v in enumerate(vectors):
            rows[i] = v
        assert rows.half
        assert rows.dtype == torch.float32
        assert rows.parts[0].element_size() == 2
        found = torch.stack([rows[i] for i in range(3)])
        assert (found - vectors).norm(dim=1).max() < 3e-4
        torch.testing.assert_close(rows.products(vectors[0]), found.double() @ vectors[0].double(), rtol=0, atol=1e-6)
        rest = rows.without(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), vectors[0])
        torch.testing.assert_close(rest, vectors[0] - found[0] + 2 * found[1] - 0.5 * found[2], rtol=0, atol=1e-6)
        turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
        out = torch.empty(2, n)
        rows.first(2).combine(turn, out)
        torch.testing.assert_close(out, turn.float() @ found[:2], rtol=0, atol=1e-6)
        rows.rotate(turn, 2)
        assert (torch.stack([rows[0], rows[1]]) - out).norm(dim=1).max() < 3e-4


STEEP = {
    "outliers": np.r_[9.0, 6.0, 4.0, np.cos(np.arange(397.0))],
    "decaying": 10.0 ** -np.linspace(0, 6, 400),
    "uniform": np.linspace(-1, 1, 400),
    "large_over_narrow": np.r_[100.0, 30.0, 10.0, 1e-2 * np.cos(np.arange(397.0))],
}


@pytest.mark.parametrize("width", [None, 130])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", STEEP)
def test_rows_stay_orthonormal_and_the_relation_holds(name, dtype, width):
    """A B = B H on all expanded rows, over restarts, although most products take one pass over the rows alone."""
    A = symmetric(STEEP[name]).to(dtype)
    basis = Basis(A[0], 60, rows_at(A[0], 60, width=width))
    basis.inject(fresh(A[0])(0))
    for _ in range(3):
        while basis.room and basis.pending:
            basis.expand(lambda v: A @ v, basis.pending[0])
        ritz = basis.ritz()
        basis.compress(ritz.coordinates[:, -30:])
        for _ in range(5):
            basis.expand(lambda v: A @ v, basis.pending[0])
    H, B = basis.coefficients(), torch.stack([basis.rows[i] for i in range(basis.count)]).double().numpy()
    rounding = torch.finfo(dtype).eps
    assert np.abs(B @ B.T - np.eye(len(B))).max() <= 20 * rounding
    defect = A.double().numpy() @ B.T - B.T @ H
    assert np.linalg.norm(defect[:, basis.expanded], axis=0).max() <= 50 * rounding * np.abs(STEEP[name]).max()
