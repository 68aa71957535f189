"""Axes and coordinates against numpy's QR, hand-computed norms and the definition of a grid."""

import numpy as np
import pytest
import torch

from landscape.methods.directions import affine_weights, axis_through, normalised, plane_through, symmetric_axis


def _triangle(seed: int, n: int, dtype: torch.dtype) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.tensor(rng.normal(size=n), dtype=dtype) for _ in range(3)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_plane_axes_and_marks_are_those_of_a_qr_decomposition(dtype: torch.dtype, tolerance: float):
    points = _triangle(0, 40, dtype)
    plane = plane_through(*points)
    w = np.stack([p.numpy().astype(np.float64) for p in points])
    q, r = np.linalg.qr((w[1:] - w[0]).T)
    signs = np.sign(np.diag(r))
    np.testing.assert_allclose(plane.directions.numpy(), (q * signs).T, atol=tolerance)
    np.testing.assert_allclose(plane.marks[1:], (signs[:, None] * r).T, atol=1e-12)
    np.testing.assert_array_equal(plane.marks[0], 0)


def test_a_nearly_flat_triangle_still_gets_orthonormal_axes():
    first, second, _ = _triangle(1, 1000, torch.float64)
    rng = np.random.default_rng(2)
    third = first + 0.7 * (second - first) + 1e-4 * torch.tensor(rng.normal(size=1000))
    u = plane_through(first, second, third).directions.numpy()
    np.testing.assert_allclose(u @ u.T, np.eye(2), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mix", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (-3.0, 4.0)], ids=str)
def test_points_on_one_line_are_refused(mix: tuple[float, float], dtype: torch.dtype):
    first, second, _ = _triangle(3, 500, dtype)
    third = mix[0] * first + mix[1] * second
    for points in ((first, second, third), (third, second, first)):
        with pytest.raises(ValueError, match="span"):
            plane_through(*points)


def test_two_equal_points_are_refused_and_close_ones_are_not():
    first, second, third = _triangle(4, 50, torch.float64)
    with pytest.raises(ValueError, match="span"):
        plane_through(first, first.clone(), third)
    near = plane_through(first, first + 1e-9 * (second - first), third)
    assert near.marks[1, 0] == pytest.approx(1e-9 * (second - first).norm().item(), rel=1e-5)


SHAPES = {"conv": (4, 3, 2, 2), "conv bias": (4,), "norm": (4,), "head": (5, 4), "scale": ()}


def _named(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {k: torch.tensor(rng.normal(size=s), dtype=dtype) for k, s in SHAPES.items()}


def _split(flat: torch.Tensor) -> dict[str, np.ndarray]:
    pieces = flat.split([int(np.prod(s)) for s in SHAPES.values()])
    return {k: p.numpy().reshape(s) for (k, s), p in zip(SHAPES.items(), pieces, strict=True)}


def test_filter_normalisation_gives_each_filter_the_norm_of_its_weights():
    direction, weights = _named(0), _named(1)
    weights["head"][2] = 0
    found = _split(normalised(direction, weights, "filter"))
    for name in ("conv", "head"):
        for d, raw, w in zip(found[name], direction[name].numpy(), weights[name].numpy(), strict=True):
            assert np.linalg.norm(d) == pytest.approx(np.linalg.norm(w), rel=1e-9)
            np.testing.assert_allclose(d * np.linalg.norm(raw), raw * np.linalg.norm(w), atol=1e-9)
    assert not found["head"][2].any()


@pytest.mark.parametrize("how", ["filter", "layer", "weight", "none"])
def test_parameters_named_do_not_move_and_others_do(how: str):
    found = _split(normalised(_named(0), _named(1), how, {"conv bias", "scale"}))
    assert not found["conv bias"].any()
    assert not found["scale"].any()
    assert found["norm"].all()


def test_vectors_are_rescaled_whole_by_filter_normalisation():
    direction, weights = _named(0), _named(1)
    found = _split(normalised(direction, weights, "filter"))
    for name in ("conv bias", "norm", "scale"):
        raw, w = direction[name].numpy(), weights[name].numpy()
        np.testing.assert_allclose(found[name], raw * np.linalg.norm(w) / np.linalg.norm(raw), rtol=1e-9)


def test_weight_normalisation_scales_each_entry():
    direction, weights = _named(0), _named(1)
    for name, d in _split(normalised(direction, weights, "weight")).items():
        np.testing.assert_allclose(d, direction[name].numpy() * weights[name].numpy())


def test_layer_normalisation_keeps_ratios_between_filters():
    direction, weights = _named(0), _named(1)
    found = _split(normalised(direction, weights, "layer"))
    for name in ("conv", "head"):
        ratio = found[name] / direction[name].numpy()
        expected = np.linalg.norm(weights[name].numpy()) / np.linalg.norm(direction[name].numpy())
        np.testing.assert_allclose(ratio, expected, rtol=1e-9)


def test_without_normalisation_the_direction_is_the_draw():
    direction = _named(0)
    found = _split(normalised(direction, _named(1), "none"))
    for name, d in direction.items():
        np.testing.assert_array_equal(found[name], d.numpy())


def test_a_filter_drawn_as_zero_stays_zero():
    direction, weights = _named(0, torch.float32), _named(1, torch.float32)
    direction["conv"][1] = 0
    found = _split(normalised(direction, weights, "filter"))
    assert np.isfinite(found["conv"]).all()
    assert not found["conv"][1].any()


@pytest.mark.parametrize("count", [2, 3, 10, 31])
def test_symmetric_axis(count: int):
    x = symmetric_axis(0.7, count)
    np.testing.assert_allclose(x, np.linspace(-0.7, 0.7, count), atol=1e-15)
    np.testing.assert_array_equal(x, -x[::-1])
    assert (count % 2 == 0) or x[count // 2] == 0


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 12, 31, 50])
@pytest.mark.parametrize(("low", "high"), [(-0.35, 1.35), (0.0, 1.0), (-8.1, 1.7), (0.0, 25.0), (-0.01, 1.01)])
def test_axis_covers_the_range_evenly_and_has_zero(low: float, high: float, count: int):
    x = axis_through(1.0, low, high, count)
    assert len(x) == count
    np.testing.assert_allclose(np.diff(x), x[1] - x[0], rtol=1e-9)
    assert 0.0 in x
    assert x[-1] >= high - 1e-6
    if count > 2:
        assert x[0] <= low + 1e-6


@pytest.mark.parametrize(("low", "high", "count"), [(-0.35, 1.35, 31), (-0.35, 1.35, 5), (0.0, 1.0, 2), (-1.0, 2.0, 9)])
def test_axis_meets_the_landmark_when_it_can(low: float, high: float, count: int):
    x = axis_through(13.7, 13.7 * low, 13.7 * high, count)
    assert abs(x - 13.7).min() < 1e-12
    assert x[-1] - x[0] < 13.7 * (high - low) * 1.5


def test_affine_weights_are_barycentric_coordinates():
    marks = np.array([[0.0, 0.0], [3.0, 0.0], [-1.0, 2.0]])
    np.testing.assert_allclose(affine_weights(marks, marks), np.eye(3), atol=1e-15)
    centre = affine_weights(marks, marks.mean(axis=0)[None, None])
    np.testing.assert_allclose(centre, np.full((1, 1, 3), 1 / 3))
    np.testing.assert_array_equal(affine_weights(np.zeros((1, 2)), np.ones((4, 5, 2))), np.ones((4, 5, 1)))
