"""Progressive sampling: exact where a sample says enough, honest where it does not."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from landscape import hessian, progressive
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.methods.refine import refine
from landscape.problem import Problem
from landscape.spec import HessianSpec


def trained(examples=600, steps=300, dtype=torch.float64, noise=0.0):
    """A small classifier, trained until few examples are hard, and its problem."""
    torch.manual_seed(0)
    x = torch.randn(examples, 8, dtype=dtype)
    y = (x[:, :3] @ torch.randn(3, 4, dtype=dtype) + noise * torch.randn(examples, 4, dtype=dtype)).argmax(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).to(dtype)
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return Problem(model, loss_by_name("cross_entropy"), list(zip(x.split(70), y.split(70), strict=True)))


def dense(problem):
    w = problem.weights
    matvec = problem.hessian(w)
    return torch.stack([matvec(e) for e in torch.eye(w.numel(), dtype=w.dtype)]).double()


@pytest.mark.parametrize("ends", ["largest", "magnitude"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_certified_on_all_examples_for_less_work(dtype, ends):
    problem = trained(dtype=dtype)
    result = hessian.measure(problem, HessianSpec(count=3, ends=ends, tolerance=1e-2, progressive=True))
    exact = torch.linalg.eigvalsh(dense(problem)).numpy()
    assert result.converged.all()
    assert (np.abs(exact[None] - result.eigenvalues[:, None]).min(1) <= result.residuals).all()
    np.testing.assert_allclose(result.eigenvalues, np.sort(exact)[::-1][:3], rtol=2e-3)
    plain = hessian.measure(problem, HessianSpec(count=3, ends=ends, tolerance=1e-2))
    assert result.conditions["sample"] < 300
    assert result.conditions["work"] < 0.6 * plain.matvecs
    assert result.conditions["coverage"] >= 0.995


def test_where_all_examples_matter_the_full_data_decide():
    """Noisy labels, hardly trained: the sample is a fixed share, and products with all examples make up for it."""
    problem = trained(steps=5, noise=3.0)
    result = hessian.measure(problem, HessianSpec(count=3, tolerance=1e-3, progressive=True))
    exact = np.sort(torch.linalg.eigvalsh(dense(problem)).numpy())[::-1]
    assert result.conditions["sample"] == 120
    assert result.converged.all()
    np.testing.assert_allclose(result.eigenvalues, exact[:3], rtol=1e-4)


def test_a_budget_that_is_too_small_is_not_called_converged():
    problem = trained(steps=5, noise=3.0)
    result = hessian.measure(problem, HessianSpec(count=3, tolerance=1e-6, progressive=True, max_matvecs=4))
    assert not result.converged.any()


def test_scores_bound_what_an_example_adds():
    """Examples in order of their scores: the mean Hessian norm falls with them, and the last are next to nothing."""
    problem = trained()
    score = progressive.scores(problem, problem.weights)
    order = score.argsort(descending=True)
    assert score.shape == (600,)
    norms = [torch.linalg.matrix_norm(dense(problem.subset(rows.sort().values)), 2) for rows in order.split(150)]
    assert all(a > 2 * b for a, b in itertools.pairwise(norms))
    logits = problem.model(problem.batches[0][0])
    residual = logits.softmax(1) - nn.functional.one_hot(problem.batches[0][1], 4)
    assert (score[:70] >= residual.detach().norm(dim=1) - 1e-12).all()


def test_subset_is_the_mean_over_the_chosen_examples():
    problem = trained()
    rows = torch.tensor([0, 3, 69, 70, 71, 200, 599])
    some = problem.subset(rows)
    x, y = torch.cat([b[0] for b in problem.batches])[rows], torch.cat([b[1] for b in problem.batches])[rows]
    whole = Problem(problem.model.requires_grad_(True), problem.loss, [(x, y)])
    assert some.size == 7
    assert some.value(problem.weights) == pytest.approx(whole.value(problem.weights), rel=1e-12)
    torch.testing.assert_close(some.gradient(problem.weights), whole.gradient(problem.weights))


def test_batch_statistics_are_refused():
    problem = trained()
    model = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)).double()
    problem = Problem(model, problem.loss, problem.batches, batch_norm="batch")
    with pytest.raises(InputError, match="batch_norm = batch forbids"):
        hessian.measure(problem, HessianSpec(progressive=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_refine_residuals_bound_the_distance_to_an_eigenvalue(dtype):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, k = int(rng.integers(10, 60)), int(rng.integers(1, 5))
        values = rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 2, n)
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        A = torch.from_numpy(Q * values @ Q.T).to(dtype)
        near = np.argsort(-values)[:k]
        start = torch.from_numpy(Q.T[near] + 10.0 ** rng.uniform(-6, -1) * rng.standard_normal((k, n))).to(dtype)
        pairs = refine(lambda v, A=A: A @ v, start[0], start, "largest", k, 1e-3, k + 6, 100, noise=1e-5)
        assert (np.abs(values[None] - pairs.values[:, None]).min(1) <= pairs.residuals).all()
        assert (pairs.residuals[pairs.converged] <= 1e-3 * pairs.scale).all()
        assert pairs.matvecs <= k + 6


def test_refine_restarts_in_a_small_basis():
    """From poor approximations, with no more rows than a search may have: it restarts, and converges all the same."""
    rng = np.random.default_rng(0)
    values = np.r_[10.0, 9.0, 8.0, rng.uniform(-1, 7, 197)]
    Q = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    A = torch.from_numpy(Q * values @ Q.T)
    start = torch.from_numpy(Q.T[:3] + 0.1 * rng.standard_normal((3, 200)))
    pairs = refine(lambda v: A @ v, start[0], start, "largest", 3, 1e-6, 500, 18)
    assert pairs.restarts > 0
    assert pairs.converged.all()
    np.testing.assert_allclose(pairs.values, [10.0, 9.0, 8.0], rtol=1e-9)
