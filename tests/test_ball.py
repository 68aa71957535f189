"""The maximum in a ball against the secular equation, enumeration, a change of variables and many random restarts."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from landscape.errors import InputError
from landscape.methods.ball import maximise_in_ball
from landscape.methods.norm_balls import ball, lengths


def quadratic(A, b):
    """½δᵀAδ + bᵀδ for rows δ, with the gradient."""

    def function(moves):
        images = moves @ A
        return ((images / 2 + b) * moves).sum(-1), images + b

    return function


def problem_of(n, seed, kind):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2 * n))
    A = {"convex": X @ X.T / n, "indefinite": (X[:, :n] + X[:, :n].T) / 2, "concave": -X @ X.T / n}[kind]
    return A, 0.2 * rng.standard_normal(n)


def trust_region_maximum(A, b, radius):
    """max ½uᵀAu + bᵀu over ‖u‖ ≤ radius by its secular equation: (μ − A)u = b with μ ≥ λmax and ‖u‖ = radius."""
    values, vectors = np.linalg.eigh(A)
    c = vectors.T @ b
    if values[-1] < 0 and np.linalg.norm(c / values) <= radius:
        u = -c / values
    else:
        low = max(values[-1], 0.0)
        mu = brentq(
            lambda mu: 1 / np.linalg.norm(c / (mu - values)) - 1 / radius,
            low + 1e-14 * (1 + abs(low)),
            low + np.linalg.norm(c) / radius + 1,
            xtol=1e-15,
        )
        u = c / (mu - values)
    return 0.5 * (values * u) @ u + c @ u


def tensors(*arrays):
    return [torch.tensor(a, dtype=torch.float64) for a in arrays]


def starts(count, n, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal((count, 1, n)))


@pytest.mark.parametrize("kind", ["convex", "indefinite", "concave"])
@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_quadratic_in_an_l2_ball_by_the_secular_equation(kind, adaptive, radius):
    A, b = problem_of(30, 3, kind)
    c = np.random.default_rng(4).uniform(0.3, 2, 30) if adaptive else np.ones(30)
    expected = trust_region_maximum(A * np.outer(c, c), b * c, radius)
    found = maximise_in_ball(quadratic(*tensors(A, b)), "l2", radius, *tensors(c), 1, starts(2, 30), 60)
    assert found.value.item() == pytest.approx(expected, rel=1e-6)
    assert found.converged.all()
    assert np.linalg.norm(found.point[0].numpy() / c) <= radius * (1 + 1e-12)
    assert quadratic(*tensors(A, b))(found.point)[0].item() == pytest.approx(found.value.item(), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("adaptive", [False, True], ids=["plain", "adaptive"])
def test_convex_quadratic_in_a_box_by_all_its_corners(seed, adaptive):
    n = 5
    A, b = problem_of(n, seed, "convex")
    c = np.abs(np.random.default_rng(seed + 10).standard_normal(n)) if adaptive else np.ones(n)
    corners = torch.tensor(list(itertools.product([-0.5, 0.5], repeat=n)), dtype=torch.float64) * torch.tensor(c)
    expected = quadratic(*tensors(A, b))(corners)[0].max().item()
    found = maximise_in_ball(quadratic(*tensors(A, b)), "linf", 0.5, *tensors(c), 1, starts(16, n), 40)
    assert found.value.item() == pytest.approx(expected, rel=1e-6)
    assert (found.point[0].numpy() / c).tolist() == pytest.approx((0.5 * found.point[0].sign()).tolist(), rel=1e-12)


def test_most_convex_quadratics_in_a_larger_box_are_solved_exactly():
    """4096 corners, of which hundreds are local maxima."""
    corners = torch.tensor(list(itertools.product([-0.5, 0.5], repeat=12)), dtype=torch.float64)
    lacks = []
    for seed in range(20):
        f = quadratic(*tensors(*problem_of(12, seed, "convex")))
        found = maximise_in_ball(f, "linf", 0.5, torch.ones(12, dtype=torch.float64), 1, starts(8, 12, seed), 40)
        lacks.append(1 - found.value.item() / f(corners)[0].max().item())
    assert np.mean(np.array(lacks) < 1e-6) >= 0.8
    assert np.mean(lacks) < 0.01
    assert max(lacks) < 0.15


def test_concave_quadratic_in_a_box_with_its_maximum_inside_and_on_a_face():
    A, b, c = tensors(-np.diag([1.0, 4.0, 2.0]), [0.1, 0.4, 9.0], np.ones(3))
    found = maximise_in_ball(quadratic(A, b), "linf", 0.5, c, 1, starts(1, 3), 60)
    assert found.point[0].tolist() == pytest.approx([0.1, 0.1, 0.5], rel=1e-6)
    assert found.gap.item() < 1e-9


def test_linear_function_takes_the_steepest_corner_of_its_norm():
    """In the adaptive 2-norm that is c²⊙g; the direction c⊙g, which a public code uses, reaches less."""
    g, c = tensors([3.0, -1.0, 0.5, 2.0], [0.1, 2.0, 1.0, 0.0])
    for norm, expected in (("l2", 0.3 * torch.linalg.vector_norm(c * g)), ("linf", 0.3 * (c * g).abs().sum())):
        found = maximise_in_ball(lambda moves: (moves @ g, g.expand_as(moves)), norm, 0.3, c, 1, starts(0, 4), 1)
        assert found.value.item() == pytest.approx(expected.item(), rel=1e-14)
        assert found.point[0, 3] == 0
        assert found.gap.item() <= 1e-12
    wrong = c * g * (0.3 / torch.linalg.vector_norm(g))  # ‖wrong/c‖₂ = 0.3 as well
    assert (g @ wrong).item() < 0.9 * 0.3 * torch.linalg.vector_norm(c * g).item()


def test_many_groups_at_once_are_each_on_its_own():
    cases = [problem_of(12, seed, "indefinite") for seed in range(5)]
    A, b = tensors(np.stack([a for a, _ in cases]), np.stack([v for _, v in cases]))

    def function(moves):
        images = torch.einsum("rgn,gnm->rgm", moves, A)
        return ((images / 2 + b) * moves).sum(-1), images + b

    ones = torch.ones(12, dtype=torch.float64)
    for norm in ("l2", "linf"):
        together = maximise_in_ball(function, norm, 0.7, ones, 5, starts(3, 12), 20)
        for number in range(5):
            alone = maximise_in_ball(quadratic(A[number], b[number]), norm, 0.7, ones, 1, starts(3, 12), 20)
            assert together.value[number].item() == pytest.approx(alone.value.item(), rel=1e-9)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_zero_gradient_at_the_centre_and_no_start_still_climbs(norm):
    A, b = problem_of(8, 0, "convex")
    found = maximise_in_ball(
        quadratic(*tensors(A, 0 * b)), norm, 1.0, torch.ones(8, dtype=torch.float64), 1, starts(0, 8), 60
    )
    if norm == "l2":
        assert found.value.item() == pytest.approx(np.linalg.eigvalsh(A)[-1] / 2, rel=1e-6)
    assert found.converged.all()
    assert found.value.item() > 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_nothing_rises_and_nothing_moves(norm):
    c = torch.zeros(4, dtype=torch.float64)
    still = maximise_in_ball(lambda moves: (moves.sum(-1), torch.ones_like(moves)), norm, 1.0, c, 2, starts(1, 4), 3)
    assert still.value.tolist() == [0, 0]
    assert still.converged.all()
    A, _ = problem_of(4, 1, "concave")
    top = maximise_in_ball(quadratic(*tensors(A, np.zeros(4))), norm, 1.0, c + 1, 1, starts(1, 4), 10)
    assert top.value.item() == 0
    assert top.gap.item() == 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_walls_count_as_minus_infinity_and_are_counted(norm):
    g = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def function(moves):
        values = moves @ g
        wall = (moves[..., 1] > 0.5) | (moves[..., 0] < -0.9)
        return torch.where(wall, math.nan, values), torch.where(wall[..., None], math.inf, g.expand_as(moves))

    found = maximise_in_ball(function, norm, 1.0, torch.ones(2, dtype=torch.float64), 1, starts(4, 2), 40)
    best = 1.5 + 0.5 if norm == "linf" else math.sqrt(0.75) + 1
    assert found.walls > 0
    assert found.point[0, 1] <= 0.5
    assert 0.85 * best <= found.value.item() <= best + 1e-12
    with pytest.raises(InputError, match="NaN or Inf at the centre"):
        maximise_in_ball(lambda m: (m.sum(-1) * math.nan, m), norm, 1.0, g, 1, starts(1, 2), 3)
    with pytest.raises(InputError, match="scale"):
        maximise_in_ball(function, norm, 1.0, -g, 1, starts(1, 2), 3)


def test_a_gradient_that_is_not_finite_at_the_centre_alone():
    def function(moves):
        length = torch.linalg.vector_norm(moves, dim=-1)
        return length.sqrt(), moves / length[..., None] ** 1.5 / 2

    found = maximise_in_ball(function, "l2", 4.0, torch.ones(3, dtype=torch.float64), 1, starts(1, 3), 20)
    assert found.value.item() == pytest.approx(2.0, rel=1e-9)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_value_is_never_below_the_steepest_corner_a_start_or_zero(norm):
    """f oscillates, so that steps lead downhill as often as up."""
    rng = np.random.default_rng(5)
    for seed in range(10):
        W, phase = tensors(rng.standard_normal((40, 6)) * 5, rng.uniform(0, 6, 40))

        def function(moves, W=W, phase=phase):
            inside = moves @ W.T + phase
            return inside.sin().sum(-1), inside.cos() @ W

        given, ones = starts(3, 6, seed), torch.ones(6, dtype=torch.float64)
        zero = torch.zeros(1, 6, dtype=torch.float64)
        floor, slope = function(zero)
        inside = ball(norm, 0.8)
        points = torch.cat([inside.project(given), inside.corner(slope, zero)[None]])
        found = maximise_in_ball(function, norm, 0.8, ones, 1, given, 2)
        assert found.value.item() >= max((function(points)[0] - floor).max().item(), 0) * (1 - 1e-12)


def test_rescaled_coordinates_give_the_same_path_to_the_last_digits():
    """δ_i ↦ α_i δ_i with c_i ↦ α_i c_i for powers of two: the very same numbers."""
    A, b = tensors(*problem_of(10, 2, "indefinite"))
    alpha = 2.0 ** torch.arange(-5, 5, dtype=torch.float64)
    c = torch.linspace(0.1, 2, 10, dtype=torch.float64)
    for norm in ("l2", "linf"):
        one = maximise_in_ball(quadratic(A, b), norm, 0.5, c, 1, starts(2, 10), 15)
        moved = quadratic(A / alpha[:, None] / alpha, b / alpha)
        other = maximise_in_ball(moved, norm, 0.5, c * alpha, 1, starts(2, 10), 15)
        assert other.value.item() == pytest.approx(one.value.item(), rel=1e-9)
        assert torch.allclose(other.point, one.point * alpha, rtol=1e-6)


def test_float32_agrees_with_float64_and_extreme_sizes_do_not_overflow():
    A, b = problem_of(20, 6, "convex")
    for norm in ("l2", "linf"):
        wide = maximise_in_ball(
            quadratic(*tensors(A, b)), norm, 0.5, torch.ones(20, dtype=torch.float64), 1, starts(4, 20), 30
        )
        A32, b32 = (t.float() for t in tensors(A, b))
        narrow = maximise_in_ball(quadratic(A32, b32), norm, 0.5, torch.ones(20), 1, starts(4, 20).float(), 30)
        assert narrow.value.item() == pytest.approx(wide.value.item(), rel=1e-5)
    for size in (1e-200, 1e200):
        x = torch.tensor([[3.0, 4.0]], dtype=torch.float64) * size
        assert lengths(x).item() == pytest.approx(5 * size, rel=1e-15)
        assert ball("l2", 2.0).direction(x)[0].tolist() == pytest.approx([0.6, 0.8], rel=1e-15)
    with pytest.raises(InputError, match="l2 or linf"):
        ball("l1", 1.0)


def reference_maximum(function, norm, radius, n, rows=64, steps=400):
    """Plain projected gradient ascent from many random starts, steps falling from 1 to 1/100 of the radius."""
    rng = np.random.default_rng(99)
    u = torch.tensor(rng.standard_normal((rows, n)))
    best = -math.inf
    for number in range(steps):
        size = torch.linalg.vector_norm(u, 2 if norm == "l2" else math.inf, dim=-1, keepdim=True)
        u = u * (radius / size).clamp(max=1) if norm == "l2" else u.clamp(-radius, radius)
        value, g = function(u)
        best = max(best, value.max().item())
        g = g / torch.linalg.vector_norm(g, dim=-1, keepdim=True) if norm == "l2" else g.sign()
        u = u + radius * 10 ** (-2 * number / steps) * g
    return best


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_hills_and_valleys_it_comes_within_a_hundredth_of_many_random_restarts(norm):
    """Sums of tanh-like ridges: 20 functions, a tenth of the reference's steps and an eighth of its starts."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        W, phase, a = tensors(rng.standard_normal((15, 8)), rng.standard_normal(15), rng.standard_normal(15))

        def function(moves, W=W, phase=phase, a=a):
            t = (moves @ W.T + phase).tanh()
            return (t * a).sum(-1) + t.square().sum(-1) / 4, ((1 - t * t) * (a + t / 2)) @ W

        expected = reference_maximum(function, norm, 0.6, 8)
        floor = function(torch.zeros(1, 8, dtype=torch.float64))[0].item()
        found = maximise_in_ball(function, norm, 0.6, torch.ones(8, dtype=torch.float64), 1, starts(8, 8, seed), 40)
        assert found.value.item() >= 0.99 * (expected - floor)
