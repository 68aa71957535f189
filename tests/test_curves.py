"""Curves against SciPy's splines, de Casteljau's construction and lengths known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BPoly, interp1d

from landscape import seeds
from landscape.methods.curves import Curve, coefficients, combination


def control(count: int, n: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return seeds.gaussian(seeds.stream(0, "control points", count), count, torch.empty(n, dtype=dtype))


@settings(deadline=None)
@given(st.sampled_from(["bezier", "chain"]), st.floats(0, 1), st.integers(2, 7))
def test_weights_are_a_partition_of_unity(kind, t, count):
    weights = coefficients(kind, t, count)
    assert len(weights) == count
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_the_control_points_bit_for_bit(kind, count, dtype):
    points = control(count, dtype=dtype)
    points[[0, -1], 0] = -0.0
    points[0, 1] = torch.finfo(dtype).tiny / 4
    curve = Curve(kind, points)
    for t, end in ((0.0, points[0]), (1.0, points[-1])):
        assert curve.at(t).numpy().tobytes() == end.numpy().tobytes()


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_curves_agree_with_scipys(count):
    points = control(count)
    knots = np.linspace(0, 1, count)
    bezier = BPoly(points.numpy()[:, None], [0, 1])
    chain = interp1d(knots, points.numpy(), axis=0)
    for t in np.linspace(0, 1, 13).tolist():
        np.testing.assert_allclose(Curve("bezier", points).at(t).numpy(), bezier(t), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(Curve("chain", points).at(t).numpy(), chain(t), rtol=1e-12, atol=1e-14)


def test_two_control_points_make_the_straight_line():
    points = control(2)
    for kind in ("bezier", "chain"):
        assert Curve(kind, points).length() == pytest.approx(np.linalg.norm(points[1] - points[0]), rel=1e-12)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
@pytest.mark.parametrize("count", [3, 5])
def test_length_is_that_of_many_short_pieces(kind, count):
    curve = Curve(kind, control(count))
    t = np.linspace(0, 1, 4 * 2000 + 1).tolist()
    pieces = np.diff(np.stack([curve.at(x).numpy() for x in t]), axis=0)
    assert curve.length() == pytest.approx(np.linalg.norm(pieces, axis=1).sum(), rel=1e-6)


def test_length_of_a_parabola_in_closed_form():
    # (0, 0), (1, 0), (1, 1) make (2t − t², t²), with speed 2·√((1 − t)² + t²)
    curve = Curve("bezier", torch.tensor([[0.0, 0], [1, 0], [1, 1]]))
    assert curve.length() == pytest.approx(1 + np.arcsinh(1) / np.sqrt(2), rel=1e-7)


def test_a_point_of_weight_zero_has_no_influence():
    points = [torch.tensor([1.0, 2.0]), torch.full((2,), torch.nan)]
    assert torch.equal(combination((1.0, 0.0), points), points[0])
    assert torch.equal(combination((0.0, 0.0), points), torch.zeros(2))
