import numpy as np
import pytest
import torch
from matrices import SPECTRA, symmetric

from landscape import seeds
from landscape.errors import InputError
from landscape.methods.hutchinson import hutchinson
from landscape.methods.quadrature import by_rows


def test_estimates_scatter_as_their_standard_errors_say():
    """Over 200 independent estimates, (mean − trace)/error has the spread of Student's t with 29 degrees."""
    A = symmetric(SPECTRA["outliers"])
    trace = np.trace(A.numpy())
    scores = []
    for i in range(200):
        estimate = hutchinson(by_rows(lambda v: A @ v), seeds.rademacher(seeds.stream(i, "probes"), 30, A[0]))
        scores.append((estimate.mean - trace) / estimate.standard_error)
    assert abs(np.mean(scores)) < 4 / 200**0.5
    assert 0.8 < np.std(scores) < 1.25


def test_the_variance_of_a_sample_is_twice_the_squared_off_diagonal():
    A = symmetric(SPECTRA["repeated"])
    estimate = hutchinson(by_rows(lambda v: A @ v), seeds.rademacher(seeds.stream(0, "probes"), 4000, A[0]))
    off_diagonal = A - torch.diag(A.diagonal())
    assert estimate.samples.var().item() == pytest.approx(2 * off_diagonal.square().sum().item(), rel=0.1)


def test_a_diagonal_matrix_has_no_error():
    diagonal = torch.arange(5.0, dtype=torch.float64)
    estimate = hutchinson(by_rows(lambda v: diagonal * v), seeds.rademacher(seeds.stream(0, "p"), 3, diagonal))
    assert estimate.mean == 10
    assert estimate.standard_error == 0


def test_one_probe_has_no_standard_error():
    assert np.isnan(hutchinson(by_rows(lambda v: v), torch.ones(1, 4)).standard_error)


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="not finite"):
        hutchinson(by_rows(lambda v: v * float("nan")), torch.ones(2, 4))
