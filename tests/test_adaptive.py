"""Refinement on functions that are known everywhere: what it promises against the error that it makes."""

import numpy as np
import pytest

from landscape.methods.adaptive import Refined, refine


def _mesh(*shape: int) -> list[np.ndarray]:
    return list(np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij"))


def _refined(truth: np.ndarray, tolerance: float, seed: int = 0) -> tuple[Refined, int]:
    """The outcome, and how many cells were looked at, each once."""
    values, seen = np.full_like(truth, np.nan), []

    def visit(cells: list[tuple[int, ...]]) -> None:
        seen.extend(cells)
        for cell in cells:
            values[cell] = truth[cell]

    order = np.random.default_rng(seed).permutation(truth[..., 0].size)
    found = refine(visit, values, range(truth.shape[-1]), tolerance, order)
    assert len(seen) == len(set(seen)) == int((~found.interpolated).sum())
    np.testing.assert_array_equal(found.values[~found.interpolated], truth[~found.interpolated])
    return found, len(seen)


def _valley() -> np.ndarray:
    """A curved valley over six decades."""
    x, y = _mesh(51, 51)
    return 1e-4 + 100 * (y - x**2) ** 2 + (1 - x) ** 2


FUNCTIONS = {
    "valley": _valley(),
    "bowl": (lambda x, y: 1e-3 + x**2 + 30 * y**2)(*_mesh(51, 51)),
    "waves": (lambda x, y: np.sin(4 * x) * np.cos(3 * y) + 0.1 * x)(*_mesh(51, 41)),
    "kink": (lambda x, y: np.abs(x + 0.3 * y) + 0.5)(*_mesh(51, 51)),
    "line": (lambda x: np.exp(-3 * x) + x**2)(*_mesh(201)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_true_error_is_within_the_tolerance_at_few_cells(name: str, seed: int):
    truth = FUNCTIONS[name][..., None]
    found, looked = _refined(truth, 0.01, seed)
    true = np.abs(found.values - truth).max() / np.ptp(truth)
    assert true <= 0.01
    assert found.error <= 0.01
    assert looked <= truth.size * (1 / 2 if name in ("kink", "line") else 1 / 3)


def test_several_columns_are_all_refined():
    x, y = _mesh(41, 41)
    truth = np.stack([1 + x**2, 1 / (0.02 + (x - 0.5) ** 2 + y**2)], -1)
    found, _ = _refined(truth, 0.01)
    for k in (0, 1):
        assert np.abs(found.values[..., k] - truth[..., k]).max() <= 0.01 * np.ptp(truth[..., k])


def test_noise_cannot_be_interpolated_and_is_evaluated():
    truth = np.random.default_rng(0).normal(size=(15, 13, 1))
    found, looked = _refined(truth, 0.01)
    assert looked == truth.size
    assert not found.interpolated.any()
    assert found.error == 0.0


def test_cells_that_are_not_finite_are_all_evaluated_and_never_made_up():
    x, y = _mesh(41, 41)
    truth = (1 + x**2 + y**2)[..., None]
    truth[x + y > 1.2] = np.inf
    truth[30:, :4] = np.nan
    found, looked = _refined(truth, 0.01)
    np.testing.assert_array_equal(np.isfinite(found.values), np.isfinite(truth))
    assert looked < truth.size / 2
    finite = np.isfinite(truth)
    assert np.abs(found.values[finite] - truth[finite]).max() <= 0.01 * np.ptp(truth[finite])


@pytest.mark.parametrize("shape", [(2, 2), (3, 50), (7, 13), (5, 5, 5)], ids=str)
def test_small_grids_of_any_shape(shape: tuple[int, ...]):
    truth = sum((k + 1) * axis**2 for k, axis in enumerate(_mesh(*shape)))[..., None]
    found, _ = _refined(truth, 0.01)
    assert np.abs(found.values - truth).max() <= 0.01 * np.ptp(truth)


def test_a_constant_needs_no_refinement():
    found, looked = _refined(np.full((31, 31, 1), 2.5), 0.01)
    np.testing.assert_allclose(found.values, 2.5)
    assert looked <= 81 + 2 * 20
