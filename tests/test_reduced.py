"""Searches in reduced precision: what they find is certified in full precision all the same."""

import time

import numpy as np
import pytest
import torch
from problems import network

from landscape import hessian, reduced
from landscape.errors import InputError
from landscape.plan import plan_basis
from landscape.products.product import Product
from landscape.spec import HessianSpec


def disturbed(monkeypatch, size):
    """Reduced products are off by `size`, not always in the same way, whatever this processor can do."""

    def rough(self, v):
        exact = self(v)
        noise = torch.randn(len(v), generator=torch.Generator().manual_seed(int(v.abs().sum() * 1e6)))
        return exact + noise.to(v) * size * exact.norm() / len(v) ** 0.5

    monkeypatch.setattr(Product, "rough", rough)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1e-2])
@pytest.mark.parametrize("ends", ["largest", "both"])
def test_eigenvalues_are_those_of_full_precision(size, ends, monkeypatch):
    disturbed(monkeypatch, size)
    case = network("mlp").problem(dtype=torch.float32)
    H = network("mlp").hessian(case.weights.double())
    truth = np.linalg.eigvalsh(H.numpy())
    spec = HessianSpec(count=4, ends=ends, search="reduced", tolerance=1e-4, vectors=True)
    found = hessian.measure(case, spec)
    assert found.converged.all()
    expected = np.r_[truth[::-1][:4], truth[:4][::-1]] if ends == "both" else truth[::-1][:4]
    np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-4 * truth.max())
    V, values = torch.from_numpy(found.vectors).double(), torch.from_numpy(found.eigenvalues).double()
    explicit = torch.linalg.vector_norm(V @ H - values[:, None] * V, dim=1).numpy()
    assert (explicit <= found.residuals * 1.01 + 1e-7 * truth.max()).all()
    assert (explicit <= 1e-4 * truth.max()).all()
    assert 0 < found.conditions["reduced_matvecs"] < found.matvecs


def test_the_rounding_of_this_processor():
    case = network("mlp").problem(dtype=torch.float32)
    full, rough = (hessian.measure(case, HessianSpec(count=3, search=how)) for how in ("full", "reduced"))
    np.testing.assert_allclose(rough.eigenvalues, full.eigenvalues, atol=2e-4 * full.scale)
    assert rough.converged.all()


def test_auto_on_a_processor_is_full_precision():
    assert "reduced_matvecs" not in hessian.measure(network("mlp").problem(), HessianSpec(count=2)).conditions


@pytest.mark.parametrize(("full", "rough", "pays"), [(0.05, 0.0, True), (0.0, 0.05, False)])
def test_a_trial_decides(full, rough, pays, monkeypatch):
    case = network("mlp").problem(dtype=torch.float32)
    matvec, call = case.hessian(case.weights), Product.__call__
    monkeypatch.setattr(Product, "rough", lambda self, v: time.sleep(rough) or call(self, v))
    monkeypatch.setattr(Product, "__call__", lambda self, v: time.sleep(full) or call(self, v))
    assert reduced._pays(matvec, torch.randn_like(case.weights)) == pays


@pytest.mark.parametrize(
    ("spec", "dtype", "message"),
    [
        (HessianSpec(search="reduced"), torch.float64, r"full or auto for torch.float64"),
        (HessianSpec(search="reduced", progressive=True), torch.float32, "does not go with progressive"),
    ],
)
def test_refusals(spec, dtype, message):
    with pytest.raises(InputError, match=message):
        hessian.measure(network("mlp").problem(dtype=dtype), spec)


def test_a_basis_in_half_precision_is_refused():
    case = network("mlp").problem(dtype=torch.float32)
    budget = 30 * len(case.weights) * 2 / 2**30
    assert plan_basis(HessianSpec(count=2, tolerance=1e-3, basis_gib=budget), case.weights).dtype == torch.float16
    with pytest.raises(InputError, match=r"kept in torch.float16"):
        hessian.measure(case, HessianSpec(count=2, tolerance=1e-3, search="reduced", basis_gib=budget))
