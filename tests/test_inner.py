import numpy as np
import pytest
import torch

from landscape import seeds
from landscape.methods.inner import combinations, inner, norm, products

LIKE = {dtype: torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64)}


@pytest.mark.slow
def test_twenty_million_float32_terms_come_out_right():
    x = seeds.uniform(seeds.stream(0, "long"), 1, torch.empty(20_000_000))[0].add_(1.0)
    exact = float(np.dot(x.numpy().astype(np.float64), x.numpy().astype(np.float64)))
    assert abs(inner(x, x).item() / exact - 1) < 1e-6
    assert abs(norm(x).item() / exact**0.5 - 1) < 1e-6
    assert abs(products(x[None], x)[0].item() / exact - 1) < 1e-6


@pytest.mark.parametrize("n", [1, 7, 16_384, 16_385, 50_001])
@pytest.mark.parametrize("dtype", LIKE)
def test_products_agree_with_exact_sums_at_any_length(n, dtype):
    rows = seeds.gaussian(seeds.stream(0, "rows", n), 3, torch.empty(n, dtype=dtype))
    expected = rows.double() @ rows[0].double()
    found = products(rows, rows[0])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=n * (1e-6 if dtype == torch.float32 else 1e-14))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norms_neither_overflow_nor_vanish(scale):
    assert norm(torch.full((9,), scale)).item() == pytest.approx(3 * scale, rel=1e-6)


def test_the_norm_of_zero_and_of_nan():
    assert norm(torch.zeros(5)).item() == 0
    assert np.isnan(norm(torch.tensor([1.0, float("nan")])).item())


def test_combinations_may_overwrite_their_own_rows():
    rows = seeds.gaussian(seeds.stream(0, "combine"), 5, torch.empty(3_000_000, dtype=torch.float64))
    factor = torch.arange(10, dtype=torch.float64).view(2, 5)
    expected = factor @ rows
    combinations(factor, rows, out=rows[:2])
    torch.testing.assert_close(rows[:2], expected)
