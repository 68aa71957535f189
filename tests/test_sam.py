"""SAM against its formula: at one point, and over 20 steps of the loop against explicit tensors."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.run import train
from landscape.training.sam import ascended, frozen_statistics


def parameters(dtype=torch.float64) -> list[nn.Parameter]:
    """A weight and a bias with gradients, and a parameter without."""
    draws = [
        seeds.gaussian(seeds.stream(0, "p", i), n, torch.empty(k, dtype=dtype))
        for i, (n, k) in enumerate([(4, 3), (2, 3)])
    ]
    weight, bias, unused = nn.Parameter(draws[0]), nn.Parameter(draws[1][0]), nn.Parameter(draws[1][1].clone())
    weight.grad, bias.grad = (
        torch.linspace(-2, 3, 12, dtype=dtype).view(4, 3),
        torch.tensor([1.0, 0.0, -5.0], dtype=dtype),
    )
    return [weight, bias, unused]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("adaptive", [False, True])
def test_ascended_point_and_return(dtype, adaptive):
    ps = parameters(dtype)
    before = [p.detach().clone() for p in ps]
    w, b = (p.detach().numpy().astype(np.float64) for p in ps[:2])
    gw, gb = (p.grad.numpy().astype(np.float64) for p in ps[:2])
    scale = np.abs(w) + 0.2 if adaptive else np.ones_like(w)
    norm = math.sqrt(((scale * gw) ** 2).sum() + (gb**2).sum()) + 1e-12
    with ascended(iter(ps), 0.7, adaptive=adaptive, eta=0.2):
        expected = [w + 0.7 * scale**2 * gw / norm, b + 0.7 * gb / norm, before[2].numpy()]
        for p, value in zip(ps, expected, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), value, rtol=20 * torch.finfo(dtype).eps)
    assert all(torch.equal(p, old) for p, old in zip(ps, before, strict=True))


def test_weights_return_bit_for_bit_where_subtraction_would_not():
    p = nn.Parameter(seeds.gaussian(seeds.stream(0, "w"), 1, torch.empty(1000))[0])
    p.grad = seeds.gaussian(seeds.stream(0, "g"), 1, p.detach())[0] * 1e3
    before = p.detach().clone()
    with ascended([p], 1e4):
        step = p.detach() - before
        assert not torch.equal(p.detach() - step, before)
    assert torch.equal(p, before)


def test_weights_return_after_an_exception():
    ps = parameters()
    before = [p.detach().clone() for p in ps]
    with pytest.raises(KeyError), ascended(ps, 0.5):
        raise KeyError("from inside")
    assert all(torch.equal(p, old) for p, old in zip(ps, before, strict=True))


def test_nothing_happens_at_zero_radius():
    ps = parameters()
    versions = [p._version for p in ps]
    with ascended(ps, 0.0):
        assert [p._version for p in ps] == versions
    assert [p._version for p in ps] == versions


@pytest.mark.parametrize("adaptive", [False, True])
def test_zero_gradient_moves_nothing(adaptive):
    ps = parameters()
    ps[0].grad.zero_()
    ps[1].grad.zero_()
    with ascended(ps, 0.5, adaptive=adaptive, eta=0.0):
        assert all(torch.equal(p, q) for p, q in zip(ps, parameters(), strict=True))


def test_a_parameter_given_twice_ascends_once():
    once, twice = parameters(), parameters()
    with ascended(once, 0.5), ascended([*twice, twice[0]], 0.5):
        assert torch.equal(once[0], twice[0])


def test_radius_is_exact_for_many_float32_parameters():
    p = nn.Parameter(torch.zeros(4_000_000))
    p.grad = torch.full_like(p, 0.1)
    with ascended([p], 1.0):
        assert math.sqrt(p.detach().double().square().sum().item()) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("bad", [{"rho": -0.1}, {"rho": float("nan")}, {"rho": 0.1, "eta": -1.0}])
def test_illegal_radius(bad):
    with pytest.raises(InputError, match="at least 0"), ascended(parameters(), **bad):
        pass


@pytest.mark.parametrize("alias", ["view", "numpy", "tied", "part", "none"])
def test_whoever_sees_the_memory_of_a_parameter_sees_the_ascent(alias):
    whole = torch.arange(1.0, 9.0)
    p = torch.nn.Parameter(whole[:4] if alias == "part" else whole[:4].clone())
    others = {
        "view": lambda: p.detach(), "numpy": lambda: torch.from_numpy(p.detach().numpy()),
        "tied": lambda: torch.nn.Parameter(p.data), "part": lambda: whole[:4], "none": lambda: p,
    }  # fmt: skip
    other, before, place = others[alias](), p.detach().clone(), p.data_ptr()
    p.square().sum().backward()
    with ascended([p], 1.0):
        assert not torch.equal(p, before)
        assert torch.equal(other, p)
    assert torch.equal(p, before)
    assert torch.equal(other, before)
    assert p.data_ptr() == place


def test_gradient_at_the_ascended_point_is_applied_at_the_point():
    a = torch.diag(torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64))
    w = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    optimiser = torch.optim.SGD([w], lr=0.01)
    (w @ a @ w / 2).backward()
    with ascended([w], 0.3):
        optimiser.zero_grad()
        (w @ a @ w / 2).backward()
    optimiser.step()
    start = np.array([1.0, -2.0, 3.0])
    g = np.diag(a) * start
    np.testing.assert_allclose(
        w.detach(), start - 0.01 * np.diag(a) * (start + 0.3 * g / np.linalg.norm(g)), rtol=1e-14
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(5),
        nn.BatchNorm1d(5, momentum=None),
        nn.InstanceNorm1d(5, track_running_stats=True),
        nn.utils.parametrizations.spectral_norm(nn.Linear(7, 5)),
    ],
    ids=["batch norm", "cumulative batch norm", "instance norm", "spectral norm"],
)
def test_statistics_move_on_the_first_pass_only(layer):
    x = seeds.gaussian(seeds.stream(0, "x"), 6 * 5, torch.empty(7)).view(6, 5, 7)
    layer.train()
    layer(x)
    after_first = {k: v.clone() for k, v in layer.named_buffers()}
    with frozen_statistics(layer):
        layer(3 * x + 1)
        assert any(not torch.equal(v, after_first[k]) for k, v in layer.named_buffers())  # something to undo
    assert all(torch.equal(v, after_first[k]) for k, v in layer.named_buffers())


# -- 20 steps of the loop against the formulas on explicit tensors ------------------------------------------


class Reference:
    """Linear, batch norm, ReLU, linear and cross-entropy on explicit tensors, stepped by the papers' formulas."""

    def __init__(self, model: nn.Sequential, spec: TrainSpec) -> None:
        self.spec, self.steps = spec, 0
        self.w = [p.detach().clone().requires_grad_() for p in model.parameters()]
        self.mean, self.variance = torch.zeros_like(self.w[1]), torch.ones_like(self.w[1])
        self.m = [torch.zeros_like(p) for p in self.w]
        self.v = [torch.zeros_like(p) for p in self.w]

    def gradient(self, w: list[Tensor], x: Tensor, y: Tensor, first: bool) -> list[Tensor]:
        w = [p.detach().requires_grad_() for p in w]
        h = x @ w[0].T + w[1]
        mean, variance = h.mean(0), ((h - h.mean(0)) ** 2).mean(0)
        if first:
            self.mean = 0.9 * self.mean + 0.1 * mean.detach()
            self.variance = 0.9 * self.variance + 0.1 * variance.detach() * len(x) / (len(x) - 1)
        h = ((h - mean) / (variance + 1e-5) ** 0.5 * w[2] + w[3]).clamp(min=0)
        scores = h @ w[4].T + w[5]
        loss = (scores.exp().sum(1).log() - scores[torch.arange(len(y)), y]).mean()
        return list(torch.autograd.grad(loss, w))

    def step(self, x: Tensor, y: Tensor) -> None:
        spec, g = self.spec, self.gradient(self.w, x, y, first=True)
        if spec.rho:
            t = [p.abs() + spec.eta if spec.adaptive and p.dim() == 2 else torch.ones_like(p) for p in self.w]
            norm = sum(((s * d) ** 2).sum() for s, d in zip(t, g, strict=True)) ** 0.5 + 1e-12
            ascent = [p + spec.rho * s**2 * d / norm for p, s, d in zip(self.w, t, g, strict=True)]
            g = self.gradient(ascent, x, y, first=False)
        if spec.clip_norm:
            norm = sum((d**2).sum() for d in g) ** 0.5
            g = [d * min(1, spec.clip_norm / (norm + 1e-6)) for d in g]  # torch's clip_grad_norm_ adds 1e-6
        self.steps += 1
        self.w = [self.moved(i, p.detach(), d) for i, (p, d) in enumerate(zip(self.w, g, strict=True))]

    def moved(self, i: int, p: Tensor, g: Tensor) -> Tensor:
        lr, spec = self.spec.learning_rate, self.spec
        decayed, g = p - lr * spec.weight_decay * p, g + spec.l2 * p
        if spec.optimiser == "sgd":
            self.m[i] = spec.momentum * self.m[i] + g
            return decayed - lr * (g + spec.momentum * self.m[i] if spec.nesterov else self.m[i])
        self.m[i] = 0.9 * self.m[i] + 0.1 * g
        self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
        step = self.m[i] / (1 - 0.9**self.steps) / ((self.v[i] / (1 - 0.999**self.steps)) ** 0.5 + 1e-8)
        return decayed - lr * step


def toy_data(dtype=torch.float64) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 60, torch.empty(4, dtype=dtype))
    split = Split(x[:50], x[:50, :3].argmax(1)), Split(x[50:], x[50:, :3].argmax(1))
    return Dataset("toy", *split, "classification", 3, "", {})


@pytest.mark.parametrize("optimiser", ["sgd", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("ascent", [{}, {"rho": 0.1}, {"rho": 0.5, "adaptive": True}], ids=["plain", "sam", "asam"])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("decay", [{"l2": 0.02}, {"weight_decay": 0.02}, {"l2": 0.03, "weight_decay": 0.2}])
def test_twenty_steps_equal_the_formulas(optimiser, ascent, clip_norm, decay):
    nesterov = {"optimiser": "sgd", "nesterov": True}
    kind = nesterov if optimiser == "nesterov" else {"optimiser": optimiser}
    rate = 0.1 if kind["optimiser"] == "sgd" else 0.01
    spec = TrainSpec(
        epochs=4, batch_size=11, learning_rate=rate, clip_norm=clip_norm, **kind, **ascent, **decay
    )  # batches of 11, 11, 11, 11, 6
    with seeds.global_stream(1, "network"):
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    reference, data = Reference(model, spec), toy_data()
    for epoch in range(1, 5):
        order = seeds.permutation(seeds.stream(spec.seed, "order", epoch), 50)
        for part in order.split(11):
            reference.step(data.train.inputs[part], data.train.targets[part])
    trained = train(model, data, spec).model
    assert reference.steps == 20
    for p, expected in zip(trained.parameters(), reference.w, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(trained[1].running_mean, reference.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(trained[1].running_var, reference.variance, rtol=1e-9, atol=1e-9)
    assert trained[1].num_batches_tracked == 20


def test_both_passes_see_the_same_dropout_masks():
    class Recorder(nn.Dropout):
        masks: list[Tensor] = []

        def forward(self, input: Tensor) -> Tensor:
            output = super().forward(input)
            if self.training:
                self.masks.append(output.detach() == 0)
            return output

    model = nn.Sequential(Recorder(0.5), nn.Linear(4, 3))
    train(model, toy_data(torch.float32), TrainSpec(epochs=1, batch_size=25, rho=0.1))
    first, again, second, _ = Recorder.masks
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
