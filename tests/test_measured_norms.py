"""Norms, spectral norms, path norm, Fisher-Rao norm and margins, against dense matrices and enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from char_gpt import GPT
from problems import TransformerBlock, network
from subjects import (
    measured,
    on,
    relu_mlp,
    rescaled_before_norm,
    rescaled_layer,
    rescaled_units,
    trained,
)
from torch import nn
from torch.func import functional_call, jacrev

from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem

FUNCTION = ("path-norm", "fisher-rao", "margin")


def values(name: str, problem: Problem, **options) -> np.ndarray:
    return np.array([row.value for row in measured(name, problem, **options)])


# -- norm and distance --------------------------------------------------------------------------------


def test_norm_and_distance():
    problem = trained("mlp")
    w = problem.weights
    assert values("norm", problem) == pytest.approx([math.sqrt((w.numpy() ** 2).sum())], rel=1e-12)
    shifted = w + 0.5
    assert values("distance", problem, initial=shifted) == pytest.approx([0.5 * len(w) ** 0.5], rel=1e-12)
    with pytest.raises(InputError, match="records no initial weights"):
        measured("distance", problem)


# -- invariance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [rescaled_layer, rescaled_units])
@pytest.mark.parametrize("name", FUNCTION)
def test_what_the_function_decides_is_the_same_when_layers_or_units_are_rescaled(name, change):
    before, after = values(name, trained("mlp")), values(name, trained("mlp", change=change))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert all("relu" in row.invariant for row in measured(name, trained("mlp")))


@pytest.mark.parametrize("subject", ["cnn", "foldable"])
@pytest.mark.parametrize("name", FUNCTION)
def test_what_the_function_decides_is_the_same_for_rescaled_weights_before_batch_norm(name, subject):
    before, after = values(name, trained(subject)), values(name, trained(subject, change=rescaled_before_norm))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert all("batch-norm" in row.invariant for row in measured(name, trained(subject)))


def test_spectral_norms_are_the_same_for_rescaled_layers_alone():
    before = values("spectral-norms", trained("mlp"))
    np.testing.assert_allclose(values("spectral-norms", trained("mlp", change=rescaled_layer)), before, rtol=1e-6)
    for subject, change in [("mlp", rescaled_units), ("cnn", rescaled_before_norm)]:
        before, after = (values("spectral-norms", trained(subject, change=c)) for c in (None, change))
        assert abs(after[0] / before[0] - 1) > 0.01
    assert measured("spectral-norms", trained("mlp"))[0].invariant == ("relu-layer",)


def test_norm_moves_with_every_rescaling():
    for subject, change in [("mlp", rescaled_layer), ("mlp", rescaled_units), ("cnn", rescaled_before_norm)]:
        before, after = (values("norm", trained(subject, change=c)) for c in (None, change))
        assert abs(after[0] / before[0] - 1) > 0.01
    assert measured("norm", trained("mlp"))[0].invariant == ()


@pytest.mark.parametrize("name", [*FUNCTION, "norm", "spectral-norms"])
def test_float32_gives_the_same(name):
    before, after = values(name, trained("cnn")), values(name, trained("cnn", torch.float32))
    np.testing.assert_allclose(after, before, rtol=2e-4, atol=2e-5)


# -- spectral norms -----------------------------------------------------------------------------------


def dense(layer: nn.Module, *shape: int) -> np.ndarray:
    """The matrix of the layer without its bias on one example of `shape`: an image for each unit vector."""
    units = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        return (layer(units) - layer(0 * units)).flatten(1).T.numpy()


LAYERS = [
    (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 7)),
    (nn.Conv2d(4, 6, 3, stride=2, groups=2, dilation=2, bias=False), (4, 9, 8)),
    (nn.Conv2d(2, 3, (3, 1), padding="same", padding_mode="circular"), (2, 6, 5)),
    (nn.Conv1d(2, 3, 5), (2, 9)),
    (nn.Conv3d(1, 2, 2), (1, 3, 4, 3)),
    (nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda x: str(x)[:15])
def test_the_norm_of_a_convolution_is_that_of_its_dense_matrix(layer, shape):
    expected = np.linalg.norm(dense(layer.double(), *shape), 2)
    flat = nn.Flatten()
    outputs = flat(layer(torch.zeros(1, *shape, dtype=torch.float64))).shape[1]
    model = nn.Sequential(layer, nn.ReLU(), flat, nn.Linear(outputs, 3))
    product, logarithm = measured("spectral-norms", on(model, *shape))
    norms = product.certificate["norms"]
    assert norms["0"] == pytest.approx(expected, rel=1e-7)
    assert norms["3"] == pytest.approx(np.linalg.norm(model[3].weight.detach().numpy(), 2), rel=1e-12)
    assert product.value == pytest.approx(norms["0"] * norms["3"], rel=1e-12)
    assert logarithm.value == pytest.approx(math.log10(product.value), rel=1e-12, abs=1e-12)
    assert product.certificate["converged"]
    assert product.error < 1e-7 * product.value
    assert not np.isclose(norms["0"], np.linalg.norm(layer.weight.detach().flatten(1).numpy(), 2), rtol=1e-2)


def test_a_product_that_overflows_has_a_logarithm():
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(8)))
    for layer in model:
        layer.weight = nn.Parameter(1e50 * torch.eye(2, dtype=torch.float64))
    problem = on(model, 2, classes=2, loss="cross_entropy")
    product, logarithm = (row.value for row in measured("spectral-norms", problem))
    assert (product, logarithm) == (math.inf, pytest.approx(400))


def test_layers_count_once_and_what_does_not_count_is_named():
    shared = nn.Conv2d(2, 2, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), nn.MaxPool2d(2), shared, nn.Flatten(), nn.Linear(18, 3))
    norms = measured("spectral-norms", on(model, 2, 6, 6))[0].certificate["norms"]
    assert norms["0"] == pytest.approx(np.linalg.norm(dense(shared.double(), 2, 6, 6), 2), rel=1e-7)
    assert list(norms) == ["5", "0"]
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True), First(), nn.Linear(4, 3))
    assert measured("spectral-norms", on(model, 5, 3))[0].certificate["left_out"] == [
        "0.weight_ih_l0",
        "0.weight_hh_l0",
    ]
    with pytest.raises(InputError, match="calls no linear or convolutional layer"):
        measured("spectral-norms", on(nn.BatchNorm1d(3), 3))


class First(nn.Module):
    def forward(self, x):
        return x[0][:, -1]


# -- path norm ----------------------------------------------------------------------------------------


def enumerated(model: nn.Sequential) -> float:
    """√ of the sum over all paths of squared products of weights, each path also from the bias it meets first."""
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in model if isinstance(m, nn.Linear)]
    total = 0.0
    for begin in range(len(layers)):
        widths = [len(bias) for _, bias in layers[begin:]]
        for units in itertools.product(*map(range, widths)):
            onward = 1.0
            for (weight, _), source, unit in zip(layers[begin + 1 :], units, units[1:], strict=False):
                onward *= weight[unit, source] ** 2
            weight, bias = layers[begin]
            first = bias[units[0]] ** 2 + (sum(v**2 for v in weight[units[0]]) if begin == 0 else 0.0)
            total += first * onward
    return math.sqrt(total)


def test_the_path_norm_is_the_sum_over_all_paths():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2), nn.LeakyReLU(), nn.Linear(2, 3))
    assert values("path-norm", on(model, 3)) == pytest.approx([enumerated(model.double())], rel=1e-12)


def test_a_batch_norm_in_the_paths_is_its_affine_map_folded_where_it_follows_a_layer():
    problem = trained("cnn")
    conv, norm, _, second, _, behind, _, last = problem.model
    image = dense(conv, 1, 6, 6) * np.repeat(*affine(norm, 16)[:1], 1)[:, None]
    shift = np.repeat(conv.bias.numpy(), 16) * affine(norm, 16)[0] + affine(norm, 16)[1]
    h = image**2 @ np.ones(36) + shift**2
    h = dense(second, 4, 4, 4) ** 2 @ h + np.repeat(second.bias.numpy(), 4) ** 2
    scale, shift = affine(behind, 4)
    h = last.weight.numpy() ** 2 @ (scale**2 * h + shift**2) + last.bias.numpy() ** 2
    row = measured("path-norm", problem)[0]
    assert row.value == pytest.approx(math.sqrt(h.sum()), rel=1e-10)
    assert row.certificate == {"folded": ["1"], "not_folded": ["5"]}


def affine(norm: nn.Module, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """s and t of s·x + t for each entry of the image."""
    deviation = (norm.running_var.numpy() + norm.eps) ** 0.5
    scale = norm.weight.numpy() / deviation
    return np.repeat(scale, pixels), np.repeat(norm.bias.numpy() - norm.running_mean.numpy() * scale, pixels)


def test_deep_networks_do_not_overflow():
    model = nn.Sequential(*(layer for _ in range(60) for layer in (nn.Linear(2, 2, bias=False), nn.ReLU())))
    for layer in model[::2]:
        layer.weight = nn.Parameter(torch.full((2, 2), 5.0))
    problem = Problem(model, loss_by_name("cross_entropy"), [(torch.ones(2, 2) * 1e-30, torch.tensor([0, 1]))])
    assert values("path-norm", problem)[0] == pytest.approx(math.sqrt(2 * 50.0**60), rel=1e-9)


@pytest.mark.parametrize(
    "problem",
    [
        lambda: on(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), 3),
        lambda: on(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)), 3),
        lambda: on(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 3)), 3),
        lambda: on(TransformerBlock(), 3, 4),
        lambda: network("lstm").problem(),
    ],
    ids=["tanh", "gelu", "layer-norm", "transformer", "lstm"],
)
def test_networks_that_are_not_piecewise_linear_have_no_path_norm(problem):
    with pytest.raises(InputError, match="path-norm needs a network that is piecewise linear"):
        measured("path-norm", problem())


def test_path_norm_says_what_else_it_needs():
    problem = trained("cnn")
    own = Problem(problem.model_at(problem.weights), problem.loss, problem.batches, batch_norm="batch")
    with pytest.raises(InputError, match="Use batch_norm = running"):
        measured("path-norm", own)
    tokens = torch.arange(12).view(2, 6) % 5
    with pytest.raises(InputError, match="inputs that are real numbers"):
        measured("path-norm", Problem(GPT(5, 6, 8, 1, 2), loss_by_name("causal_lm"), [(tokens, tokens)]))


# -- Fisher-Rao ---------------------------------------------------------------------------------------


def dense_fisher(problem: Problem) -> np.ndarray:
    """(1/N) Σ_i Σ_y p(y|x_i) ∇log p(y|x_i) ∇log p(y|x_i)ᵀ, every class of every example."""
    n = problem.weights.numel()
    total = np.zeros((n, n))
    for inputs, _ in problem.batches:

        def logarithms(w, inputs=inputs):
            return functional_call(problem.model, problem.named(w), (inputs,)).log_softmax(1)

        J = jacrev(logarithms)(problem.weights).detach().numpy()
        p = logarithms(problem.weights).exp().detach().numpy()
        total += np.einsum("ic,icm,icn->mn", p, J, J)
    return total / problem.size


def test_fisher_rao_is_the_form_of_the_dense_fisher_matrix_and_not_of_the_hessian():
    problem = trained("mlp")
    w = problem.weights
    row = measured("fisher-rao", problem)[0]
    assert row.value == pytest.approx(w.numpy() @ dense_fisher(problem) @ w.numpy(), rel=1e-9)
    assert 0 < row.error < row.value
    assert abs(float(w @ problem.hessian(w)(w)) / row.value - 1) > 0.01
    assert row.value != pytest.approx(float(w @ problem.fisher(w)(w)), rel=0.01)


def test_fisher_rao_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(50, 4)), rng.normal(size=4)
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(w))
    problem = Problem(model, loss_by_name("bce"), [(torch.from_numpy(x), torch.ones(50, 1, dtype=torch.float64))])
    p = 1 / (1 + np.exp(-x @ w))
    assert values("fisher-rao", problem) == pytest.approx([(p * (1 - p) * (x @ w) ** 2).mean()], rel=1e-12)


def test_fisher_rao_needs_a_likelihood():
    problem = trained("mlp")
    own = Problem(problem.model_at(problem.weights), nn.CrossEntropyLoss(reduction="sum"), problem.batches)
    with pytest.raises(InputError, match="the loss CrossEntropyLoss has no predictive distribution"):
        measured("fisher-rao", own)


# -- margin -------------------------------------------------------------------------------------------


def test_margins_of_classes_by_hand():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 2.0, 9.0], [4.0, 4.5, 0.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([0, 1, 2, 0, -100])
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    problem = Problem(model, loss_by_name("cross_entropy"), [(logits, targets)])
    expected = np.array([1.0, 4.0, 7.0, -0.5])
    low, least, mean = measured("margin", problem)
    assert low.value == pytest.approx(np.percentile(expected, 10))
    assert (least.value, mean.value) == (-0.5, pytest.approx(expected.mean()))
    assert mean.error == pytest.approx(expected.std(ddof=1) / 2)
    assert low.certificate == {"examples": 4}


def test_margins_of_binary_labels_and_of_tokens():
    outputs = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    problem = Problem(model, loss_by_name("bce"), [(outputs, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))])
    assert measured("margin", problem)[1].value == -0.5
    assert measured("margin", problem)[2].value == pytest.approx((2 + 1 - 0.5 + 3) / 4)
    tokens = torch.arange(12).view(2, 6) % 5
    gpt = Problem(GPT(5, 6, 8, 1, 2), loss_by_name("causal_lm"), [(tokens, tokens)])
    (logits, _), *_ = gpt.outputs_and_targets(gpt.weights)
    ahead = [
        float(logits[b, t, tokens[b, t + 1]] - max(v for c, v in enumerate(logits[b, t]) if c != tokens[b, t + 1]))
        for b in range(2)
        for t in range(5)
    ]
    assert measured("margin", gpt)[2].value == pytest.approx(np.mean(ahead), rel=1e-5)


def test_the_error_of_the_percentile_is_about_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    found = []
    for _ in range(200):
        x = torch.zeros(400, 2, dtype=torch.float64)
        x[:, 0] = torch.from_numpy(rng.normal(size=400))
        problem = Problem(model, loss_by_name("cross_entropy"), [(x, torch.zeros(400, dtype=torch.long))])
        found.append(measured("margin", problem)[0])
    scatter = np.std([row.value for row in found])
    assert np.mean([row.error for row in found]) == pytest.approx(scatter, rel=0.2)


def test_regression_has_no_margin():
    x = torch.ones(4, 6)
    with pytest.raises(InputError, match="the loss mse has no classes"):
        measured("margin", Problem(relu_mlp(), loss_by_name("mse"), [(x, x[:, :3])]))
