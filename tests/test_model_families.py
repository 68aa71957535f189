"""Every kind of model and loss that users bring: derivatives against differences, Gauss-Newton against a dense one."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from landscape import hessian, seeds
from landscape.errors import InputError
from landscape.kernels import switched_off, twice_differentiable
from landscape.losses import loss_by_name, prediction
from landscape.problem import Problem
from landscape.spec import HessianSpec

ROWS = 8


def draws(*shape, name="x"):
    like = torch.empty(int(np.prod(shape)), dtype=torch.float64)
    return seeds.gaussian(seeds.stream(0, "families", name), 1, like).view(shape)


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(4 * (2 if layer.bidirectional else 1), 3)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    """A stack of `nn.TransformerEncoderLayer` on padded sequences, as (x, padding) or by keyword."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(4, 3)

    def forward(self, x, padding):
        return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1)), "weights are not needed"


class Embedded(nn.Module):
    """Token 0 is padding, and is used all the same."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3)

    def forward(self, tokens):
        return {"logits": self.head(self.embedding(tokens).prod(1).tanh())}


class Normed(nn.Module):
    """Group, instance and layer norm."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 2),
                                  nn.InstanceNorm2d(4, affine=True), nn.Softplus(), nn.MaxPool2d(2), nn.Flatten(),
                                  nn.LayerNorm(4), nn.Linear(4, 3))  # fmt: skip

    def forward(self, x):
        return self.body(x)


def sequences():
    return draws(ROWS, 3, 4)


def mask():
    return torch.tensor([[False, False, i % 2 == 0] for i in range(ROWS)])


def tokens():
    return (draws(ROWS, 2, name="tokens") * 10).abs().long() % 5


def perceptron():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


FAMILIES = {
    "lstm": (lambda: Recurrent(nn.LSTM(4, 4, 2, batch_first=True)), sequences, "cross_entropy"),
    "bidirectional_lstm": (lambda: Recurrent(nn.LSTM(4, 4, bidirectional=True, batch_first=True)), sequences,
                           "cross_entropy"),
    "gru": (lambda: Recurrent(nn.GRU(4, 4, batch_first=True)), sequences, "cross_entropy"),
    "rnn": (lambda: Recurrent(nn.RNN(4, 4, batch_first=True)), sequences, "cross_entropy"),
    "encoder_with_padding": (Encoder, lambda: (sequences(), mask()), "cross_entropy"),
    "encoder_by_keyword": (Encoder, lambda: {"padding": mask(), "x": sequences()}, "cross_entropy"),
    "attention_in_a_tuple": (Attention, sequences, "cross_entropy"),
    "padding_embedding_in_a_dict": (Embedded, tokens, "cross_entropy"),
    "norms": (Normed, lambda: draws(ROWS, 1, 4, 4), "cross_entropy"),
    "regression": (perceptron, lambda: draws(ROWS, 4), "mse"),
    "multi_label": (perceptron, lambda: draws(ROWS, 4), "bce"),
}  # fmt: skip


def family(name):
    build, inputs, loss = FAMILIES[name]
    with seeds.global_stream(0, "families", name):
        model = build().double().eval()
    targets = {
        "cross_entropy": torch.arange(ROWS) % 3, "mse": draws(ROWS, 3, name="y"),
        "bce": (draws(ROWS, 3, name="y") > 0).long(),
    }[loss]  # fmt: skip
    return model, inputs(), targets, loss_by_name(loss)


def cut(inputs, rows):
    if isinstance(inputs, tuple):
        return tuple(x[rows] for x in inputs)
    return {k: x[rows] for k, x in inputs.items()} if isinstance(inputs, dict) else inputs[rows]


def called(model, parameters, inputs):
    if isinstance(inputs, dict):
        return prediction(functional_call(model, parameters, (), inputs))
    return prediction(functional_call(model, parameters, inputs if isinstance(inputs, tuple) else (inputs,)))


MEANS = {
    "cross_entropy": F.cross_entropy, "mse": F.mse_loss,
    "bce": lambda o, y: F.binary_cross_entropy_with_logits(o, y.double()),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_value_gradient_hessian_gauss_newton_and_eigenvalues(name):
    model, x, y, loss = family(name)
    parts = slice(0, 5), slice(5, ROWS)
    problem = Problem(model, loss, [(cut(x, rows), y[rows]) for rows in parts])
    w = problem.weights
    with torch.no_grad(), twice_differentiable(model):
        expected = MEANS[loss.name](called(model, dict(model.named_parameters()), x), y).item()
    assert problem.value(w) == pytest.approx(expected, rel=1e-12)
    v = draws(len(w), name="v")
    v /= v.norm()
    h = 1e-4
    f = {k: problem.value(w + k * h * v) for k in (-2, -1, 1, 2)}
    g = {k: problem.gradient(w + k * h * v) for k in (-2, -1, 1, 2)}
    slope = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    curved = (8 * (g[1] - g[-1]) - (g[2] - g[-2])) / (12 * h)
    assert (problem.gradient(w) @ v).item() == pytest.approx(slope, rel=1e-7, abs=1e-10)
    torch.testing.assert_close(problem.hessian(w)(v), curved, rtol=1e-6, atol=1e-9)

    if name == "padding_embedding_in_a_dict":
        model.embedding.padding_idx = None  # it withholds a row's gradient, see below
    with twice_differentiable(model):
        J = torch.autograd.functional.jacobian(lambda u: called(model, problem.named(u), x), w).flatten(0, 1)
        o = called(model, problem.named(w), x).detach()
    H = torch.autograd.functional.hessian(lambda flat: MEANS[loss.name](flat.view(o.shape), y), o.reshape(-1))
    torch.testing.assert_close(problem.ggn(w)(v), J.T @ (H @ (J @ v)), rtol=1e-9, atol=1e-12)

    result = hessian.measure(problem, HessianSpec(count=1, operator="ggn", tolerance=1e-8))
    root = torch.linalg.cholesky_ex(H + 1e-13 * torch.eye(len(H))).L
    assert result.eigenvalues[0] == pytest.approx(torch.linalg.matrix_norm(root.T @ J, 2).item() ** 2, rel=1e-6)
    measured = hessian.measure(problem, HessianSpec(count=1, tolerance=1e-6, sampling_error=False, vectors=True))
    top = torch.from_numpy(measured.vectors[0])
    assert measured.converged.all()
    assert (top @ problem.hessian(w)(top)).item() == pytest.approx(measured.eigenvalues[0])


def test_a_withheld_gradient_row_is_given():
    """`padding_idx` is a training device: the function depends on that row, and its Hessian is symmetric."""
    model, x, y, loss = family("padding_embedding_in_a_dict")
    problem = Problem(model, loss, [(x, y)])
    H = torch.stack([problem.hessian(problem.weights)(e) for e in torch.eye(len(problem.weights)).double()])
    torch.testing.assert_close(H, H.T)
    assert problem.gradient(problem.weights)[:4].abs().min() > 0
    assert model.embedding.padding_idx == 0


def test_accuracy_of_several_labels():
    model, x, y, loss = family("multi_label")
    problem = Problem(model, loss, [(x[:3], y[:3]), (x[3:], y[3:])])
    with torch.no_grad():
        expected = ((model(x) > 0) == (y > 0)).double().mean().item()
    assert problem.evaluate(problem.weights).accuracy == pytest.approx(expected)


def test_inputs_in_tuples_from_a_loader():
    model, (x, padding), y, loss = family("encoder_with_padding")
    rows = [((x[i], padding[i]), y[i]) for i in range(ROWS)]
    loader = DataLoader(rows, batch_size=3)  # type: ignore[arg-type]  # its batches have lists for tuples
    expected = Problem(model, loss, [((x, padding), y)])
    problem = Problem(model, loss, loader)
    assert problem.value(problem.weights) == pytest.approx(expected.value(expected.weights))
    counts, _ = problem.rayleigh_by_group(problem.weights, problem.weights[None], groups=4)
    assert counts.tolist() == [2, 1, 2, 1, 2]


def test_outputs_in_which_nothing_is_found():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return {"scores": self.layer(x)}

    x, y = draws(ROWS, 4).float(), torch.arange(ROWS) % 3
    with pytest.raises(InputError, match="the model returns dict, in which no tensor of outputs is found"):
        Problem(Odd(), loss_by_name("cross_entropy"), [(x, y)])

    def own(outputs, targets):
        return F.cross_entropy(outputs["scores"], targets, reduction="sum")

    problem = Problem(Odd(), own, [(x, y)])
    assert problem.value(problem.weights) == pytest.approx(np.log(3), rel=0.5)
    with pytest.raises(InputError, match="it must sum"):
        Problem(Odd(), lambda outputs, targets: F.cross_entropy(outputs["scores"], targets), [(x, y)])


def ctc(outputs, targets):
    lengths = (torch.full((len(targets),), n) for n in (6, 2))
    return F.ctc_loss(outputs.log_softmax(2).transpose(0, 1), targets, *lengths, reduction="sum")


def test_a_loss_without_second_derivatives():
    """CTC has first derivatives only: enough for the empirical Fisher matrix."""
    with seeds.global_stream(0, "ctc"):
        model = Recurrent(nn.LSTM(4, 4, batch_first=True)).double()
    model.forward = lambda x: model.head(model.layer(x)[0])
    x, y = draws(4, 6, 4), torch.tensor([[1, 2], [2, 1], [1, 1], [2, 2]])
    problem = Problem(model, ctc, list(zip(x.split(2), y.split(2), strict=True)))
    w, v = problem.weights, draws(len(problem.weights), name="v")
    gradients = [Problem(model, ctc, [(a[None], b[None])]).gradient(w) for a, b in zip(x, y, strict=True)]
    expected = sum(g * (g @ v) for g in gradients) / 4
    torch.testing.assert_close(problem.fisher(w)(v), expected)
    with pytest.raises(InputError, match="cannot be differentiated twice"):
        problem.ggn(w)(v)


def test_what_was_switched_off_is_noted():
    plain = "plain attention (flash and memory-efficient kernels off)"
    for name, expected in (("encoder_with_padding", plain), ("attention_in_a_tuple", plain), ("gru", "default"),
                           ("norms", "default")):  # fmt: skip
        model, x, y, loss = family(name)
        assert Problem(model, loss, [(x, y)]).conditions()["kernels"] == expected
    lstm = family("lstm")[0]
    assert switched_off(lstm, False, torch.device("cuda")) == "plain recurrent kernels (cuDNN off)"
    assert switched_off(lstm, True, torch.device("cuda")).count(";") == 1


def test_a_data_set_of_tensors_with_two_inputs_is_explained():
    x, y = draws(ROWS, 4), torch.arange(ROWS) % 3
    with pytest.raises(InputError, match=r"batch 0 is not a pair \(inputs, targets\)"):
        Problem(perceptron(), loss_by_name("cross_entropy"), DataLoader(TensorDataset(x, x, y)))
