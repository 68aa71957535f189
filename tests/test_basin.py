"""Basins against closed forms: ellipses, balls, valleys with two slopes, polygons, and scans with holes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import ConvexHull, HalfspaceIntersection

from landscape.basin import LOWEST, measure
from landscape.errors import InputError
from landscape.methods.sublevel import moments
from landscape.methods.triangulation import simplices, vertices
from landscape.results import SurfaceResult, load, save
from landscape.spec import AxesSpec, BasinSpec

NONE = np.zeros(0)


def scan(*coordinates: np.ndarray, loss: np.ndarray, marks=None, labels=("w",), done=None) -> SurfaceResult:
    x, y, z = (*coordinates, NONE, NONE)[:3]
    marks = np.zeros((len(labels), len(coordinates))) if marks is None else np.asarray(marks, float)
    done = np.ones(loss.shape, bool) if done is None else done
    return SurfaceResult(
        spec=AxesSpec(axes=("random",) * len(coordinates)), x=x, y=y, z=z, train_loss=loss, train_accuracy=NONE,
        test_loss=NONE, test_accuracy=NONE, labels=labels, marks=marks, complete=bool(done.all()),
        evaluations=loss.size, done=done,
    )  # fmt: skip


def bowl(*coordinates: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    points = np.stack(np.meshgrid(*coordinates, indexing="ij"), axis=-1)
    return np.einsum("...i,ij,...j->...", points, matrix, points)


def test_an_ellipse_has_its_area_axes_and_share():
    """{vᵀAv ≤ h}: area πh/√det A, standard deviations √(h/λ)/2, extent 2√(h/A_xx) along the axis itself."""
    x, y = np.linspace(-3, 3, 121), np.linspace(-4, 4, 141)
    A = np.array([[2.0, 0.4], [0.4, 0.5]])
    found = measure(scan(x, y, loss=0.25 + bowl(x, y, matrix=A)), BasinSpec(increases=(0.5, 1.0), factors=(3.0,)))
    h = np.array([0.5, 1.0, 0.5])
    area = np.pi * h / np.sqrt(np.linalg.det(A))
    np.testing.assert_allclose(found.volumes[0], area, rtol=5e-3)
    np.testing.assert_allclose(found.shares[0], area / 48, rtol=5e-3)
    np.testing.assert_allclose(found.radii[0], np.sqrt(area / np.pi), rtol=3e-3)
    np.testing.assert_allclose(found.deviations[0], np.sqrt(h[:, None] / np.linalg.eigvalsh(A)) / 2, rtol=5e-3)
    np.testing.assert_allclose(found.widths[0], 2 * np.sqrt(h[:, None] / np.diag(A)), rtol=5e-3)
    np.testing.assert_allclose(found.asymmetry, 0, atol=1e-12)
    np.testing.assert_allclose(found.levels[0], [0.75, 1.25, 0.75])
    assert (found.components == 1).all()
    assert not found.open.any()
    assert found.births.tolist() == [0.25]


def test_a_ball_has_its_volume():
    axis = np.linspace(-1, 1, 33)
    found = measure(scan(axis, axis, axis, loss=bowl(axis, axis, axis, matrix=np.eye(3))), BasinSpec(increases=(0.64,)))
    assert found.volumes[0, 0] == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=6e-3)
    np.testing.assert_allclose(found.deviations[0, 0], 0.8 / np.sqrt(5), rtol=3e-3)
    assert found.radii[0, 0] == pytest.approx(0.8, rel=2e-3)
    assert found.anisotropy[0, 0] == pytest.approx(1, abs=1e-2)


def test_an_asymmetric_valley_is_measured_exactly():
    """f = 4|x| to the left, x to the right: at height h it reaches h/4 and h."""
    x = np.linspace(-2, 2, 41)
    found = measure(scan(x, loss=np.where(x < 0, -4 * x, x)), BasinSpec(increases=(0.33, 1.7, 3.0)))
    np.testing.assert_allclose(found.reach[0, :2, 0], [[0.33 / 4, 0.33], [1.7 / 4, 1.7]], rtol=1e-12)
    np.testing.assert_allclose(found.asymmetry[0, :2, 0], 0.6)
    np.testing.assert_allclose(found.volumes[0, :2], found.widths[0, :2, 0])
    # The right slope ends at 2 before it rises by 3: a lower bound, and no asymmetry.
    assert found.reach_open[0, :, 0].tolist() == [[False, False], [False, False], [False, True]]
    assert found.open[0].tolist() == [False, False, True]
    assert found.widths[0, 2, 0] == pytest.approx(0.75 + 2)
    assert np.isnan(found.asymmetry[0, 2, 0])


def test_two_basins_are_told_apart_until_the_pass():
    x, y = np.linspace(-2, 2, 81), np.linspace(-1.6, 1.6, 65)
    X, Y = np.meshgrid(x, y, indexing="ij")
    surface = scan(x, y, loss=(X**2 - 1) ** 2 + Y**2, marks=[[-1, 0], [1, 0]], labels=("a", "b"))
    found = measure(surface, BasinSpec(increases=(0.5, 1.5)))
    np.testing.assert_allclose(found.passes, [[0, 1], [1, 0]], atol=1e-12)
    np.testing.assert_array_equal(found.components[0], [2, 1])
    assert found.volumes[0, 0] == pytest.approx(found.volumes[1, 0])
    assert found.shares[0, 0] * 4 * 3.2 == pytest.approx(2 * found.volumes[0, 0])
    assert found.volumes[0, 1] == pytest.approx(found.shares[0, 1] * 4 * 3.2)
    assert sorted(found.branches.tolist()) == [0, 1]
    np.testing.assert_allclose(found.minima[found.branches], [[-1, 0], [1, 0]])
    np.testing.assert_allclose(found.saddles[1], [0, 0], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(arrays(float, (4, 3), elements=st.floats(-1, 1)), st.floats(-1, 1))
def test_areas_are_those_of_the_clipped_polygons(values, level):
    """Each triangle cut by the level line with Sutherland and Hodgman's clipping, its area by the shoelace formula."""
    x, y = np.array([0.0, 1.0, 1.5, 4.0]), np.array([-1.0, 0.0, 2.0])
    points, heights = vertices((x, y)), values.ravel()
    total, moment = 0.0, np.zeros(2)
    for corners in simplices((4, 3)):
        polygon = clipped(points[corners], heights[corners] - level)
        if len(polygon) > 2:
            px, py = polygon.T
            cross = px * np.roll(py, -1) - np.roll(px, -1) * py
            sign = np.sign(cross.sum())
            total += abs(cross.sum()) / 2
            moment += sign * ((polygon + np.roll(polygon, -1, axis=0)) * cross[:, None]).sum(0) / 6
    found = moments(points, heights, simplices((4, 3)), level)
    assert found.volume == pytest.approx(total, abs=1e-9)
    np.testing.assert_allclose(found.first, moment, atol=1e-9)


def clipped(points: np.ndarray, heights: np.ndarray) -> np.ndarray:
    kept = []
    for k in range(len(points)):
        after = (k + 1) % len(points)
        if heights[k] <= 0:
            kept.append(points[k])
        if (heights[k] <= 0) != (heights[after] <= 0):
            share = heights[k] / (heights[k] - heights[after])
            kept.append(points[k] + share * (points[after] - points[k]))
    return np.array(kept)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4, unique=True), st.floats(-0.9, 0.9))
def test_a_cut_tetrahedron_has_the_volume_of_its_convex_hull(heights, level):
    points = np.array([[0.0, 0, 0], [2, 0, 0], [0.3, 1.5, 0], [0.2, 0.4, 1.1]])
    values = np.array(heights)
    found = moments(points, values, np.arange(4)[None], level).volume
    inward = np.linalg.inv(np.c_[points, np.ones(4)])  # barycentric coordinates are linear: all at least 0
    slope = inward @ values - np.array([0, 0, 0, level])
    scale = np.linalg.norm(slope[:3])
    below = values - level
    whole = abs(np.linalg.det(points[1:] - points[0])) / 6
    if (below > -1e-3).all() or (below < 1e-3).all() or scale < 1e-3:
        assert found <= whole * (1 + 1e-9)
        return
    deepest = points[below.argmin()]
    inside = 0.5 * deepest + 0.5 * points.mean(0)
    while np.r_[inside, 1] @ slope >= -1e-9:
        inside = 0.5 * inside + 0.5 * deepest
    inside = 0.999 * inside + 0.001 * points.mean(0) if np.allclose(inside, deepest) else inside
    halves = HalfspaceIntersection(np.vstack([-inward.T, slope]), inside)
    assert found == pytest.approx(ConvexHull(halves.intersections).volume, rel=1e-5, abs=1e-9)


def test_walls_close_a_basin_and_unknown_cells_open_it():
    x, y = np.linspace(-3, 3, 7), np.linspace(-6, 6, 13)
    flat = np.zeros((7, 13))
    wall = flat.copy()
    wall[5, :], wall[1, :] = np.nan, np.inf
    found = measure(scan(x, y, loss=wall), BasinSpec(increases=(0.5,)))
    assert (found.walls, found.unknown) == (26, 0)
    assert found.reach[0, 0, 0].tolist() == [1, 1]
    assert found.reach_open[0, 0].tolist() == [[False, False], [True, True]]
    assert found.volumes[0, 0] == pytest.approx(2 * 12)
    assert found.components[0, 0] == 3
    done = np.ones((7, 13), bool)
    done[5, :] = False
    narrow = np.where(np.abs(y) < 3.5, 0.0, 1.0) + np.where(np.abs(x) < 2.5, 0.0, 1.0)[:, None]
    part = measure(scan(x, y, loss=np.where(done, narrow, np.nan), done=done), BasinSpec(increases=(0.5,)))
    assert (part.walls, part.unknown) == (0, 13)
    assert part.open[0, 0]
    assert part.reach_open[0, 0].tolist() == [[False, True], [False, False]]
    assert not measure(scan(x, y, loss=narrow), BasinSpec(increases=(0.5,))).open[0, 0]


def test_the_lowest_point_and_marks_outside_are_reported():
    x = np.linspace(0, 4, 5)
    surface = scan(x, loss=np.array([2.0, 1.0, 3.0, 0.0, 2.0]), marks=[[1.1], [9.0]], labels=("in", "out"))
    found = measure(surface, BasinSpec(increases=(1.0,), factors=(2.0,)))
    assert found.labels == ("in", LOWEST)
    assert found.outside == ("out",)
    np.testing.assert_allclose(found.offsets, [0.1, 0])
    np.testing.assert_allclose(found.points[:, 0], [1, 3])
    np.testing.assert_allclose(found.levels, [[2, 2], [1, np.nan]])
    assert np.isnan(found.volumes[1, 1])
    assert found.passes[0, 1] == 3


def test_a_plateau_belongs_to_the_branch_of_its_minimum():
    loss = np.array([5.0, 1.0, 1.0, 1.0, 4.0, 0.0, 5.0])
    found = measure(scan(np.arange(7.0), loss=loss, marks=[[3], [1], [5]], labels=("a", "b", "c")), BasinSpec())
    assert found.births.tolist() == [0, 1]
    assert found.branches.tolist() == [1, 1, 0]


def test_what_is_saved_is_loaded(tmp_path):
    x = np.linspace(-1, 1, 9)
    result = measure(scan(x, x, loss=bowl(x, x, matrix=np.eye(2))), BasinSpec())
    save(result, tmp_path / "b")
    back = load(tmp_path / "b")
    for item in dataclasses.fields(result):
        if item.name != "provenance":
            np.testing.assert_equal(getattr(back, item.name), getattr(result, item.name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_loss": np.full(3, np.nan)}, "finite nowhere"),
        ({"x": np.array([0.0, 2.0, 1.0])}, "do not increase"),
    ],
    ids=["nothing finite", "order"],
)
def test_scans_without_a_basin_are_refused(change, words):
    surface = dataclasses.replace(scan(np.arange(3.0), loss=np.arange(3.0)), **change)
    with pytest.raises(InputError, match=words):
        measure(surface, BasinSpec())


def test_accuracies_have_no_basin():
    with pytest.raises(InputError, match="quantity = 'train accuracy'"):
        measure(scan(np.arange(3.0), loss=np.arange(3.0)), BasinSpec(quantity="train accuracy"))
