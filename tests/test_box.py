"""The maximum in a box: closed forms, exhaustive search over corners, and SciPy at the same iterations."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from landscape.errors import InputError
from landscape.methods import box_search, line_search, quasi_newton
from landscape.methods.box import CLIMBS, maximise_in_box
from landscape.methods.box_record import Record
from landscape.methods.lockstep import alone

SOLVERS = ["projected", "scipy"]


def searched(line, *arguments):
    return alone(line_search.search(*arguments), line)


def quadratic(H, b):
    """f(z) = ½ zᵀHz + bᵀz."""
    H, b = torch.as_tensor(H), torch.as_tensor(b)
    return lambda z: ((0.5 * z @ H @ z + b @ z).item(), H @ z + b)


def random_quadratic(seed, kind, n):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    spectrum = rng.standard_normal(n) * rng.exponential(1, n)
    spectrum = {"convex": abs(spectrum), "concave": -abs(spectrum), "indefinite": spectrum}[kind]
    radius = torch.as_tensor(0.1 + abs(rng.standard_normal(n)))
    return quadratic((Q * spectrum) @ Q.T, 0.3 * rng.standard_normal(n)), radius


def network(seed, hidden, dtype):
    """Cross-entropy around random weights of a logistic regression or a tanh network, in a Keskar box."""
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(60, 5, generator=rng, dtype=dtype), torch.randint(0, 3, (60,), generator=rng)
    shapes = [(5, hidden), (hidden,), (hidden, 3)] if hidden else [(5, 3), (3,)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    w = torch.randn(sum(sizes), generator=rng, dtype=dtype)

    def f(z):
        leaf = z.clone().requires_grad_()
        p = [part.view(shape) for part, shape in zip((w + leaf).split(sizes), shapes, strict=True)]
        logits = torch.tanh(x @ p[0] + p[1]) @ p[2] if hidden else x @ p[0] + p[1]
        loss = torch.nn.functional.cross_entropy(logits, y)
        return loss.item(), torch.autograd.grad(loss, leaf)[0]

    return f, 0.01 * (w.abs() + 1)


PROBLEMS = {
    **{f"{k}-{n}": (random_quadratic, (n, k, n)) for k in ("convex", "concave", "indefinite") for n in (6, 40, 200)},
    **{f"logistic-{t}": (network, (1, 0, t)) for t in (torch.float32, torch.float64)},
    **{f"tanh-{t}": (network, (2, 8, t)) for t in (torch.float32, torch.float64)},
}


def jitter(radius, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return radius * torch.as_tensor(scale * rng.uniform(-1, 1, len(radius))).to(radius.dtype)


def by_scipy(f, radius, start, iterations=10):
    """SciPy's L-BFGS-B as it comes, the best value it saw, and every point it evaluated."""
    seen = []

    def negative(z):
        value, gradient = f(torch.as_tensor(z).to(radius.dtype))
        seen.append((value, z.copy()))
        return -value, -gradient.double().numpy()

    half = radius.double().numpy()
    options = {"maxiter": iterations, "ftol": 0, "gtol": 0}
    bounds = list(zip(-half, half, strict=True))
    minimize(negative, start.double().numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return max(value for value, _ in seen), np.array([z for _, z in seen])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_separable_quadratics_have_their_maximum_coordinate_by_coordinate(solver, dtype, rtol):
    rng = np.random.default_rng(1)
    h, b, r = rng.standard_normal(30), rng.standard_normal(30), 0.2 + rng.random(30)
    inner = np.clip(-b / h, -r, r)
    candidates = np.stack([-r, r, inner])
    best = (0.5 * h * candidates**2 + b * candidates).max(0).sum()
    f = quadratic(torch.tensor(np.diag(h)).to(dtype), torch.tensor(b).to(dtype))
    radius = torch.tensor(r).to(dtype)
    found = maximise_in_box(f, radius, jitter(radius, 2, 0.1), 10, solver=solver)
    assert found.value == pytest.approx(best, rel=rtol)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_curved_direction_ends_in_its_sign_corner(solver):
    u, radius = torch.linspace(-1, 2.1, 25, dtype=torch.float64), torch.linspace(0.1, 1, 25, dtype=torch.float64)
    f = quadratic(torch.outer(u, u), torch.zeros(25, dtype=torch.float64))
    found = maximise_in_box(f, radius, jitter(radius, 0, 0.1), 10, solver=solver)
    assert found.value == pytest.approx(0.5 * (u.abs() @ radius).item() ** 2, rel=1e-12)
    assert found.active == 1
    assert found.projected_gradient == found.gap == 0
    assert found.converged


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_interior_maximum_is_found_and_certified(solver):
    H = -torch.tensor([[2.0, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 0.1]], dtype=torch.float64)
    centre, radius = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    found = maximise_in_box(quadratic(H, -H @ centre), radius, jitter(radius, 0), 10, solver=solver)
    torch.testing.assert_close(found.point, centre, rtol=0, atol=1e-6)
    assert found.value == pytest.approx((-0.5 * centre @ H @ centre).item(), rel=1e-10)
    assert found.active == 0
    assert found.projected_gradient < 1e-5
    assert found.converged


@pytest.mark.parametrize("start", ["jittered", "at the minimum"])
@pytest.mark.parametrize("seed", range(4))
def test_convex_quadratics_reach_the_best_of_all_corners(seed, start):
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((10, 10))
    radius = torch.as_tensor(0.1 + rng.random(10))
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=10))) * radius.numpy()
    best = (0.5 * (corners @ B) ** 2).sum(1).max()
    begin = torch.zeros_like(radius) if start == "at the minimum" else torch.stack([jitter(radius, k) for k in (1, 2)])
    f = quadratic(B @ B.T, np.zeros(10))
    assert maximise_in_box(f, radius, begin, 10).value == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_maximum_is_at_least_scipys_from_the_same_start_and_from_the_centre(name, solver):
    make, arguments = PROBLEMS[name]
    f, radius = make(*arguments)
    start = jitter(radius, 3, 0.1)
    found = maximise_in_box(f, radius, start, 10, solver=solver)
    centre = f(torch.zeros_like(radius))[0]
    for begin in (start, torch.zeros_like(radius)):
        reference = by_scipy(f, radius, begin)[0]
        assert found.value >= reference - 1e-6 * (reference - centre)
    assert bool((found.point.abs() <= radius).all())
    assert found.value == f(found.point)[0]


@pytest.mark.parametrize("block", [5, 1 << 16])
@pytest.mark.parametrize("kind", ["convex", "concave", "indefinite"])
def test_the_climb_visits_the_points_that_scipys_visits(kind, block, monkeypatch):
    monkeypatch.setattr(quasi_newton, "_BLOCK", block)
    f, radius = random_quadratic(7, kind, 40)
    start = jitter(radius, 5, 0.3)
    visited = []

    def negative(z):
        visited.append(z.numpy().copy())
        value, gradient = f(z)
        return -value, -gradient

    alone(quasi_newton.minimise(radius, start, 10), negative)
    expected = by_scipy(f, radius, start)[1]
    assert min(len(visited), len(expected)) >= 8
    np.testing.assert_allclose(visited[:8], expected[:8], atol=1e-7)


def test_a_full_memory_forgets_its_oldest_pair_as_scipys_does():
    def rosenbrock(z):
        leaf = z.clone().requires_grad_()
        value = -torch.log1p((100 * (leaf[1:] - leaf[:-1] ** 2) ** 2 + (1 - leaf[:-1]) ** 2).sum())
        return value.item(), torch.autograd.grad(value, leaf)[0]

    radius, start = torch.full((2,), 3.0, dtype=torch.float64), torch.tensor([-1.2, 1.0], dtype=torch.float64)
    values = []

    def negative(z):
        values.append(rosenbrock(z)[0])
        return -values[-1], -rosenbrock(z)[1]

    alone(quasi_newton.minimise(radius, start, 60, memory=4), negative)
    assert max(values) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_never_below_the_starts_their_sign_corners_or_the_probes(name):
    make, arguments = PROBLEMS[name]
    f, radius = make(*arguments)
    starts, probes = (torch.stack([jitter(radius, k) for k in ks]) for ks in ((1, 2), (3, 4, 5)))
    corners = [radius * f(start)[1].sign() for start in starts]
    found = maximise_in_box(f, radius, starts, 1, probes)
    assert found.value >= max(f(z)[0] for z in (*starts, *corners, *probes))
    assert found.probe == max(f(z)[0] for z in (*corners, *probes))
    assert len(found.values) == 3
    assert found.value >= found.values.max()


def test_every_evaluation_is_counted():
    f, radius = random_quadratic(0, "indefinite", 20)
    calls = []
    found = maximise_in_box(lambda z: calls.append(0) or f(z), radius, jitter(radius, 0), 10)
    assert found.evaluations == len(calls)
    assert found.walls == 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("beyond", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_walls_and_not_maxima(beyond, solver):
    def f(z):
        value = z.sum().item()
        return (value if value < 1.5 else beyond), torch.ones_like(z)

    radius = torch.ones(4, dtype=torch.float64)
    found = maximise_in_box(f, radius, jitter(radius, 1, 0.1), 10, solver=solver)
    assert found.walls > 0
    assert 0.5 < found.value < 1.5


def test_bad_input_is_refused_in_one_line():
    f, radius = random_quadratic(0, "convex", 5)
    with pytest.raises(InputError, match="finite somewhere"):
        maximise_in_box(lambda z: (float("nan"), z), radius, radius, 3)
    with pytest.raises(InputError, match="radius"):
        maximise_in_box(f, -radius, radius, 3)
    with pytest.raises(InputError, match="one of projected, scipy"):
        maximise_in_box(f, radius, radius, 3, solver="simplex")


def test_coordinates_without_room_stay_where_they_are():
    f, radius = random_quadratic(1, "convex", 8)
    radius[::2] = 0
    found = maximise_in_box(f, radius, jitter(radius, 1), 10)
    assert bool((found.point[::2] == 0).all())
    assert found.value > 0
    assert np.isfinite(found.projected_gradient)


LINES = {
    "parabola": (lambda t: (t - 0.3) ** 2, lambda t: 2 * (t - 0.3)),
    "far minimum": (lambda t: (t - 30) ** 2, lambda t: 2 * (t - 30)),
    "wiggly": (lambda t: np.cos(5 * t) - t / 4, lambda t: -5 * np.sin(5 * t) - 0.25),
    "steep": (lambda t: np.exp(9 * (t - 0.4)) - 9 * t, lambda t: 9 * np.exp(9 * (t - 0.4)) - 9),
    "quartic": (lambda t: (t - 3) ** 4, lambda t: 4 * (t - 3) ** 3),
}


@pytest.mark.parametrize("name", LINES)
def test_the_line_search_meets_both_conditions(name):
    value, slope = LINES[name]
    found = searched(lambda t: (value(t), slope(t), None), value(0.0), slope(0.0), 100.0)
    assert found is not None
    assert found.value <= value(0) + 1e-3 * found.step * slope(0)
    assert abs(found.slope) <= 0.9 * abs(slope(0))


def test_the_line_search_stops_at_the_end_of_the_line_and_admits_defeat():
    found = searched(lambda t: (-t * t - t, -2 * t - 1, None), 0.0, -1.0, 7.0)
    assert found is not None
    assert found.step == 7
    assert searched(lambda t: (t, -1.0, None), 0.0, -1.0, 7.0) is None


# -- other sides of the box --------------------------------------------------------------------------------------


def two_sided(radius, high=-1.5):
    """f = u + 2u² + high·u³, u the mean of z/radius: 3 + high at u = 1, where the centre leads, and 1 − high at −1."""

    def f(z):
        u = (z / radius).mean()
        return (u + 2 * u**2 + high * u**3).item(), (1 + 4 * u + 3 * high * u**2) / (len(z) * radius)

    return f


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("high", [-1.5, 1.5])
def test_the_higher_side_is_found_also_where_the_centre_does_not_lead_there(solver, high, monkeypatch):
    radius = 0.5 + torch.rand(300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start = jitter(radius, 0, 0.1)
    assert maximise_in_box(two_sided(radius, high), radius, start, 10, solver=solver).value == pytest.approx(
        max(3 + high, 1 - high)
    )
    monkeypatch.setattr(box_search, "_SIDES", 0)
    assert maximise_in_box(two_sided(radius, high), radius, start, 10, solver=solver).value == pytest.approx(3 + high)


def test_no_side_is_sought_from_the_same_start_twice():
    """Also where more ends are remembered on one side than there is room for."""
    radius, started = torch.ones(40, dtype=torch.float64), []
    record = Record(lambda z: (started.append(z), two_sided(radius, -0.2)(z))[1], radius)
    for value in range(9):
        record.end(100.0 + value, radius)
    box_search._other_sides(record)
    starts = [z for z in started if not torch.equal(z.abs(), radius)]
    assert len(starts) == box_search._SIDES - 1  # the first is the opposite corner
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(starts, 2))


def test_sides_are_told_apart_and_the_best_end_of_each_is_kept():
    record = Record(lambda z: (0.0, z), torch.tensor([1.0, 2.0, 0.0]))
    for value, point in ((1.0, (1, 2, 0)), (3.0, (1, 1.8, 0)), (2.0, (-1, 2, 0)), (-math.inf, (1, -2, 0))):
        record.end(value, torch.tensor(point, dtype=torch.float32))
    assert [end.value for end in record.sides()] == [3.0, 2.0]
    assert record.sides()[0].square == pytest.approx(1 + 0.81)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_impatient_climb_ends_when_nothing_is_gained(solver):
    f, radius = random_quadratic(3, "concave", 40)
    seen = []
    record = Record(lambda z: (seen.append(z), f(z))[1], radius)
    for patient in (False, True):
        seen.clear()
        alone(box_search.climb_from(record, CLIMBS[solver], jitter(radius, 1), 400, patient=patient), record)
        counted = len(seen)
        assert counted < 60 if not patient else counted > 60
    seen.clear()
    alone(box_search.climb_from(record, CLIMBS[solver], jitter(radius, 2), 3, patient=False), record)
    assert len(seen) <= 4 + box_search._ASCENT


# -- several at a time, and until it has converged ---------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_side_by_side_finds_what_one_after_the_other_finds(name, solver):
    build, arguments = PROBLEMS[name]
    f, radius = build(*arguments) if build is network else build(arguments[0], arguments[1], arguments[2])
    starts = torch.stack([jitter(radius, seed, scale) for seed, scale in ((0, 0.1), (1, 1.0), (2, 1.0))])
    rounds = []

    def several(points):
        rounds.append(len(points))
        found = [f(point) for point in points]
        return [value for value, _ in found], torch.stack([gradient for _, gradient in found])

    alone_, side = (maximise_in_box(f, radius, starts, 10, solver=solver, several=s) for s in (None, several))
    assert side.value == pytest.approx(alone_.value, rel=1e-9)
    np.testing.assert_allclose(side.values, alone_.values, rtol=1e-9)
    assert max(rounds) == 8  # three starts, the centre, four corners
    assert len(rounds) < sum(rounds) / 2


def test_an_error_in_an_evaluation_ends_scipys_thread_too():
    import threading

    before = threading.active_count()

    def f(z):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        maximise_in_box(f, torch.ones(3), torch.zeros(3), 5, solver="scipy")
    assert threading.active_count() == before


@pytest.mark.parametrize("solver", SOLVERS)
def test_until_converged_climbs_on_where_ten_iterations_do_not_do(solver):
    """A narrow bent ridge (Rosenbrock's valley, upside down, in logarithms) inside a wide box."""

    def f(z):
        leaf = z.clone().requires_grad_()
        value = -torch.log1p((100 * (leaf[1:] - leaf[:-1] ** 2) ** 2 + (1 - leaf[:-1]) ** 2).sum())
        return value.item(), torch.autograd.grad(value, leaf)[0]

    radius, start = torch.full((6,), 3.0, dtype=torch.float64), torch.full((1, 6), -1.5, dtype=torch.float64)
    probes = start[:0]
    short = maximise_in_box(f, radius, start, 2, probes, solver)
    long = maximise_in_box(f, radius, start, 2, probes, solver, until_converged=True)
    assert not short.converged
    assert long.converged
    assert long.value > short.value
    assert long.value > -0.02  # the maximum is 0
