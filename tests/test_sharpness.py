"""ε-sharpness against closed forms, exhaustive search, SciPy, and the identities it must obey."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from landscape import results, sharpness
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import SharpnessSpec

N, D = 24, 6
FULL = SharpnessSpec(spaces=("full",), trials=1)
SUBSPACE = SharpnessSpec(spaces=("subspace",), dimension=3, trials=1)


def data(dtype=torch.float64, rows=N):
    rng = torch.Generator().manual_seed(3)
    return torch.randn(rows, D, generator=rng, dtype=torch.float64).to(dtype), torch.randn(
        rows, 1, generator=rng, dtype=torch.float64
    ).to(dtype)


def batches(x, y, size):
    return list(zip(x.split(size), y.split(size), strict=True))


def linear_model(weights):
    model = nn.Linear(D, 1, bias=False, dtype=weights.dtype)
    with torch.no_grad():
        model.weight.copy_(weights.reshape(1, D))
    return model


def tilted(outputs, targets):
    """A loss that is linear in the weights of a linear model: f(w) = cᵀw with c = Σ t_i x_i / N."""
    return (outputs * targets).sum()


def linear_problem(size=N):
    x, y = data()
    weights = torch.linspace(-2, 3, D, dtype=torch.float64)
    problem = Problem(linear_model(weights), tilted, batches(x, y, size))
    return problem, (x * y).mean(0).numpy(), weights.numpy()


def least_squares():
    """Squared error exactly at its minimum, with the residual Hessian H: f(w + z) = f(w) + ½ zᵀHz."""
    x, y = data()
    solution = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    problem = Problem(linear_model(torch.tensor(solution)), loss_by_name("mse"), batches(x, y, N))
    return problem, 2 * (x.T @ x).numpy() / N, solution[:, 0]


def classifier(dtype=torch.float64, size=40, steps=60):
    x, _ = data(dtype, 40)
    labels = (x[:, 0] + x[:, 1] ** 2 > 0.7).long()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x.double()), labels)
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.data -= 0.5 * g
    return Problem(model.to(dtype), loss_by_name("cross_entropy"), batches(x, labels, size))


@pytest.fixture
def drawn(monkeypatch):
    """The matrices A (n, p) that a measurement draws."""
    matrices = []
    columns = sharpness.columns

    def spy(draws, law):
        rows = columns(draws, law)
        matrices.append(rows.double().numpy().T)
        return rows

    monkeypatch.setattr(sharpness, "columns", spy)
    return matrices


def percent(rise, loss):
    return 100 * rise / (1 + loss)


@pytest.mark.parametrize("solver", ["projected", "scipy"])
@pytest.mark.parametrize("epsilon", [1e-3, 5e-4, 0.3])
def test_a_linear_loss_rises_by_its_gradient_times_the_box(epsilon, solver):
    problem, c, w = linear_problem()
    found = sharpness.measure(problem, SharpnessSpec(spaces=("full",), epsilons=(epsilon,), trials=2, solver=solver))
    rise = (abs(c) * epsilon * (abs(w) + 1)).sum()
    np.testing.assert_allclose(found.sharpness, [[percent(rise, c @ w)]], rtol=1e-9)
    assert found.active.min() == 1
    assert found.projected_gradient.shape == (1, 1, 2)


@pytest.mark.parametrize("law", ["gaussian", "unit", "orthonormal"])
def test_a_linear_loss_in_the_subspace(law, drawn):
    problem, c, w = linear_problem()
    found = sharpness.measure(problem, SharpnessSpec(spaces=("subspace",), dimension=3, law=law, trials=4))
    assert len(drawn) == 4
    for trial, A in enumerate(drawn):
        box = abs(np.linalg.pinv(A) @ w) + 1
        for j, epsilon in enumerate(found.spec.epsilons):
            rise = (abs(A.T @ c) * epsilon * box).sum()
            assert found.values[0, j, trial] == pytest.approx(percent(rise, c @ w), rel=1e-9)


def test_at_an_exact_minimum_the_full_space_maximum_is_the_best_corner():
    problem, H, w = least_squares()
    found = sharpness.measure(problem, SharpnessSpec(spaces=("full",), trials=1))
    for j, epsilon in enumerate(found.spec.epsilons):
        corners = np.array(list(itertools.product((-1.0, 1.0), repeat=D))) * epsilon * (abs(w) + 1)
        best = max(0.5 * z @ H @ z for z in corners)
        assert found.values[0, j, 0] == pytest.approx(percent(best, found.loss), rel=1e-6)


def test_at_an_exact_minimum_the_subspace_maximum_is_the_best_corner(drawn):
    problem, H, w = least_squares()
    found = sharpness.measure(problem, SharpnessSpec(spaces=("subspace",), dimension=3, trials=2))
    for trial, A in enumerate(drawn):
        box = 1e-3 * (abs(np.linalg.pinv(A) @ w) + 1)
        corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3))) * box
        best = max(0.5 * z @ A.T @ H @ A @ z for z in corners)
        assert found.values[0, 0, trial] == pytest.approx(percent(best, found.loss), rel=1e-6)


@pytest.mark.parametrize("space", ["full", "subspace"])
def test_each_maximum_is_at_least_scipys_in_the_same_box(space, drawn):
    problem = classifier()
    w = problem.weights.numpy()
    found = sharpness.measure(problem, SharpnessSpec(spaces=(space,), dimension=10, epsilons=(1e-2,), trials=3))
    for trial in range(3):
        A = drawn[trial] if space == "subspace" else np.eye(len(w))
        half = 1e-2 * (abs(np.linalg.pinv(A) @ w) + 1)
        for start in (np.zeros(len(half)), half * np.random.default_rng(trial).uniform(-0.1, 0.1, len(half))):
            best = -math.inf

            def negative(z, A=A):
                nonlocal best
                value, gradient = problem.value_and_gradient(torch.as_tensor(w + A @ z))
                best = max(best, value)
                return -value, -A.T @ gradient.numpy()

            minimize(
                negative, start, jac=True, method="L-BFGS-B", bounds=list(zip(-half, half, strict=True)),
                options={"maxiter": 10, "ftol": 0, "gtol": 0},
            )  # fmt: skip
            assert found.maxima[0, 0, trial] >= best - 1e-6 * (best - found.loss)


@pytest.mark.parametrize("spec", [FULL, SUBSPACE], ids=["full", "subspace"])
def test_the_batch_size_changes_nothing(spec):
    whole, pieces = (sharpness.measure(classifier(size=size), spec) for size in (40, 7))
    np.testing.assert_allclose(whole.values, pieces.values, rtol=1e-8)


@pytest.mark.parametrize("spec", [FULL, SUBSPACE], ids=["full", "subspace"])
def test_float32_agrees_with_float64(spec):
    single, double = (sharpness.measure(classifier(dtype), spec) for dtype in (torch.float32, torch.float64))
    assert single.conditions["dtype"] == "float32"
    np.testing.assert_allclose(single.values, double.values, rtol=1e-2)
    assert single.loss == pytest.approx(double.loss, rel=1e-5)


def test_a_seed_repeats_and_another_seed_draws_another_subspace():
    first, again, other = (
        sharpness.measure(classifier(), SharpnessSpec(dimension=3, trials=2, seed=seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values[1] != other.values[1]).all()
    assert (first.values[1, :, 0] != first.values[1, :, 1]).all()


def test_sharpness_never_falls_with_epsilon_in_any_order():
    epsilons = (1e-2, 1e-4, 0.3, 1e-3, 0.3)
    found = sharpness.measure(classifier(), SharpnessSpec(epsilons=epsilons, dimension=4, trials=2, iterations=2))
    order = np.argsort(epsilons, kind="stable")
    assert (np.diff(found.values[:, order], axis=1) >= 0).all()
    assert (found.values > 0).all()


def test_a_larger_box_is_tried_at_the_smaller_ones_best_point_and_at_its_image(monkeypatch):
    calls = []
    plain = sharpness.maximise_in_box

    def spy(function, radius, starts, iterations, probes, *more):
        calls.append((probes, radius, plain(function, radius, starts, iterations, probes, *more)))
        return calls[-1][2]

    monkeypatch.setattr(sharpness, "maximise_in_box", spy)
    sharpness.measure(classifier(), SharpnessSpec(spaces=("full",), epsilons=(3e-3, 1e-3), trials=1))
    (_, small, first), (probes, large, _) = calls
    torch.testing.assert_close(large, 3 * small)
    torch.testing.assert_close(probes[-2:], torch.stack([first.point, 3 * first.point]))


def test_the_record_holds_what_is_needed_to_judge_it(tmp_path, monkeypatch):
    problem = classifier()
    calls = []
    plain = Problem.value_and_gradient
    monkeypatch.setattr(Problem, "value_and_gradient", lambda self, w: calls.append(0) or plain(self, w))
    shown = []
    spec = SharpnessSpec(dimension=4, trials=3)
    found = sharpness.measure(problem, spec, progress=lambda done, total, what: shown.append((done, total, what)))
    assert found.evaluations == len(calls) + 1
    assert [(done, total) for done, total, _ in shown] == [(k, 12) for k in range(12)]
    assert found.loss == pytest.approx(problem.value(problem.weights), rel=1e-12)
    np.testing.assert_allclose(found.values, percent(found.maxima - found.loss, found.loss))
    np.testing.assert_allclose(found.sharpness, np.mean(found.values, -1))
    np.testing.assert_allclose(found.deviation, np.std(found.values, -1, ddof=1))
    assert (found.maxima >= found.probe).all()
    assert (found.spread >= 0).all()
    assert ((found.active >= 0) & (found.active <= 1)).all()
    assert found.conditions["accuracy"] == problem.evaluate(problem.weights).accuracy
    results.save(found, tmp_path / "sharpness.result")
    loaded = results.load(tmp_path / "sharpness.result")
    assert isinstance(loaded, results.SharpnessResult)
    assert loaded.spec == spec
    np.testing.assert_array_equal(loaded.values, found.values)


def test_one_trial_has_no_deviation_and_other_weights_can_be_named():
    problem = classifier()
    elsewhere = problem.weights * 0.5
    found = sharpness.measure(problem, FULL, weights=elsewhere)
    assert np.isnan(found.deviation).all()
    assert found.loss == pytest.approx(problem.value(elsewhere))


def test_the_subspace_may_have_more_columns_than_there_are_weights(drawn):
    problem, c, w = linear_problem()
    found = sharpness.measure(problem, SharpnessSpec(spaces=("subspace",), dimension=10, trials=1))
    box = abs(np.linalg.pinv(drawn[0]) @ w) + 1
    assert found.values[0, 0, 0] == pytest.approx(percent((abs(drawn[0].T @ c) * 1e-3 * box).sum(), c @ w), rel=1e-9)


def test_weights_whose_loss_is_not_finite_are_refused():
    problem, _, _ = linear_problem()
    with pytest.raises(InputError, match="finite"):
        sharpness.measure(problem, FULL, weights=problem.weights * math.nan)
