import numpy as np
import pytest
import torch
from matrices import SPECTRA, symmetric

from landscape import seeds
from landscape.errors import InputError
from landscape.methods.quadrature import by_rows
from landscape.methods.xtrace import hutch_plus_plus, xtrace


def probes(A, count, seed):
    return seeds.rademacher(seeds.stream(seed, "probes"), count, A[0])


@pytest.mark.parametrize("method", [hutch_plus_plus, xtrace])
@pytest.mark.parametrize(
    "name", ["outliers", *[pytest.param(name, marks=pytest.mark.slow) for name in ("opposite", "integers")]]
)
def test_unbiased_and_the_error_is_the_scatter(method, name):
    A = symmetric(SPECTRA[name])
    found = [method(by_rows(lambda v: A @ v), probes(A, 16, seed)) for seed in range(300)]
    means = np.array([one.mean for one in found])
    assert abs(means.mean() - A.trace().item()) < 4 * means.std() / 300**0.5
    errors = np.square([one.standard_error for one in found]).mean() ** 0.5
    assert 0.65 < errors / means.std() < 1.15  # XTrace's own estimate is known to be on the low side


def test_xtrace_is_what_its_definition_says():
    A = symmetric(SPECTRA["clustered"])
    Z = probes(A, 6, 0)
    expected = []
    for i in range(6):
        Q, _ = np.linalg.qr((A @ Z[np.arange(6) != i].T).numpy())
        P = np.eye(60) - Q @ Q.T
        z = Z[i].numpy()
        expected.append(np.trace(Q.T @ A.numpy() @ Q) + z @ P @ A.numpy() @ P @ z)
    np.testing.assert_allclose(xtrace(by_rows(lambda v: A @ v), Z).samples.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("method", [hutch_plus_plus, xtrace])
def test_a_low_rank_is_found_exactly(method):
    A = symmetric(SPECTRA["low_rank"])
    found = method(by_rows(lambda v: A @ v), probes(A, 12, 0))
    assert found.mean == pytest.approx(9, rel=1e-10)
    assert found.standard_error < 1e-10


@pytest.mark.parametrize("method", [hutch_plus_plus, xtrace])
def test_refusals(method):
    with pytest.raises(InputError, match="at least 2"):
        method(by_rows(lambda v: v), torch.ones(1, 4))
    with pytest.raises(InputError, match="not finite"):
        method(by_rows(lambda v: v * float("nan")), torch.ones(4, 4))
