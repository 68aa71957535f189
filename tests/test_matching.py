"""Assignments against all permutations, coordinate ascent on closed forms, correlations against NumPy."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from landscape import seeds
from landscape.methods.correlations import Correlations
from landscape.methods.matching import ascend, best_order, best_orders


def normal(*shape: int) -> np.ndarray:
    like = torch.empty(int(np.prod(shape)), dtype=torch.float64)
    return seeds.gaussian(seeds.stream(0, "matching", shape), 1, like)[0].view(shape).numpy()


def value(similarity: np.ndarray, order) -> float:
    return float(similarity[np.arange(len(similarity)), list(order)].sum())


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_best_order_is_the_best_of_all(n):
    similarity = normal(n, n)
    order = best_order(similarity)
    assert value(similarity, order) == pytest.approx(max(value(similarity, p) for p in permutations(range(n))))
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_blocks_change_places_with_their_units():
    """Two heads with three keys and two values each: 2!·(3!)²·(2!)² orders."""
    keys, values = normal(6, 6), normal(4, 4)
    found = []
    for heads in permutations(range(2)):
        for inner in product(*[list(permutations(range(3)))] * 2, *[list(permutations(range(2)))] * 2):
            orders = [[3 * b + i for b, p in zip(heads, inner[:2], strict=True) for i in p],
                      [2 * b + i for b, p in zip(heads, inner[2:], strict=True) for i in p]]  # fmt: skip
            found.append(value(keys, orders[0]) + value(values, orders[1]))
    assert len(found) == 288
    best = best_orders([keys, values], 2)
    assert value(keys, best[0]) + value(values, best[1]) == pytest.approx(max(found))
    assert best[0][0] // 3 == best[1][0] // 2


def test_ascent_takes_what_raises_the_objective_and_nothing_else():
    target, seen = np.array([3.0, -1.0, 2.0]), []

    def objective(x: np.ndarray) -> float:
        seen.append(-float(((x - target) ** 2).sum()))
        return seen[-1]

    def step(x: np.ndarray, k: int) -> np.ndarray:
        moved = x.copy()
        moved[k] = target[k] if k != 1 else 100.0  # a bad step
        return moved

    end = ascend(np.zeros(3), step, objective, [[0, 1, 2], [2, 1, 0], [0, 1, 2]], 1e-12)
    np.testing.assert_array_equal(end.state, [3.0, 0.0, 2.0])
    assert (end.objective, end.rounds, end.converged) == (-1.0, 2, True)
    short = ascend(np.zeros(3), step, objective, [[0]], 1e-12)
    assert (short.rounds, short.converged) == (1, False)


def test_correlations_from_pieces():
    x, y = normal(50, 3) + 1e4, normal(50, 4) * 1e-3
    y[:, 0] += x[:, 1] - 1e4
    sums = Correlations()
    for start in (0, 20, 45):
        rows = slice(start, {0: 20, 20: 45, 45: 50}[start])
        sums.add(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
    np.testing.assert_allclose(sums.matrix(), np.corrcoef(x.T, y.T)[:3, 3:], atol=1e-12)
    assert sums.count == 50


def test_what_is_constant_correlates_with_nothing():
    x = np.column_stack([np.full(9, 0.1), normal(9)])
    sums = Correlations()
    sums.add(torch.from_numpy(x).float(), torch.from_numpy(x).float())
    np.testing.assert_allclose(sums.matrix(), [[0, 0], [0, 1]], atol=1e-12)
