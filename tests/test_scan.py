"""The grid walk against numpy formulas of the coordinates themselves."""

import numpy as np
import pytest
import torch

from landscape.methods.scan import displaced, grid, scan


def _each(function):
    """A function of many points from one of a single point."""
    return lambda points, cells: [function(w, cell) for w, cell in zip(points, cells, strict=True)]


def _coordinates(w: torch.Tensor, index: tuple[int, ...]) -> list[float]:
    """The coordinates read back from the point: directions are unit vectors in the tests below."""
    return [(w[0] - 5).item(), (w[3] + 2).item()]


ORIGIN = torch.tensor([5.0, 0.5, 0.25, -2.0], dtype=torch.float64)
AXES = torch.eye(4, dtype=torch.float64)[[0, 3]]


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (1, 4), (5, 5)], ids=str)
def test_cells_of_a_rectangular_grid_are_where_their_labels_say(shape: tuple[int, int]):
    x, y = np.linspace(-1, 2, shape[0]), np.linspace(10, 30, shape[1])
    values = scan(_each(_coordinates), ORIGIN, AXES, grid(x, y), outputs=2)
    assert values.shape == (*shape, 2)
    for i in range(shape[0]):
        for j in range(shape[1]):
            assert values[i, j] == pytest.approx([x[i], y[j]], abs=1e-12)


def test_a_line_evaluates_both_ends():
    x = np.array([-1.0, 0.0, 0.5, 2.0])
    values = scan(_each(lambda w, index: [w[0].item()]), ORIGIN, AXES[:1], grid(x))
    np.testing.assert_allclose(values[:, 0], 5 + x)


def test_origin_is_reached_bit_for_bit_and_left_as_it_was():
    origin = torch.randn(50, generator=torch.Generator().manual_seed(0))
    directions = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    kept = origin.clone(), directions.clone()
    assert torch.equal(displaced(origin, directions, [0.0, 0.0]), origin)
    scan(_each(lambda w, index: [w.sum().item()]), origin, directions, grid(np.arange(3.0), np.arange(2.0)))
    assert torch.equal(origin, kept[0])
    assert torch.equal(directions, kept[1])


def test_one_vector_of_memory_serves_all_points():
    points = []

    def function(w: torch.Tensor, index: tuple[int, ...]) -> list[float]:
        points.append(w)
        return [0.0]

    scan(_each(function), ORIGIN, AXES, grid(np.arange(4.0), np.arange(3.0)))
    assert len(points) == 12
    assert len({w.data_ptr() for w in points}) == 1


def test_nan_and_infinity_are_kept():
    outputs = {0: float("nan"), 1: float("inf"), 2: 1.0}
    values = scan(_each(lambda w, index: [outputs[index[0]]]), ORIGIN, AXES[:1], grid(np.arange(3.0)))
    np.testing.assert_array_equal(values[:, 0], [np.nan, np.inf, 1.0])


def test_cells_done_are_not_evaluated_again_even_when_they_are_nan():
    seen = []

    def function(w: torch.Tensor, index: tuple[int, ...]) -> list[float]:
        seen.append(index)
        return [7.0]

    done = np.array([[True, False], [False, True]])
    values = np.full((2, 2, 1), np.nan)
    ticks = []
    scan(
        _each(function), ORIGIN, AXES, grid(np.arange(2.0), np.arange(2.0)),
        values=values, done=done, after=lambda: ticks.append(int(done.sum())),
    )  # fmt: skip
    assert seen == [(0, 1), (1, 0)]
    assert ticks == [3, 4]
    np.testing.assert_array_equal(values[..., 0], [[np.nan, 7], [7, np.nan]])


def test_an_interruption_leaves_what_was_done():
    def function(w: torch.Tensor, index: tuple[int, ...]) -> list[float]:
        if index == (2,):
            raise KeyboardInterrupt
        return [float(index[0])]

    values, done = np.full((4, 1), np.nan), np.zeros(4, dtype=bool)
    with pytest.raises(KeyboardInterrupt):
        scan(_each(function), ORIGIN, AXES[:1], grid(np.arange(4.0)), values=values, done=done)
    np.testing.assert_array_equal(done, [True, True, False, False])
    np.testing.assert_array_equal(values[:, 0], [0, 1, np.nan, np.nan])


def test_points_come_in_the_same_groups_however_often_a_scan_is_interrupted():
    x, y = np.arange(3.0), np.arange(7.0)
    groups: list[list] = []

    def function(points: torch.Tensor, cells: list) -> list[list[float]]:
        if len(groups) == 2:
            groups.append([])
            raise KeyboardInterrupt
        groups.append(list(cells))
        return [_coordinates(w, cell) for w, cell in zip(points, cells, strict=True)]

    values, done = np.full((3, 7, 2), np.nan), np.zeros((3, 7), bool)
    go = {"values": values, "done": done, "at_once": 4}
    with pytest.raises(KeyboardInterrupt):
        scan(function, ORIGIN, AXES, grid(x, y), **go)
    assert done.sum() == 8
    scan(function, ORIGIN, AXES, grid(x, y), **go)
    assert [cell for group in groups for cell in group] == list(np.ndindex(3, 7))
    assert [len(group) for group in groups if group] == [4, 4, 4, 4, 4, 1]
    np.testing.assert_allclose(values, grid(x, y), atol=1e-12)
