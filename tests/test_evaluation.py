"""The recorded evaluation against running the model: networks of every kind, policies, layouts, precisions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.batch_norms import with_statistics
from landscape.evaluation.evaluator import Evaluator
from landscape.evaluation.first_layer import OnData
from landscape.evaluation.folding import fold_batch_norm
from landscape.losses import Loss, loss_by_name
from landscape.metrics import metric_by_name
from landscape.models import build_model
from landscape.problem import Problem


class Writes(nn.Module):
    """Operations in place after a convolution, and a batch norm whose input is used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x):
        y = self.conv(x)
        z = F.relu(self.norm(y), inplace=True)
        z += y
        return self.head(z.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.block = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(1))


class Decides(nn.Module):
    """Which branch is taken depends on the data: no list of operations repeats it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.one(x) if float(self.one(x).sum()) > 0 else self.two(x)


SHAPES = {"images": (3, 16, 16), "square": (8, 8), "sequence": (5, 8)}
NETWORKS = {
    "mlp": (lambda: build_model("mlp", (("widths", "32,32"),), (8, 8), 10), "square"),
    "batch-norm mlp": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20, bias=False), nn.BatchNorm1d(20), nn.ReLU(),
                              nn.Linear(20, 10), nn.BatchNorm1d(10, affine=False)), "square"),
    "resnet": (lambda: build_model("resnet20", (), (3, 16, 16), 10), "images"),
    "cnn": (lambda: build_model("cnn", (), (3, 16, 16), 10), "images"),
    "writes in place": (Writes, "images"),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2),
                              nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)), "images"),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.GELU(), nn.Flatten(), nn.LazyLinear(10)),
        "images"),
    "recurrent": (Recurrent, "sequence"),
    "attention": (Attention, "sequence"),
    "decides": (Decides, "square"),
}  # fmt: skip


def _problem(name: str, dtype: torch.dtype = torch.float32, rows: int = 50, **options) -> Problem:
    torch.manual_seed(0)
    build, kind = NETWORKS[name]
    model = build()
    x, y = torch.randn(rows, *SHAPES[kind]), torch.randint(0, 10, (rows,))
    with torch.no_grad():
        model(x)  # lazy layers, and statistics
    for norm in with_statistics(model):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    batches = list(zip(x.to(dtype).split(16), y.split(16), strict=True))
    return Problem(model.to(dtype).eval(), loss_by_name("cross_entropy"), batches, **options)


def _basis(problem: Problem) -> torch.Tensor:
    torch.manual_seed(1)
    w = problem.weights
    return torch.stack([w, *0.1 * torch.randn(2, len(w), dtype=w.dtype)])


COORDINATES = [(1.0, 0.0, 0.0), (1.0, 0.5, -0.3), (1.0, -2.0, 1.0), (0.5, 0.1, 0.1)]


def _points(basis: torch.Tensor):
    for row in COORDINATES:
        yield torch.tensor(row, dtype=basis.dtype) @ basis, row


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_recording_gives_what_the_model_gives(name: str, dtype: torch.dtype):
    problem = _problem(name, dtype)
    basis = _basis(problem)
    evaluator, buffers = Evaluator(problem, list(basis)), problem.buffers()
    for w, c in _points(basis):
        found, expected = evaluator(w, c, buffers), problem.means(w, buffers)
        assert found[0] == pytest.approx(expected[0], rel=2e-6 if dtype == torch.float32 else 1e-12)
        assert found[1] == expected[1]
    assert evaluator.how.startswith("model run" if name == "decides" else "recorded")


@pytest.mark.parametrize("name", ["batch-norm mlp", "resnet", "writes in place"])
def test_buffers_that_move_are_followed(name: str):
    problem = _problem(name, torch.float64)
    basis = _basis(problem)
    evaluator = Evaluator(problem, list(basis), varying=True)
    for k, (w, c) in enumerate(_points(basis)):
        buffers = {key: b * (1 + 0.3 * k) + 0.1 * k for key, b in problem.buffers().items()}
        assert evaluator(w, c, buffers)[0] == pytest.approx(problem.value(w, buffers), rel=1e-12)
    assert evaluator.how.startswith("recorded")


def test_each_batchs_own_statistics_keep_the_batches():
    problem = _problem("resnet", torch.float64, rows=48, batch_norm="batch")
    basis = _basis(problem)
    evaluator = Evaluator(problem, list(basis))
    for w, c in _points(basis):
        assert evaluator(w, c, {})[0] == pytest.approx(problem.value(w), rel=1e-12)
    assert evaluator.how.startswith("recorded")


def test_what_is_not_finite_is_what_the_model_gives():
    problem = _problem("batch-norm mlp")
    basis = _basis(problem)
    evaluator, buffers = Evaluator(problem, list(basis)), problem.buffers()
    evaluator(basis[0], (1.0, 0.0, 0.0), buffers)
    for c in ((1.0, 1e38, 0.0), (1.0, 1e30, 1e30)):
        w = torch.tensor(c) @ basis
        found, expected = evaluator(w, c, buffers)[0], problem.means(w, buffers)[0]
        assert found == expected or (found != found and expected != expected)


def test_half_precision_is_near_and_said():
    problem = _problem("resnet")
    basis = _basis(problem)
    evaluator, buffers = Evaluator(problem, list(basis), half=True), problem.buffers()
    for w, c in _points(basis):
        assert evaluator(w, c, buffers)[0] == pytest.approx(problem.value(w, buffers), rel=0.03)
    assert "bfloat16" in evaluator.how


def test_metrics_come_from_the_same_pass():
    problem = _problem("mlp", torch.float64)
    basis = _basis(problem)
    names = ("top-3", "entropy", "margin")
    evaluator = Evaluator(problem, list(basis), tuple(metric_by_name(name, 1) for name in names))
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    for w, c in _points(basis):
        outputs = torch.func.functional_call(problem.model, problem.named(w), (x,))
        p = outputs.softmax(1)
        ranks = (outputs > outputs.gather(1, y[:, None])).sum(1)
        other = outputs.masked_fill(F.one_hot(y, 10).bool(), -torch.inf).max(1).values
        margin = outputs.gather(1, y[:, None])[:, 0] - other
        expected = [(ranks < 3).double().mean(), -(p * p.log()).sum(1).mean(), margin.mean()]
        assert evaluator(w, c, {})[2:] == pytest.approx([float(e) for e in expected], rel=1e-10)


def test_ties_and_ignored_targets_count_as_the_model_counts_them():
    """Outputs that are all equal have the first class as the largest; NaN outputs hit nothing or what argmax says."""
    torch.manual_seed(0)
    y = torch.randint(0, 3, (40,))
    y[::7] = -100
    problem = Problem(nn.Linear(4, 3), loss_by_name("cross_entropy"), [(torch.randn(40, 4), y)])
    basis = [problem.weights, torch.zeros_like(problem.weights)]
    evaluator = Evaluator(problem, basis)
    for c in ((1.0, 0.0), (0.0, 0.0), (-3.0, 1.0), (float("nan"), 0.0)):
        w = c[0] * problem.weights
        np.testing.assert_allclose(evaluator(w, c, {}), problem.means(w), rtol=1e-6)
    assert evaluator.how.startswith("recorded")


def test_regression_has_no_accuracy():
    torch.manual_seed(0)
    problem = Problem(nn.Linear(4, 2), loss_by_name("mse"), [(torch.randn(9, 4), torch.randn(9, 2))])
    basis = problem.weights[None]
    found = Evaluator(problem, list(basis))(basis[0], [1.0], {})
    assert found[0] == pytest.approx(problem.value(basis[0]), rel=1e-6)
    assert found[1] != found[1]


def test_a_callers_own_loss_is_recorded_too():
    own = Loss("squares", lambda outputs, targets: outputs.square().sum(), len)
    torch.manual_seed(0)
    problem = Problem(nn.Linear(4, 2), own, [(torch.randn(9, 4), torch.zeros(9))])
    basis = torch.stack([problem.weights, torch.randn(10)])
    evaluator, w = Evaluator(problem, list(basis)), torch.tensor([1.0, 0.7]) @ basis
    assert evaluator(w, [1.0, 0.7], {})[0] == pytest.approx(problem.value(w), rel=1e-5)


def _recorded(problem: Problem):
    evaluator = Evaluator(problem, list(_basis(problem)))
    with torch.no_grad():
        return evaluator._record(problem.weights, problem.buffers(), next(problem.parts(problem.weights)))


def _count(tape, word: str) -> int:
    return sum(word in str(step.function) for step in tape.steps)


@pytest.mark.parametrize(
    ("name", "before", "after"), [("resnet", 19, 0), ("batch-norm mlp", 2, 0), ("writes in place", 1, 1)]
)
def test_batch_norms_are_folded_where_nothing_else_reads_the_layer(name: str, before: int, after: int):
    tape = _recorded(_problem(name))
    assert (_count(tape, "batch_norm"), _count(fold_batch_norm(tape), "batch_norm")) == (before, after)


def test_the_layer_on_the_data_is_formed_once_where_it_sums_many_terms():
    problem = _problem("mlp")
    tape = _recorded(problem)
    layers = OnData(tape, 2, tape.arguments[0])
    assert [layer.terms for layer in layers.layers] == [64]
    shorter = layers.formed_once(tape.arguments[1], list(_basis(problem)), 1e9)
    assert (_count(tape, "addmm"), _count(shorter, "addmm")) == (3, 2)
    assert _count(layers.formed_once(tape.arguments[1], list(_basis(problem)), 10.0), "addmm") == 3


def test_one_vector_may_be_filled_anew_for_every_point():
    for name in ("mlp", "resnet"):
        problem = _problem(name, torch.float64)
        basis = _basis(problem)
        evaluator, buffers, same = Evaluator(problem, list(basis)), problem.buffers(), torch.empty_like(problem.weights)
        for w, c in _points(basis):
            same.copy_(w)
            assert evaluator(same, c, buffers)[0] == pytest.approx(problem.value(w, buffers), rel=1e-12)


@pytest.mark.parametrize("name", ["mlp", "resnet", "cnn", "group norm", "attention"])
def test_points_at_once_give_what_each_alone_gives(name: str):
    problem = _problem(name)
    basis, buffers = _basis(problem), problem.buffers()
    evaluator, alone = Evaluator(problem, list(basis), at_once=3), Evaluator(problem, list(basis))
    points = torch.stack([w for w, _ in _points(basis)])
    evaluator(points[0], COORDINATES[0], buffers)
    assert (evaluator.together, evaluator.how[-16:]) == (3, "3 points at once")
    found = evaluator.several(list(points), COORDINATES, [buffers] * len(points))
    for w, c, row in zip(points, COORDINATES, found, strict=True):
        assert row == pytest.approx(alone(w, c, buffers), rel=3e-6, nan_ok=True)


def test_points_at_once_have_their_own_statistics():
    problem = _problem("batch-norm mlp")
    basis = _basis(problem)
    evaluator = Evaluator(problem, list(basis), varying=True, at_once=2)
    points = torch.stack([w for w, _ in _points(basis)])
    buffers = [problem.recomputed_buffers(w, None) for w in points]
    evaluator(points[0], COORDINATES[0], buffers[0])
    assert evaluator.together == 2, evaluator.how
    found = evaluator.several(list(points), COORDINATES, buffers)
    for w, own, row in zip(points, buffers, found, strict=True):
        assert row == pytest.approx(problem.means(w, own), rel=3e-6)


def test_one_of_several_points_that_is_not_finite_is_given_to_the_model():
    problem = _problem("mlp")
    basis, buffers = _basis(problem), problem.buffers()
    evaluator = Evaluator(problem, list(basis), at_once=2)
    evaluator(basis[0], COORDINATES[0], buffers)
    points = torch.stack([basis[0], torch.full_like(basis[0], 1e38)])
    found = evaluator.several(list(points), [COORDINATES[0], (1e38, 0.0, 0.0)], [buffers] * 2)
    assert found[0] == pytest.approx(problem.means(basis[0], buffers), rel=3e-6)
    assert str(found[1]) == str(problem.means(points[1], buffers))


def test_a_network_that_cannot_be_batched_is_evaluated_alone_and_says_so():
    problem = _problem("transposed")
    basis, buffers = _basis(problem), problem.buffers()
    evaluator = Evaluator(problem, list(basis), varying=True, at_once=4)
    points = torch.stack([w for w, _ in _points(basis)])
    evaluator(points[0], COORDINATES[0], buffers)
    assert evaluator.together == 1
    assert "one point at a time (" in evaluator.how
    found = evaluator.several(list(points), COORDINATES, [buffers] * len(points))
    for w, row in zip(points, found, strict=True):
        assert row == pytest.approx(problem.means(w, buffers), rel=3e-6)
