"""Gauss-Newton and Fisher matrices against dense ones, built from Jacobians that `torch.func.jacrev` takes."""

import copy

import numpy as np
import pytest
import torch
from problems import network
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from landscape import hessian, seeds
from landscape.curvature import OPERATORS
from landscape.errors import InputError
from landscape.kernels import twice_differentiable
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import HessianSpec


def draws(*shape, name="x"):
    like = torch.empty(int(np.prod(shape)), dtype=torch.float64)
    return seeds.gaussian(seeds.stream(0, "curvature", name), 1, like).view(shape)


def built(build, name="model"):
    with seeds.global_stream(0, "curvature", name):
        return build().double().eval()


class Tied(nn.Module):
    """Tokens in, logits (B, C, T) out; the embedding is also the output layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.mix = nn.Embedding(7, 5), nn.Linear(5, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(torch.tanh(self.mix(x) + x.cumsum(1))).transpose(1, 2)


class Last(nn.Module):
    """Classes on the last axis, as language models have them."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, tokens):
        return self.body(tokens).transpose(1, 2)


def tokens():
    return (draws(6, 4, name="tokens") * 10).abs().long() % 7


def padded():
    targets = (draws(6, 4, name="targets") * 10).abs().long() % 7
    targets[1, 2:] = targets[4] = -100
    return targets


def classes(rows=12, count=3):
    return torch.arange(rows) % count


def regression():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def classifier():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def log_probabilities():
    return nn.Sequential(classifier(), nn.LogSoftmax(1))


def huber(outputs, targets):
    return F.huber_loss(outputs, targets, reduction="sum", delta=0.7)


def labels():
    return (draws(12, 3, name="labels") > 0).double()


CASES = {
    "mlp": lambda: from_network("mlp"),
    "cnn_with_batch_norm": lambda: from_network("cnn_with_batch_norm"),
    "transformer": lambda: from_network("transformer"),
    "lstm": lambda: from_network("lstm"),
    "smoothed": lambda: (built(classifier), draws(12, 4), classes(), loss_by_name("cross_entropy", 0.2)),
    "log_softmax": lambda: (built(log_probabilities), draws(12, 4), classes(), loss_by_name("nll")),
    "regression": lambda: (built(regression), draws(12, 4), draws(12, 3, name="y"), loss_by_name("mse")),
    "square": lambda: (built(classifier), draws(12, 4), classes(), loss_by_name("square")),
    "multi_label": lambda: (built(regression), draws(12, 4), labels(), loss_by_name("bce")),
    "tied_and_padded": lambda: (built(Tied), tokens(), padded(), loss_by_name("cross_entropy", 0.1)),
    "tokens": lambda: (built(lambda: Last(Tied())), tokens(), padded(), loss_by_name("token_cross_entropy")),
    "causal": lambda: (built(lambda: Last(Tied())), tokens(), padded(), loss_by_name("causal_lm")),
    "own_loss": lambda: (built(regression), draws(12, 4), draws(12, 3, name="y"), huber),
}


def from_network(name):
    case = network(name)
    return copy.deepcopy(case.model), case.inputs[:12], case.targets[:12], case.loss


def posed(name, batch_size=5):
    model, x, y, loss = CASES[name]()
    return Problem(model, loss, list(zip(x.split(batch_size), y.split(batch_size), strict=True)))


def dense(matvec, problem):
    return torch.stack([matvec(e) for e in torch.eye(len(problem.weights), dtype=torch.float64)], 1)


def jacobian(name, problem):
    """The outputs and their Jacobian (outputs, n) over all data, by reverse mode."""
    model, x, _, _ = CASES[name]()

    def outputs(w):
        return functional_call(model, problem.named(w), (x,))

    with twice_differentiable(model):
        return outputs(problem.weights), jacrev(outputs)(problem.weights).flatten(0, -2)


def rows_of_terms(name):
    """The targets, and for each term of the loss a function of all outputs that gives it alone."""
    _, _, y, loss = CASES[name]()
    total = loss if not hasattr(loss, "total") else loss.total
    if name in ("tied_and_padded", "tokens", "causal"):
        single = []
        for index in (y != -100).nonzero():
            if name == "causal" and index[1] == 0:
                continue
            alone = torch.full_like(y, -100)
            alone[tuple(index)] = y[tuple(index)]
            single.append(lambda o, alone=alone: total(o, alone))
        return single
    return [lambda o, i=i: total(o[i : i + 1], y[i : i + 1]) for i in range(len(y))]


def dense_gauss_newton(name, problem):
    """Jᵀ H_L J / N with H_L differentiated from the loss itself, all outputs at once."""
    o, J = jacobian(name, problem)
    _, _, y, loss = CASES[name]()
    if name == "log_softmax":  # the same function as cross-entropy of log-probabilities, which has a curvature
        loss = loss_by_name("cross_entropy")
    H = torch.autograd.functional.hessian(lambda flat: loss(flat.view(o.shape), y), o.detach().reshape(-1))
    return J.T @ H @ J / problem.size


def dense_fisher(name, problem):
    o, J = jacobian(name, problem)
    G = torch.stack([jacrev(term)(o.detach()).reshape(-1) @ J for term in rows_of_terms(name)])
    return G.T @ G / problem.size


def probes(problem):
    """Unit vectors where they are few, else some random ones, as columns."""
    n = len(problem.weights)
    return torch.eye(n, dtype=torch.float64) if n < 80 else draws(n, 8, name="probes") / n**0.5


@pytest.mark.parametrize("name", CASES)
def test_gauss_newton_against_a_dense_one(name):
    problem = posed(name)
    V, ggn = probes(problem), problem.ggn(problem.weights)
    products = torch.stack([ggn(v) for v in V.T], 1)
    torch.testing.assert_close(products, dense_gauss_newton(name, problem) @ V, rtol=1e-9, atol=1e-11)
    gram = V.T @ products
    torch.testing.assert_close(gram, gram.T, rtol=0, atol=1e-13 * gram.abs().max().item())
    assert torch.linalg.eigvalsh(gram).min() > -1e-13 * gram.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_empirical_fisher_against_single_gradients(name):
    problem = posed(name)
    V, fisher = probes(problem), problem.fisher(problem.weights)
    products = torch.stack([fisher(v) for v in V.T], 1)
    torch.testing.assert_close(products, dense_fisher(name, problem) @ V, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["smoothed", "log_softmax", "regression", "square", "multi_label",
                                  "tied_and_padded", "tokens", "causal"])  # fmt: skip
def test_the_sampled_fisher_is_gauss_newton_in_the_mean(name):
    problem = posed(name, batch_size=12)
    w = problem.weights
    v = draws(len(w), name="v")
    v /= v.norm()
    expected = v @ problem.ggn(w)(v)
    quotients = torch.stack([v @ problem.fisher(w, "sampled", seed)(v) for seed in range(100)])
    error = quotients.std() / 100**0.5
    assert (quotients.mean() - expected).abs() < 4 * error
    assert error < 0.15 * expected


def test_the_sampled_fisher_is_one_matrix_per_seed():
    problem = posed("smoothed")
    w = problem.weights
    first, again, other = (dense(problem.fisher(w, "sampled", seed), problem) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    torch.testing.assert_close(first, first.T)
    assert torch.linalg.eigvalsh(first).min() > -1e-12
    single = problem.double().fisher(w.double(), "sampled", 1)
    torch.testing.assert_close(dense(single, problem), first)


@pytest.mark.parametrize("name", ["smoothed", "regression", "multi_label"])
def test_a_linear_model_has_no_curvature_of_its_own(name):
    _, x, y, loss = CASES[name]()
    problem = Problem(built(lambda: nn.Linear(4, 3)), loss, [(x[:7], y[:7]), (x[7:], y[7:])])
    w = problem.weights
    torch.testing.assert_close(dense(problem.ggn(w), problem), dense(problem.hessian(w), problem))


def test_batch_statistics_are_those_of_the_whole_batch():
    model, x, y, loss = CASES["cnn_with_batch_norm"]()
    problem = Problem(model, loss, [(x[:7], y[:7]), (x[7:], y[7:])], batch_norm="batch")
    expected = torch.zeros(())
    for part in ((x[:7], y[:7]), (x[7:], y[7:])):
        train = copy.deepcopy(model).train()

        def outputs(w, train=train, part=part):
            return functional_call(train, problem.named(w), (part[0],))

        J = torch.autograd.functional.jacobian(outputs, problem.weights).flatten(0, 1)
        p = outputs(problem.weights).softmax(1).detach()
        H = torch.block_diag(*(torch.diag(row) - torch.outer(row, row) for row in p))
        expected = expected + J.T @ H @ J / 12
    torch.testing.assert_close(dense(problem.ggn(problem.weights), problem), expected)


class Square(torch.autograd.Function):
    """x² without a forward-mode derivative."""

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


class Squared(nn.Module):
    def __init__(self, square):
        super().__init__()
        self.layer, self.square = nn.Linear(4, 3), square

    def forward(self, x):
        return self.square(self.layer(x))


def test_operations_without_forward_mode():
    x, y, loss = draws(12, 4), classes(), loss_by_name("cross_entropy")
    ours, plain = (Problem(built(lambda f=f: Squared(f)), loss, [(x, y)]) for f in (Square.apply, torch.square))
    torch.testing.assert_close(dense(ours.ggn(ours.weights), ours), dense(plain.ggn(plain.weights), plain))


class Pair(nn.Module):
    """A tuple of outputs, one of them not a number to differentiate."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x).tanh()
        return {"left": y[:, :2], "right": y[:, 2:], "index": y.argmax(1)}


def test_a_loss_of_several_outputs():
    x = draws(6, 4)

    def loss(outputs, targets):
        return (outputs["left"] * outputs["right"]).square().sum() + outputs["left"].exp().sum()

    problem = Problem(built(Pair), loss, [(x, x)])
    w = problem.weights

    def outputs(w):
        return functional_call(problem.model, problem.named(w), (x,))

    J = jacrev(lambda w: torch.cat([outputs(w)["left"], outputs(w)["right"]], 1).reshape(-1))(w)
    o = torch.cat([outputs(w)["left"], outputs(w)["right"]], 1).reshape(-1)
    H = torch.autograd.functional.hessian(
        lambda flat: loss({"left": flat.view(6, 4)[:, :2], "right": flat.view(6, 4)[:, 2:]}, None), o
    )
    torch.testing.assert_close(dense(problem.ggn(w), problem), J.T @ H @ J / 6)


def test_large_outputs_are_taken_in_parts(monkeypatch):
    problem = posed("tokens")
    whole = dense(problem.ggn(problem.weights), problem)
    monkeypatch.setattr("landscape.problem.OUTPUT_BYTES", 2 * 4 * 7 * 8)
    assert [len(part[1]) for part in problem.terms("ggn", problem.weights)[1]()] == [2, 2, 1, 1]
    torch.testing.assert_close(dense(problem.ggn(problem.weights), problem), whole)


# -- as measurements -------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS)
def test_eigenvalues_of_each_operator(operator):
    problem = posed("smoothed")
    w = problem.weights
    A = dense(problem.operator(operator, w, seed=3), problem)
    result = hessian.measure(problem, HessianSpec(count=3, operator=operator, tolerance=1e-8, seed=3, vectors=True))
    np.testing.assert_allclose(result.eigenvalues, torch.linalg.eigvalsh(A).flip(0)[:3].numpy(), rtol=1e-7)
    assert result.conditions["operator"] == operator
    assert result.converged.all()
    V = torch.from_numpy(result.vectors)
    counts, quotients = problem.rayleigh_by_group(w, V, 4, operator, seed=3)
    torch.testing.assert_close(quotients @ counts / counts.sum(), torch.from_numpy(result.eigenvalues.copy()))
    assert (result.sampling_errors > 0).all()


def test_the_matrix_is_named_and_only_the_hessian_is_verified():
    from click.testing import CliRunner

    from landscape_cli.grids import grid
    from landscape_cli.main import landscape

    result = hessian.measure(posed("regression"), HessianSpec(count=1, operator="fisher-empirical"))
    assert "Empirical Fisher eigenvalues (largest)" in grid(result).title
    told = CliRunner().invoke(landscape, ["hessian", "none.pt", "--operator", "ggn", "--verify", "pyhessian"])
    assert told.exit_code == 2
    assert "--operator = 'ggn' is not legal: it must be hessian with --verify" in told.stderr


def test_what_cannot_be_formed_is_refused():
    problem = posed("own_loss")
    with pytest.raises(InputError, match="no predictive distribution"):
        problem.fisher(problem.weights, "sampled")
    with pytest.raises(InputError, match="operator = 'fisher-exact' is not legal"):
        problem.fisher(problem.weights, "exact")
    with pytest.raises(InputError, match="operator"):
        HessianSpec(operator="gauss")
    x, y = draws(3, 5, 4), torch.tensor([[1, 2], [2, 1], [1, 1]])

    def ctc(outputs, targets):
        lengths = (torch.full((len(targets),), n) for n in (5, 2))
        return F.ctc_loss(outputs.log_softmax(2).transpose(0, 1), targets, *lengths, reduction="sum")

    problem = Problem(built(lambda: nn.Linear(4, 3)), ctc, [(x[:2], y[:2]), (x[2:], y[2:])])
    with pytest.raises(InputError, match="cannot be differentiated twice"):
        problem.ggn(problem.weights)(problem.weights)
