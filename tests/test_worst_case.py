"""Worst-case sharpness against closed forms, an independent reference, and the identities it must obey."""

import copy
import math

import numpy as np
import pytest
import torch
from problems import cnn_with_batch_norm, network, prescribed
from torch import nn
from torch.nn import functional as F

from landscape import measures, seeds
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.measures import shards
from landscape.measures.logits import normalised, with_normalised_logits
from landscape.problem import Problem
from landscape.spec import MeasuresSpec

NONE = dict(l2_rhos=(), linf_rhos=(), adaptive_l2_rhos=(), adaptive_linf_rhos=())
GEOMETRIES = {
    "l2": ("l2_rhos", 2, False), "l∞": ("linf_rhos", math.inf, False),
    "adaptive l2": ("adaptive_l2_rhos", 2, True), "adaptive l∞": ("adaptive_linf_rhos", math.inf, True),
}  # fmt: skip


def spec(**options):
    return MeasuresSpec(measures=("worst-case",), **{**NONE, "starts": 2, "steps": 20, **options})


def all_four(radius=0.1, **options):
    return spec(**{"steps": 8, "starts": 1, **{field: (radius,) for field, _, _ in GEOMETRIES.values()}, **options})


def numbers(problem, spec, weights=None):
    result = measures.measure(problem, spec, weights)
    return dict(zip(result.names, result.values.tolist(), strict=True))


def small_network(seed, activation=nn.Tanh, dtype=torch.float64, examples=24, batch_size=10):
    rng = seeds.stream(seed, "worst-case test")
    x = seeds.gaussian(rng, examples, torch.empty(3, dtype=torch.float64))
    y = ((x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.3).long()).clamp(max=2)
    with seeds.global_stream(seed, "worst-case test"):
        model = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 3)).double()
    for _ in range(80):
        slopes = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        for p, g in zip(model.parameters(), slopes, strict=True):
            p.data -= 0.3 * g
    batches = list(zip(x.to(dtype).split(batch_size), y.split(batch_size), strict=True))
    return Problem(model.to(dtype), loss_by_name("cross_entropy"), batches)


# -- closed forms ----------------------------------------------------------------------------------


def test_at_the_minimum_of_a_quadratic_l2_is_half_the_largest_eigenvalue():
    problem, A = prescribed(np.array([5.0, 3.0, 1.0, 0.5, -2.0, 0.1]))
    w, c = torch.linspace(-1, 2, 6, dtype=torch.float64), torch.linspace(-1, 2, 6, dtype=torch.float64).abs()
    zero = torch.zeros_like(w)
    found = numbers(problem, spec(l2_rhos=(0.1, 0.4), steps=40), zero)
    assert found == pytest.approx(
        {"worst-case l2 ρ=0.1": 0.5 * 0.01 * 5, "worst-case l2 ρ=0.4": 0.5 * 0.16 * 5}, rel=1e-6
    )
    assert numbers(problem, spec(adaptive_l2_rhos=(0.3,)), zero) == {"worst-case adaptive l2 ρ=0.3": 0}
    # away from it: the stationarity condition (μ − CAC)u = Cg with μ above every eigenvalue is sufficient
    point = numbers(problem, spec(adaptive_l2_rhos=(0.3,)), w)["worst-case adaptive l2 ρ=0.3"]
    B, g = (A * torch.outer(c, c)).numpy(), (c * (A @ w)).numpy()
    values, vectors = np.linalg.eigh(B)
    low, high = values[-1], values[-1] + np.linalg.norm(g) / 0.3
    for _ in range(200):
        mu = (low + high) / 2
        u = vectors @ ((vectors.T @ g) / (mu - values))
        low, high = (mu, high) if np.linalg.norm(u) > 0.3 else (low, mu)
    assert point == pytest.approx(0.5 * u @ B @ u + g @ u, rel=1e-6)


def test_linear_and_logistic_regression_of_one_example():
    """log(1 + exp(−y wᵀx)) falls with y wᵀx, so the maximum lowers that by ρ‖c⊙x‖_q, 1/p + 1/q = 1."""
    x, w = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), torch.tensor([0.4, 0.3, 0.0], dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(w[None])
    logistic = Problem(model, loss_by_name("bce"), [(x, torch.ones(1, 1).double())])
    squared = Problem(model, loss_by_name("mse"), [(x, torch.full((1, 1), 0.7, dtype=torch.float64))])
    z = (x[0] @ w).item()
    for name, (field, p, adaptive) in GEOMETRIES.items():
        c = w.abs() if adaptive else torch.ones(3).double()
        reach = 0.2 * torch.linalg.vector_norm(c * x[0], 2 if p == 2 else 1).item()
        found = numbers(logistic, spec(**{field: (0.2,)}))[f"worst-case {name} ρ=0.2"]
        assert found == pytest.approx(math.log1p(math.exp(reach - z)) - math.log1p(math.exp(-z)), rel=1e-9)
        found = numbers(squared, spec(**{field: (0.2,)}))[f"worst-case {name} ρ=0.2"]
        assert found == pytest.approx((abs(z - 0.7) + reach) ** 2 - (z - 0.7) ** 2, rel=1e-9)


# -- an independent reference ----------------------------------------------------------------------


def reference(problem, w, p, adaptive, radius, rows=24, steps=400):
    """Normalised projected gradient ascent with falling steps from many random starts; its own loss and gradient."""
    rng = np.random.default_rng(7)
    c = w.abs() if adaptive else torch.ones_like(w)
    u = torch.tensor(rng.standard_normal((rows, len(w))))
    x, y = (torch.cat(t) for t in zip(*problem.batches, strict=True))
    shapes = [(q.shape, q.numel()) for q in problem.model.parameters()]
    activation = torch.tanh if isinstance(problem.model[1], nn.Tanh) else torch.relu

    def losses(u):
        W1, b1, W2, b2 = (
            t.view(-1, *s) for t, (s, _) in zip((w + c * u).split([n for _, n in shapes], 1), shapes, strict=True)
        )
        hidden = activation(x @ W1.mT + b1[:, None])
        out = hidden @ W2.mT + b2[:, None]
        return (out.logsumexp(-1) - out[:, torch.arange(len(y)), y]).mean(1)

    best = -math.inf
    for number in range(steps):
        size = torch.linalg.vector_norm(u, p, dim=1, keepdim=True)
        u = (u * (radius / size).clamp(max=1) if p == 2 else u.clamp(-radius, radius)).requires_grad_(True)
        value = losses(u)
        best = max(best, value.max().item())
        (g,) = torch.autograd.grad(value.sum(), u)
        g = g / torch.linalg.vector_norm(g, dim=1, keepdim=True) if p == 2 else g.sign()
        u = u.detach() + 10 ** (-2 * number / steps) * radius * g
    return best - losses(torch.zeros(1, len(w), dtype=w.dtype)).item()


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_at_least_an_independent_search_with_ten_times_the_iterations_and_many_restarts(name):
    field, p, adaptive = GEOMETRIES[name]
    radius = {"l2": 0.5, "l∞": 0.1, "adaptive l2": 0.5, "adaptive l∞": 0.2}[name]
    for seed in range(20):
        problem = small_network(seed, nn.Tanh if seed % 2 else nn.ReLU)
        defaults = MeasuresSpec(**{**NONE, "measures": ("worst-case",), field: (radius,)})
        found = numbers(problem, defaults)[f"worst-case {name} ρ={radius:g}"]
        assert found >= 0.99 * reference(problem, problem.weights, p, adaptive, radius), seed


# -- m-sharpness -----------------------------------------------------------------------------------


def test_m_of_all_examples_is_the_full_batch_worst_case():
    problem = small_network(1)
    whole = numbers(problem, all_four())
    for m in (24, 1000):
        assert list(numbers(problem, all_four(shard=m)).values()) == list(whole.values())
    assert next(iter(numbers(problem, all_four(shard=24)))) == "worst-case l2 ρ=0.1 m=24"


def test_shards_are_disjoint_and_the_last_one_counts_for_its_examples():
    problem = small_network(2)
    cut = shards.shards_of(problem, problem.weights, 7, 0)
    assert [shard.size for shard in cut] == [7, 7, 7, 3]
    rows = torch.cat([x for shard in cut for x, _ in shard.batches])
    assert sorted(rows.tolist()) == sorted(torch.cat([x for x, _ in problem.batches]).tolist())
    assert rows.tolist() != torch.cat([x for x, _ in problem.batches]).tolist()
    total = sum(shard.size * shard.value(problem.weights) for shard in cut) / problem.size
    assert total == pytest.approx(problem.value(problem.weights), rel=1e-12)
    by_hand = sum(shard.size / 24 * numbers(shard, spec(l2_rhos=(0.3,)))["worst-case l2 ρ=0.3"] for shard in cut)
    found = numbers(problem, spec(l2_rhos=(0.3,), shard=7))["worst-case l2 ρ=0.3 m=7"]
    assert found == pytest.approx(by_hand, rel=1e-6)
    assert found > numbers(problem, spec(l2_rhos=(0.3,)))["worst-case l2 ρ=0.3"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shards_together_are_the_shards_one_by_one(monkeypatch, dtype):
    problem = small_network(3, dtype=dtype)
    result = measures.measure(problem, all_four(shard=5))
    assert all(c["batched"] and c["shards"] == 5 for c in result.certificates)
    group = shards.groups_of(shards.shards_of(problem, problem.weights, 5, 0), problem.weights, 4)[0]
    moves = 0.1 * torch.randn(3, 4, len(problem.weights), dtype=dtype, generator=seeds.stream(0, "moves"))
    values, gradients = group(moves)
    for row in range(3):
        for number, shard in enumerate(group.shards):
            value, gradient = shard.value_and_gradient(problem.weights + moves[row, number])
            assert values[row, number].item() == pytest.approx(value, rel=1e-6)
            assert torch.allclose(gradients[row, number], gradient, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(shards, "_SMALL", 0)
    alone = measures.measure(problem, all_four(shard=5))
    assert not any(c["batched"] for c in alone.certificates)
    assert result.values == pytest.approx(alone.values, rel=1e-6 if dtype == torch.float64 else 1e-3)


def test_models_that_cannot_be_batched_go_one_by_one():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x):
            out = self.layer(x)
            return out if out.sum().item() > 0 else 2 * out

    x, y = torch.randn(20, 6, generator=seeds.stream(0, "x")), torch.arange(20) % 3
    with seeds.global_stream(0, "m"):
        model = Branching()
    result = measures.measure(Problem(model, loss_by_name("cross_entropy"), [(x, y)]), all_four(shard=8, steps=5))
    assert not any(c["batched"] for c in result.certificates)
    assert (result.values > 0).all()


@pytest.mark.parametrize("name", ["cnn_with_batch_norm", "transformer", "lstm"])
def test_other_networks_rise_too(name):
    result = measures.measure(network(name).problem(), all_four(0.02, shard=15, steps=3, starts=1))
    assert (result.values > 0).all()
    assert all(c["walls"] == 0 for c in result.certificates)


# -- identities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", [None, 10])
def test_adaptive_values_survive_a_rescaled_relu_layer_and_plain_ones_do_not(shard):
    problem = small_network(4, nn.ReLU)
    model = copy.deepcopy(problem.model)
    with torch.no_grad():
        model[0].weight.mul_(4)
        model[0].bias.mul_(4)
        model[2].weight.div_(4)
    other = Problem(model.requires_grad_(True), problem.loss, problem.batches)
    before, after = (measures.measure(p, all_four(shard=shard)) for p in (problem, other))
    assert after.loss == pytest.approx(before.loss, rel=1e-12)
    for name, a, b in zip(before.names, before.values, after.values, strict=True):
        if "adaptive" in name:
            assert b == pytest.approx(a, rel=1e-6)
        else:
            assert abs(b / a - 1) > 0.1


def test_larger_radii_never_give_less_and_rows_come_as_asked():
    found = numbers(small_network(5), spec(l2_rhos=(0.5, 0.1, 1.0), linf_rhos=(0.2, 0.01), steps=3, starts=0))
    assert list(found) == [f"worst-case l2 ρ={r}" for r in ("0.5", "0.1", "1")] + [
        f"worst-case l∞ ρ={r}" for r in ("0.2", "0.01")
    ]
    a, b, c, d, e = found.values()
    assert 0 < b <= a <= c
    assert 0 < e <= d


def test_the_ascent_direction_is_squared_weights_times_gradient():
    """One step in a small ball: the rise is ρ‖w⊙g‖₂, more than the direction |w|⊙g of a public code can give."""
    problem = small_network(6)
    w, g, rho = problem.weights, problem.gradient(problem.weights), 1e-4
    found = numbers(problem, spec(adaptive_l2_rhos=(rho,), steps=1, starts=0))["worst-case adaptive l2 ρ=0.0001"]
    public = w.abs() * g
    public = rho * public / torch.linalg.vector_norm(public / w.abs())
    theirs = problem.value(w + public) - problem.value(w)
    assert found >= rho * torch.linalg.vector_norm(w * g).item() * 0.999
    assert found > 1.1 * theirs


def test_same_seed_same_numbers_and_nothing_of_the_callers_changes():
    problem = small_network(7)
    model, weights = copy.deepcopy(problem.model.state_dict()), problem.weights.clone()
    state = torch.get_rng_state()
    first, again = (measures.measure(problem, all_four(shard=7)) for _ in range(2))
    assert first.values.tolist() == again.values.tolist()
    assert first.certificates == again.certificates
    assert torch.equal(problem.weights, weights)
    assert all(torch.equal(problem.model.state_dict()[k], v) for k, v in model.items())
    assert torch.equal(torch.get_rng_state(), state)
    other = measures.measure(problem, all_four(shard=7, measure_seed=1))
    assert first.values.tolist() != other.values.tolist()


def test_no_radii_no_rows_and_float32_agrees():
    assert numbers(small_network(8), spec()) == {}
    wide, narrow = (numbers(small_network(8, dtype=dtype), all_four()) for dtype in (torch.float64, torch.float32))
    assert narrow == pytest.approx(wide, rel=1e-4)


def test_zero_weights_do_not_move_and_a_point_without_gradient_still_rises():
    problem = small_network(9)
    w = problem.weights.clone()
    w[:12] = 0
    assert numbers(problem, spec(adaptive_linf_rhos=(0.5,)), torch.zeros_like(w)) == {"worst-case adaptive l∞ ρ=0.5": 0}
    group = shards.groups_of([problem], w, 3)[0]
    from landscape.methods.ball import maximise_in_ball

    found = maximise_in_ball(group, "l2", 0.5, w.abs(), 1, torch.ones(1, 1, len(w), dtype=w.dtype), 5)
    assert not found.point[0, :12].any()
    quadratic, _ = prescribed(np.array([4.0, 1.0, 0.5]))
    still = numbers(quadratic, spec(l2_rhos=(0.1,), starts=0), torch.zeros(3, dtype=torch.float64))
    assert still["worst-case l2 ρ=0.1"] == pytest.approx(0.02, rel=1e-6)


def test_losses_that_are_not_finite_count_as_walls():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

        def forward(self, x):
            return x * (2 - self.w.sum()).clamp(min=-1).log()[None, None]

    def loss(outputs, targets):
        return -outputs.sum()

    model = Root()
    with torch.no_grad():
        model.w.copy_(torch.tensor([0.6, 0.6]))
    problem = Problem(model, loss, [(torch.ones(4, 1).double(), torch.zeros(4))])
    result = measures.measure(problem, spec(linf_rhos=(0.5,)))
    assert result.certificates[0]["walls"] > 0
    assert np.isfinite(result.values).all()
    assert result.values[0] > 1


# -- logit normalisation ---------------------------------------------------------------------------


def test_normalised_logits_forget_the_size_of_the_last_layer():
    outputs = torch.tensor([[3.0, 0.0, -3.0], [5.0, 5.0, 5.0]], dtype=torch.float64, requires_grad=True)
    image = normalised(outputs, 1)
    assert image[0].tolist() == pytest.approx([0.5**0.5, 0, -(0.5**0.5)])
    assert image[1].tolist() == [0, 0, 0]
    (slope,) = torch.autograd.grad(image[0].square().sum() + image[1].sum(), outputs)
    assert slope.isfinite().all()
    problem = small_network(10)
    model = copy.deepcopy(problem.model).requires_grad_(True)
    with torch.no_grad():
        model[2].weight.mul_(3)
        model[2].bias.mul_(3)
    other = Problem(model, problem.loss, problem.batches)
    options = dict(adaptive_l2_rhos=(0.2,), adaptive_linf_rhos=(0.1,))
    before, after = (numbers(p, spec(logit_normalisation=True, **options)) for p in (problem, other))
    assert after == pytest.approx(before, rel=1e-6)
    assert numbers(problem, spec(**options)) != pytest.approx(before, rel=1e-2)
    assert (
        with_normalised_logits(problem).evaluate(problem.weights).accuracy == problem.evaluate(problem.weights).accuracy
    )


def test_normalised_logits_need_classes():
    problem, _ = prescribed(np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="logit_normalisation"):
        numbers(problem, spec(l2_rhos=(0.1,), logit_normalisation=True))


def test_batch_norm_layers_by_batch_statistics():
    case = network("cnn_with_batch_norm")
    assert isinstance(cnn_with_batch_norm()[1], nn.BatchNorm2d)
    result = measures.measure(case.problem(batch_norm="batch"), spec(l2_rhos=(0.05,), shard=10, steps=4))
    assert result.values[0] > 0
