"""The merge tree against components counted level by level, and against saddles known in closed form."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label

from landscape.methods.merge_tree import MergeTree, descend, merge_tree
from landscape.methods.triangulation import edges, simplices, vertices

# Steps by ones alone, or by minus ones alone: the neighbours of the middle in the triangulation.
NEIGHBOURS = {
    d: np.array([all(i >= 1 for i in index) or all(i <= 1 for i in index) for index in np.ndindex((3,) * d)]).reshape(
        (3,) * d
    )
    for d in (1, 2, 3)
}
HEIGHTS = st.one_of(st.integers(0, 3).map(float), st.floats(-2, 2), st.just(np.inf))  # few values: many are equal
GRIDS = array_shapes(min_dims=1, max_dims=3, max_side=5).flatmap(lambda shape: arrays(float, shape, elements=HEIGHTS))


def tree_of(grid: np.ndarray, points: list[int] | None = None) -> MergeTree:
    return merge_tree(grid.ravel(), edges(grid.shape), points or [])


def labelled(grid: np.ndarray, level: float) -> tuple[np.ndarray, int]:
    return label((grid <= level) & np.isfinite(grid), NEIGHBOURS[grid.ndim])


@settings(max_examples=150, deadline=None)
@given(GRIDS)
def test_as_many_branches_are_alive_as_there_are_components(grid):
    tree = tree_of(grid)
    for level in np.unique(grid[np.isfinite(grid)]):
        alive = ((tree.births <= level) & (tree.deaths > level)).sum()
        assert alive == labelled(grid, level)[1]


@settings(max_examples=100, deadline=None)
@given(GRIDS, st.randoms(use_true_random=False))
def test_a_pass_is_the_lowest_level_that_joins_two_points(grid, random):
    points = [random.randrange(grid.size) for _ in range(4)]
    passes = tree_of(grid, points).passes
    expected = np.full((4, 4), np.inf)
    for level in np.unique(grid[np.isfinite(grid)])[::-1]:
        found = labelled(grid, level)[0].ravel()[points]
        joined = (found[:, None] == found) & (found > 0)
        expected[joined] = level
    np.testing.assert_array_equal(passes, expected)


@settings(max_examples=100, deadline=None)
@given(GRIDS)
def test_branches_obey_the_elder_rule(grid):
    tree, flat = tree_of(grid), grid.ravel()
    assert (tree.persistence > 0).all()
    np.testing.assert_array_equal(flat[tree.minima], tree.births)
    joined = tree.parents >= 0
    np.testing.assert_array_equal(flat[tree.saddles[joined]], tree.deaths[joined])
    assert np.isinf(tree.deaths[~joined]).all()
    assert (tree.births[tree.parents[joined]] <= tree.births[joined]).all()
    assert (tree.deaths[tree.parents[joined]] >= tree.deaths[joined]).all()
    assert (np.diff(tree.births) >= 0).all()


def test_two_wells_join_at_their_saddle():
    """f = (x² − 1)² + y² + 0.1·x: minima near x = ±1, the saddle near x = 0 at height ≈ 1."""
    x, y = np.linspace(-1.5, 1.5, 301), np.linspace(-1, 1, 41)
    X, Y = np.meshgrid(x, y, indexing="ij")
    tree = tree_of((X**2 - 1) ** 2 + Y**2 + 0.1 * X)
    critical = np.sort(np.roots([4, 0, -4, 0.1]).real)
    heights = (critical**2 - 1) ** 2 + 0.1 * critical
    np.testing.assert_allclose(tree.births, heights[[0, 2]], atol=2e-4)
    np.testing.assert_allclose(tree.deaths, [np.inf, heights[1]], atol=2e-4)
    assert tree.parents.tolist() == [-1, 0]
    place = np.stack(np.unravel_index(tree.minima, X.shape), axis=1)
    np.testing.assert_allclose(np.stack([x[place[:, 0]], y[place[:, 1]]], axis=1), [[critical[0], 0], [critical[2], 0]],
                               atol=6e-3)  # fmt: skip


def test_a_wall_parts_what_no_finite_path_joins():
    grid = np.array([0.0, 2.0, np.inf, 5.0, 1.0])
    tree = tree_of(grid, [0, 4])
    assert tree.births.tolist() == [0, 1]
    assert np.isinf(tree.deaths).all()
    assert tree.parents.tolist() == [-1, -1]
    assert np.isinf(tree.passes[0, 1])


@pytest.mark.parametrize("shape", [(7,), (4, 6), (3, 3, 3)])
def test_a_plateau_is_one_minimum(shape):
    tree = tree_of(np.ones(shape))
    assert (len(tree.births), tree.births[0], tree.minima[0]) == (1, 1.0, 0)


def test_only_walls_have_no_minimum():
    assert tree_of(np.full((3, 3), np.inf)).births.size == 0


def test_neighbours_are_six_in_a_plane_and_fourteen_in_space():
    for shape, count in (((3,), 2), ((3, 3), 6), ((3, 3, 3), 14)):
        middle = int(np.prod(shape)) // 2
        assert (edges(shape) == middle).sum() == count


@pytest.mark.parametrize("shape", [(7,), (3, 5), (3, 2, 4)])
def test_corners_of_a_simplex_are_neighbours_and_simplices_fill_the_grid(shape):
    cells, pairs = simplices(shape), {tuple(pair) for pair in edges(shape).tolist()}
    inside = {pair for cell in cells.tolist() for pair in combinations(sorted(cell), 2)}
    assert inside == pairs
    corners = vertices([np.arange(count, dtype=float) for count in shape])[cells]
    volumes = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    np.testing.assert_allclose(volumes, 1)
    assert len(cells) == np.prod(np.array(shape) - 1) * factorial(len(shape))


def test_descent_ends_in_the_nearest_pit():
    grid = np.array([3.0, 1.0, 2.0, 4.0, 3.5, 0.0])
    pairs = edges(grid.shape)
    assert [descend(grid, pairs, start) for start in range(6)] == [1, 1, 1, 2 - 1, 5, 5]
