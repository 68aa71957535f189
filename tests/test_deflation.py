import numpy as np
import pytest
import torch
from matrices import SPECTRA, symmetric

from landscape import seeds
from landscape.errors import InputError
from landscape.methods.deflation import FEWEST, deflate, no_deflation


def start(A, seed=0):
    return seeds.gaussian(seeds.stream(seed, "start"), 1, A[0])[0]


def projector(deflation, n):
    Q = deflation.basis.numpy()
    return np.eye(n) - Q.T @ Q


@pytest.mark.parametrize("name", ["outliers", "repeated", "opposite", "low_rank", "identity", "zero", "one", "huge"])
def test_the_trace_splits_exactly(name):
    A = symmetric(SPECTRA[name])
    n = len(A)
    deflation = deflate(lambda v: A @ v, start(A), 1e-9, 20, 1000)
    P = projector(deflation, n)
    scale = max(A.abs().max().item() * n, 1e-300)
    assert deflation.trace + np.trace(P @ A.numpy() @ P) == pytest.approx(A.trace().item(), abs=1e-12 * scale)
    np.testing.assert_allclose(deflation.diagonal().numpy(), np.diag(A.numpy() - P @ A.numpy() @ P), atol=1e-11 * scale)
    assert deflation.diagonal().sum().item() == pytest.approx(deflation.trace, abs=1e-11 * scale)
    v = start(A, 1)
    np.testing.assert_allclose(deflation.project(v).numpy(), P @ v.numpy(), atol=1e-12)


def test_steps_go_on_while_they_pay():
    """Four outliers above a bulk: no reason to go far beyond them; a flat spectrum ends at once."""
    spectrum = np.r_[40.0, 30.0, 20.0, 10.0, np.full(296, 0.2) * (-1.0) ** np.arange(296)]
    A = symmetric(spectrum)
    steps = [deflate(lambda v: A @ v, start(A), t, 100, 10**6).matvecs for t in (0.01, 0.5)]
    assert FEWEST <= steps[1] <= steps[0] < 40
    P = projector(deflate(lambda v: A @ v, start(A), 0.01, 100, 10**6), 300)
    assert np.linalg.norm(P @ A.numpy() @ P) < 1.05 * 0.2 * 296**0.5
    flat = symmetric(np.linspace(0.9, 1.1, 300))
    assert deflate(lambda v: flat @ v, start(flat), 0.02, 100, 10**6).matvecs == FEWEST


def test_limits():
    A = symmetric(SPECTRA["outliers"])
    assert deflate(lambda v: A @ v, start(A), 1e-9, 7, 1000).matvecs == 7
    assert deflate(lambda v: A @ v, start(A), 1e-9, 0, 1000).matvecs == 0
    nothing = no_deflation(A[0])
    assert nothing.trace == 0
    assert torch.equal(nothing.project(A[0]), A[0])
    assert not nothing.diagonal().any()


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="not finite"):
        deflate(lambda v: v * float("nan"), torch.ones(20), 0.1, 10, 100)
