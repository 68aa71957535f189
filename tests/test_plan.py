"""Where the basis goes, with faked memory; tensors on torch's meta device stand for those on an accelerator."""

import pytest
import torch
from matrices import SPECTRA
from problems import prescribed

from landscape import hessian, plan
from landscape.errors import InputError
from landscape.plan import plan_basis
from landscape.spec import HessianSpec

N = 1 << 28
ROW = 1.0
"""GiB of a float32 vector of N numbers."""


@pytest.fixture
def memory(monkeypatch):
    """Sets the free GiB of the accelerator and of the host."""

    def free(accelerator, host):
        found = {"meta": accelerator, "cpu": host}
        monkeypatch.setattr(plan, "available_bytes", lambda device: int(found[device.type] * 2**30))

    return free


def vector(dtype=torch.float32, device="meta"):
    return torch.empty(1, dtype=dtype, device=device).expand(N)


def test_an_accelerator_with_room_is_taken(memory):
    memory(100, 1000)
    found = plan_basis(HessianSpec(count=5), vector())
    assert (found.device.type, found.rows, found.fewest) == ("meta", 50, 22)
    assert str(found) == "50 rows on meta, float32, 50 GiB"


def test_a_small_basis_beside_the_arithmetic_comes_before_a_large_one_elsewhere(memory):
    memory(45, 4000)
    assert str(plan_basis(HessianSpec(count=5), vector())) == "22 rows on meta, float32, 22 GiB"


def test_the_host_is_next_and_gets_enough_rows(memory):
    memory(40, 1000)
    assert str(plan_basis(HessianSpec(count=5), vector())) == "88 rows on cpu, float32, 88 GiB"
    memory(40, 60)
    assert str(plan_basis(HessianSpec(count=5), vector())) == "30 rows on cpu, float32, 30 GiB"


def test_a_basis_that_costs_next_to_nothing_is_as_long_as_is_useful(memory):
    memory(80, 80)
    small = torch.empty(10_000)
    assert plan_basis(HessianSpec(count=1), small).rows == plan.MOST_ROWS
    assert plan_basis(HessianSpec(count=1), torch.empty(30)).rows == 60


def test_the_size_given_is_kept_to(memory):
    memory(100, 100)
    assert plan_basis(HessianSpec(count=5, basis_gib=80), vector()).rows == 80
    assert plan_basis(HessianSpec(count=5, basis_gib=1000), vector()).rows == 90
    assert plan_basis(HessianSpec(count=5, basis_gib=25), vector()).rows == 25


@pytest.mark.parametrize(
    ("spec", "free", "dtype", "texts"),
    [
        (HessianSpec(count=5), (30, 30), torch.float32,
         ["5 eigenvalues need 22 vectors of 268435456 parameters, 22 GiB", "meta has 30 GiB free, cpu has 30 GiB free",
          "50 %: 15 vectors", "ask for 1 eigenvalue,", "give basis_gib = 22.02"]),
        (HessianSpec(count=5), (20, 38), torch.float32, ["ask for 3 eigenvalues"]),
        (HessianSpec(count=5), (4, 5), torch.float64, ["44 GiB", "use a device with more memory", "float32"]),
        (HessianSpec(count=5, basis_gib=2), (100, 100), torch.float32, ["basis_gib = 2 holds 2", "basis_gib = 22.02"]),
        (HessianSpec(count=5, basis_gib=99), (10, 10), torch.float32, ["90 %: 9 vectors", "more memory"]),
    ],
)  # fmt: skip
def test_the_refusal_says_what_is_missing_and_what_to_do(memory, spec, free, dtype, texts):
    memory(*free)
    with pytest.raises(InputError) as refused:
        plan_basis(spec, vector(dtype))
    for text in [*texts, "params"]:
        assert text in str(refused.value)


def test_remedies_that_would_not_help_are_not_named(memory):
    memory(4, 5)
    with pytest.raises(InputError) as refused:
        plan_basis(HessianSpec(count=1), vector())
    assert "ask for" not in str(refused.value)
    assert "basis_gib" not in str(refused.value)


def test_what_the_refusal_proposes_is_accepted(memory):
    memory(30, 30)
    assert plan_basis(HessianSpec(count=5, basis_gib=22.02), vector()).rows == 22
    assert plan_basis(HessianSpec(count=1), vector()).rows == 15


def test_rows_in_half_precision_where_nothing_else_fits_and_the_tolerance_allows(memory):
    memory(30, 30)
    coarse = HessianSpec(count=5, tolerance=1e-3)
    assert str(plan_basis(coarse, vector())) == "30 rows on meta, float16, 15 GiB"
    memory(10, 30)
    assert str(plan_basis(coarse, vector())) == "30 rows on cpu, float16, 15 GiB"
    memory(10, 50)
    assert plan_basis(coarse, vector()).dtype == torch.float32
    memory(30, 30)
    for spec, w in (
        (HessianSpec(count=5), vector()),
        (HessianSpec(count=5, tolerance=1e-3, progressive=True), vector()),
        (coarse, vector(torch.float64)),
    ):
        with pytest.raises(InputError) as refused:
            plan_basis(spec, w)
        assert ("tolerance of at least 0.0005" in str(refused.value)) == (spec == HessianSpec(count=5))


def test_a_measurement_with_rows_in_half_precision(memory):
    problem, A = prescribed(SPECTRA["outliers"], torch.float32)
    row = problem.weights.numel() * 2 / 2**30
    memory(0, 40 * row)
    result = hessian.measure(problem, HessianSpec(count=3, tolerance=2e-3))
    assert "float16" in result.conditions["basis"]
    assert result.converged.all()
    exact = torch.linalg.eigvalsh(A).flip(0)[:3]
    assert (torch.from_numpy(result.eigenvalues) - exact).abs().max() < 1e-4 * exact[0]


def test_the_plan_is_recorded_and_carried_out():
    problem, _ = prescribed(SPECTRA["outliers"])
    result = hessian.measure(problem, HessianSpec(count=2))
    assert result.conditions["basis"] == "120 rows on cpu, float64, 5.4e-05 GiB"
