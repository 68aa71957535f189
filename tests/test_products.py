"""Engines for Hessian products: equal on every family of models, and what they do when memory or torch fails."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.products import engines, several
from landscape.products import product as products
from landscape.products.algebra import MergedNorms
from landscape.products.code import function
from landscape.products.engines import Folded
from landscape.products.simplify import fuse, simplify
from landscape.products.tape import RecordingError, record

EXACT = ("folded", "retained", "recompute")


class Attention(nn.Module):
    """Embedding, masked attention by the kernel of torch, GELU and layer norm; output (B, classes, T)."""

    def __init__(self, width=16, vocabulary=11, tied=False):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.mix(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.after(x))))
        return self.head(x).transpose(1, 2)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class WritesInPlace(nn.Module):
    """Fills a buffer of zeros piece by piece, as many hand-written models do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(8, 3)

    def forward(self, x):
        hidden = torch.zeros(len(x), 8, dtype=x.dtype)
        hidden[:, :4] = torch.tanh(self.first(x))
        hidden[:, 4:] += hidden[:, :4].clone().square()
        hidden.mul_(2.0)
        return self.second(hidden)


class Cubic(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.layer(x) ** 3)


class Bag(nn.Module):
    """The mean of a few embeddings, by torch's EmbeddingBag, which has no second derivative, or by hand."""

    def __init__(self, kernel):
        super().__init__()
        self.embedding, self.head, self.kernel = nn.Embedding(7, 5), nn.Linear(5, 3), kernel

    def forward(self, tokens):
        weight = self.embedding.weight
        mean = F.embedding_bag(tokens, weight, mode="mean") if self.kernel else weight[tokens].mean(1)
        return self.head(torch.tanh(mean))


def convolutional(pool=nn.MaxPool2d):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True), pool(2),
        nn.Conv2d(6, 8, 3, stride=2, groups=2), nn.BatchNorm2d(8, affine=False), nn.SiLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, 3),
    )  # fmt: skip


def family(name, dtype=torch.float64):
    """A Problem of ragged batches for each family of models."""
    torch.manual_seed(3)
    rows, loss = 22, loss_by_name("cross_entropy")
    images, vectors = torch.randn(rows, 3, 9, 9, dtype=dtype), torch.randn(rows, 6, dtype=dtype)
    labels, bags = torch.randint(3, (rows,)), torch.randint(7, (rows, 4))
    cases = {
        "mlp": (nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)), vectors, labels),
        "convolutional": (convolutional(), images, labels),
        "average pool": (convolutional(nn.AvgPool2d), images, labels),
        "group norm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(),
                                     nn.Linear(196, 3)), images, labels),
        "attention": (Attention(), torch.randint(11, (rows, 6)), torch.randint(11, (rows, 6))),
        "tied": (Attention(tied=True), torch.randint(11, (rows, 6)), torch.randint(11, (rows, 6))),
        "encoder": (nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Flatten(),
                                  nn.Linear(24, 3)), torch.randn(rows, 4, 6, dtype=dtype), labels),
        "recurrent": (Recurrent(), torch.randn(rows, 4, 5, dtype=dtype), labels),
        "in place": (WritesInPlace(), vectors, labels),
        "regression": (nn.Sequential(nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, 2)), vectors,
                       torch.randn(rows, 2, dtype=dtype)),
        "linear": (nn.Linear(6, 2), vectors, torch.randn(rows, 2, dtype=dtype)),
        "cubic": (Cubic(), vectors, labels),
        "bag": (Bag(kernel=False), bags, labels),
        "bag kernel": (Bag(kernel=True), bags, labels),
    }  # fmt: skip
    model, x, y = cases[name]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    loss = loss_by_name("mse") if y.is_floating_point() else loss
    return Problem(model.to(dtype), loss, [(x[:9], y[:9]), (x[9:18], y[9:18]), (x[18:], y[18:])])


FAMILIES = ["mlp", "convolutional", "average pool", "group norm", "attention", "tied", "encoder", "recurrent",
            "in place", "regression", "linear", "cubic", "bag"]  # fmt: skip


def with_engine(problem, engine):
    object.__setattr__(problem, "engine", engine)
    return problem


def by_differences(problem, v):
    """∂/∂h ∇f(w + hv) in float64, by a step short enough to keep the kinks of ReLUs and maxima out."""
    w, h = problem.weights, 1e-6 / torch.linalg.vector_norm(v)
    return (problem.gradient(w + h * v) - problem.gradient(w - h * v)) / (2 * h)


@pytest.mark.parametrize("engine", EXACT)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_engine_gives_the_derivative_of_the_gradient(name, engine):
    problem = with_engine(family(name), engine)
    matvec = problem.hessian(problem.weights)
    for seed in range(3):  # the first call records, the others repeat
        torch.manual_seed(seed)
        v = torch.randn_like(problem.weights)
        reference = by_differences(problem, v)
        assert torch.linalg.vector_norm(matvec(v) - reference) <= 1e-6 * torch.linalg.vector_norm(reference)
    assert matvec.chosen.startswith(engine)


@pytest.mark.parametrize("name", FAMILIES)
def test_auto_folds_every_family_and_agrees_in_float32(name):
    problem = family(name, torch.float32)
    matvec, plain = problem.hessian(problem.weights), with_engine(family(name, torch.float32), "recompute")
    v = torch.randn_like(problem.weights)
    reference = plain.hessian(problem.weights)(v)
    assert matvec.chosen == ""
    assert torch.linalg.vector_norm(matvec(v) - reference) < 1e-4 * reference.norm()
    assert torch.linalg.vector_norm(matvec(v) - reference) < 1e-4 * reference.norm()
    assert matvec.chosen.startswith("folded")


@pytest.mark.parametrize(("batches", "many"), [(1, False), (1, True), (3, False), (3, True)])
def test_double_backward_takes_the_first_product_of_the_first_batch_alone(batches, many, monkeypatch):
    """It checks the recording, for which it needs the first batch alone where several products are wanted for sure."""
    inputs, targets = next(iter(family("mlp").batches))
    model = family("mlp").model.requires_grad_(True)
    problem = Problem(
        model, loss_by_name("cross_entropy"), [(inputs[i::batches], targets[i::batches]) for i in range(batches)]
    )
    matvec, taken = problem.hessian(problem.weights, many), []
    plain = matvec._plain
    monkeypatch.setattr(matvec, "_plain", lambda batch, v: taken.append(len(batch[1])) or plain(batch, v))
    recorded = []
    for v in torch.randn(3, len(problem.weights), dtype=torch.float64):
        reference = by_differences(problem, v)
        assert torch.linalg.vector_norm(matvec(v) - reference) <= 1e-6 * torch.linalg.vector_norm(reference)
        recorded.append(matvec.chosen.startswith("folded"))
    assert len(taken) == (1 if many else batches)
    assert recorded == [many and batches > 1, True, True]


@pytest.mark.parametrize("way", [0, -1])
@pytest.mark.parametrize(("name", "last"), [*((name, False) for name in FAMILIES), ("convolutional", True)])
def test_several_vectors_at_once_give_the_same(name, last, way, monkeypatch):
    """From recordings of forward over reverse, and of double backward, which writes in place; in both layouts.

    The layout is given: with channels last, group norms have no forward mode, and `auto` goes by time.
    """
    monkeypatch.setattr(products, "channels_last_is_faster", lambda *_: last)
    problem = family(name)
    matvec, rows = problem.hessian(problem.weights), torch.randn(5, len(problem.weights), dtype=torch.float64)
    matvec.terms = replace(matvec.terms, recordable=(matvec.terms.recordable[way],))
    expected = torch.stack([matvec(v) for v in rows])
    parts = [part for part in matvec._ready if isinstance(part, Folded)]
    with torch.no_grad(), several._without_fallbacks():
        found = sum(several.at_once(part, rows)(rows) for part in parts) / problem.size
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("worth", [0.0, math.inf])
def test_rows_go_together_where_that_is_faster(worth, monkeypatch):
    monkeypatch.setattr(several, "_WORTH", worth)
    monkeypatch.setattr(products, "_QUICK", math.inf)
    problem = family("mlp")
    matvec, rows = problem.hessian(problem.weights), torch.randn(11, len(problem.weights), dtype=torch.float64)
    one = problem.hessian(problem.weights)
    for _ in range(4):
        torch.testing.assert_close(matvec.rows(rows), torch.stack([one(v) for v in rows]), rtol=1e-10, atol=1e-14)
    assert matvec.group == several.AT_ONCE
    assert [kept.at_once for kept in matvec._several.values()] == [worth > 0] * 2
    assert ("at once" in matvec.chosen) == (worth > 0)


def test_rows_that_cannot_go_together_go_one_by_one(monkeypatch):
    monkeypatch.setattr(products, "_QUICK", math.inf)
    monkeypatch.setattr(several, "at_once", lambda part, rows: torch.ones(3) @ torch.ones(4))
    problem = family("mlp")
    matvec, rows = problem.hessian(problem.weights), torch.randn(3, len(problem.weights), dtype=torch.float64)
    for _ in range(4):
        images = matvec.rows(rows)
    torch.testing.assert_close(images, torch.stack([matvec(v) for v in rows]), rtol=1e-12, atol=1e-14)
    assert not matvec._several[3].at_once


@pytest.mark.parametrize("engine", ["recompute", "retained", "differences"])
def test_rows_of_engines_without_a_recording(engine):
    problem = with_engine(family("mlp"), engine)
    matvec, rows = problem.hessian(problem.weights), torch.randn(3, len(problem.weights), dtype=torch.float64)
    for _ in range(3):
        torch.testing.assert_close(matvec.rows(rows), torch.stack([matvec(v) for v in rows]), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_compiled_products_share_code_between_weights():
    problem = with_engine(family("attention"), "compiled")
    for w in (problem.weights, problem.weights * 1.1):
        v = torch.randn_like(w)
        matvec = problem.hessian(w)
        for _ in range(2):
            matvec(v)
        expected = with_engine(family("attention"), "recompute").hessian(w)(v)
        torch.testing.assert_close(matvec(v), expected, rtol=1e-9, atol=1e-12)
    assert len(problem._compiler._made) == 1


@pytest.mark.parametrize("worth", [0.0, math.inf])
def test_compiling_is_tried_after_a_while_and_kept_where_it_is_faster(worth, monkeypatch):
    monkeypatch.setattr(engines, "_WORTH", worth)
    problem = family("attention")
    v, matvec = torch.randn_like(problem.weights), problem.hessian(problem.weights)
    expected = matvec(v)
    for _ in range(3):
        matvec(v)
    assert problem._compiler.pays is None
    monkeypatch.setattr(products, "_PATIENCE_ELSEWHERE", 0.0)
    torch.testing.assert_close(matvec(v), expected, rtol=1e-10, atol=1e-13)
    assert problem._compiler.pays is (worth > 0)
    assert matvec.chosen.startswith("compiled" if worth else "folded")
    torch.testing.assert_close(matvec(v), expected, rtol=1e-10, atol=1e-13)
    elsewhere, w = problem.hessian(problem.weights * 1.1), problem.weights * 1.1
    for _ in range(3):
        found = elsewhere(v)
    torch.testing.assert_close(
        found, with_engine(family("attention"), "recompute").hessian(w)(v), rtol=1e-9, atol=1e-12
    )
    assert elsewhere.chosen.startswith("compiled" if worth else "folded")
    assert len(problem._compiler._made) == 1


def test_what_does_not_compile_stays_folded(monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(products, "_PATIENCE_ELSEWHERE", 0.0)
    problem = family("mlp")
    matvec, v = problem.hessian(problem.weights), torch.randn_like(problem.weights)
    expected = matvec(v)
    for _ in range(3):
        torch.testing.assert_close(matvec(v), expected, rtol=1e-10, atol=1e-13)
    assert problem._compiler.pays is False
    assert matvec.chosen.startswith("folded")
    problem._compiler.pays = True  # as after a trial with other shapes
    matvec = problem.hessian(problem.weights)
    for _ in range(3):
        torch.testing.assert_close(matvec(v), expected, rtol=1e-10, atol=1e-13)


def test_a_model_without_second_derivative_goes_to_differences_and_says_how_good_they_are():
    exact, once = family("bag"), family("bag kernel")
    matvec = once.hessian(once.weights)
    v = torch.randn_like(once.weights)
    found, expected = matvec(v), exact.hessian(once.weights)(v)
    assert matvec.chosen.startswith("differences")
    assert matvec.error is not None
    assert (found - expected).norm() <= max(10 * matvec.error, 1e-9) * expected.norm()
    assert matvec.error < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_report_an_error_of_the_right_size_with_kinks(dtype):
    problem = with_engine(family("mlp", dtype), "differences")
    matvec, v = problem.hessian(problem.weights), torch.randn_like(problem.weights)
    expected = with_engine(family("mlp", dtype), "recompute").hessian(problem.weights)(v)
    found = matvec(v)
    assert (found - expected).norm() <= max(10 * matvec.error, 1e-4) * expected.norm()


def test_what_does_not_fit_into_the_budget_is_recomputed(monkeypatch):
    problem = family("convolutional")
    v = torch.randn_like(problem.weights)
    expected = problem.hessian(problem.weights)(v)
    monkeypatch.setattr(products, "_COMFORT", 0)
    everything = problem.hessian(problem.weights)
    for _ in range(2):
        everything(v)
    monkeypatch.setattr(products, "available_bytes", lambda device: everything.kept_bytes)  # half of it is used
    matvec = problem.hessian(problem.weights)
    for _ in range(2):
        torch.testing.assert_close(matvec(v), expected, rtol=1e-10, atol=1e-14)
    assert "1 batch in" in matvec.chosen
    assert "2 batches recomputed" in matvec.chosen


@pytest.mark.parametrize("engine", ["auto", "recompute"])
def test_batches_that_do_not_fit_are_halved_until_they_do(engine, monkeypatch):
    problem = with_engine(family("mlp"), engine)
    v = torch.randn_like(problem.weights)
    expected = problem.hessian(problem.weights)(v)
    inner = problem._total

    def limited(most):
        def total(w, batch):
            if len(batch[1]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inner(w, batch)

        object.__setattr__(problem, "_total", total)

    limited(3)
    matvec = problem.hessian(problem.weights)
    for _ in range(2):
        torch.testing.assert_close(matvec(v), expected, rtol=1e-10, atol=1e-14)
    limited(0)
    with pytest.raises(InputError, match="one example does not fit"):
        problem.hessian(problem.weights)(v)


def test_small_batches_are_joined_and_batch_statistics_are_not():
    problem = family("mlp")
    matvec = problem.hessian(problem.weights)
    for _ in range(2):
        matvec(torch.ones_like(problem.weights))
    assert matvec.chosen.startswith("folded, 1 batch ")
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.randint(3, (12,))
    normed = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    problem = Problem(normed, loss_by_name("cross_entropy"), [(x[:6], y[:6]), (x[6:], y[6:])], batch_norm="batch")
    matvec, v = problem.hessian(problem.weights), torch.randn_like(problem.weights)
    for _ in range(2):
        assert (matvec(v) - by_differences(problem, v)).norm() < 1e-6 * matvec(v).norm()
    assert matvec.chosen.startswith("folded, 2 batches ")


def test_unknown_engine_is_refused():
    with pytest.raises(InputError, match=r"engine = 'fast' .*auto, folded"):
        Problem(nn.Linear(2, 1), loss_by_name("mse"), [(torch.ones(2, 2), torch.ones(2, 1))], engine="fast")


# -- tapes ---------------------------------------------------------------------------------------------


def test_a_tape_keeps_only_what_depends_on_the_argument():
    A, calls = torch.randn(5, 5, dtype=torch.float64), []

    def linear(v):
        calls.append(1)
        B = (A @ A.T).exp().sin()  # constant: three steps that the tape need not repeat
        out = torch.zeros(5, dtype=torch.float64)
        out += B @ v
        out[1:3].add_(v[:2], alpha=2)
        return out.mul(3.0) + torch.zeros_like(v) * v

    v, u = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    tape, first = record(linear, v)
    expected = linear(u)
    for shorter in (tape, simplify(tape), fuse(simplify(tape))):
        run = function(shorter)
        for _ in range(2):
            torch.testing.assert_close(run(u), expected)
        torch.testing.assert_close(run(v), first)
    assert len(calls) == 2
    names = {str(step.function) for step in simplify(tape).steps}
    assert "aten.sin.default" not in names
    assert "aten.exp.default" not in names


@pytest.mark.parametrize(
    ("function_of_v", "reason"),
    [
        (lambda v: v * (2.0 if v.sum().item() > 0 else 1.0), "decision"),
        (lambda v: torch.nn.functional.dropout(v, 0.5, training=True), "random"),
        (lambda v: torch.ones(3), "does not depend"),
    ],
)
def test_what_cannot_be_repeated_is_refused(function_of_v, reason):
    with pytest.raises(RecordingError, match=reason):
        record(function_of_v, torch.ones(3))


def test_a_constant_that_changes_after_its_use_is_refused():
    def product(v):
        c = torch.ones(3)
        out = c * v
        c.add_(1)
        return out

    with pytest.raises(RecordingError, match="changes after its use"):
        record(product, torch.ones(3))


def test_merged_layer_norm_is_the_same_function():
    torch.manual_seed(0)
    norm, first, second = nn.LayerNorm(5).double(), nn.Linear(5, 4).double(), nn.Linear(5, 3, bias=False).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    h = norm(x)
    expected = first(h), second(h), h + x
    with MergedNorms():
        h = norm(x)
        torch.testing.assert_close((first(h), second(h), h + x), expected)
        torch.testing.assert_close(F.layer_norm(x, (6, 5)), nn.LayerNorm((6, 5), elementwise_affine=False)(x))


def test_merged_batch_norm_is_the_same_function_and_leaves_others_alone():
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(4).eval().double(), nn.Conv2d(2, 4, 3).double()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, 2, 7, 7, dtype=torch.float64)
    h = conv(x)
    expected = norm(h) + h
    with MergedNorms():
        h = conv(x)
        torch.testing.assert_close(norm(h) + h, expected)
        torch.testing.assert_close(
            norm(h + 1), norm(h) + norm.weight.div((norm.running_var + 1e-5).sqrt())[:, None, None]
        )
        norm.train()
        assert not torch.allclose(norm(h), norm.eval()(h))
