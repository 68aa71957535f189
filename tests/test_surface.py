"""Surfaces against numpy on least squares, torch's own batch norm and update_bn, and scans that are cut short."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from landscape.errors import InputError
from landscape.losses import Loss, loss_by_name
from landscape.problem import Problem
from landscape.results import SurfaceResult, load, save
from landscape.spec import AxesSpec, LineSpec, PlaneSpec
from landscape.surface import Point, measure
from landscape.surface_axes import axes_slice

pytestmark = pytest.mark.filterwarnings("ignore:batch norm with")

GRIDS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def _same_arrays(a: SurfaceResult, b: SurfaceResult) -> None:
    for name in (*GRIDS, "x", "y", "marks", "done", "extra", "interpolated"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)


# -- least squares, where numpy knows every value -----------------------------------------------------


class LeastSquares:
    """Mean of (X w + b − t)² with batches of unequal length, and the same in numpy."""

    def __init__(self, seed: int, rows: int = 11, dtype: torch.dtype = torch.float64):
        rng = np.random.default_rng(seed)
        self.X, self.t = rng.normal(size=(rows, 4)), rng.normal(size=rows)
        inputs, targets = torch.tensor(self.X, dtype=dtype), torch.tensor(self.t, dtype=dtype)[:, None]
        batches = [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])]
        self.problem = Problem(nn.Linear(4, 1).to(dtype), loss_by_name("mse"), batches)

    def value(self, w: np.ndarray) -> float:
        return float(np.mean((self.X @ w[:4] + w[4] - self.t) ** 2))


def _weights(seed: int, count: int, size: int = 5) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, size)))


def _points(weights: list[np.ndarray]) -> list[Point]:
    return [Point(name, torch.tensor(w)) for name, w in zip("abc", weights, strict=False)]


@pytest.mark.parametrize("path", ["line", "arc"])
def test_line_and_arc_are_keskars(path: str):
    train, test, (w0, w1) = LeastSquares(0), LeastSquares(1, rows=9), _weights(2, 2)
    found = measure(train.problem, LineSpec(path=path), _points([w0, w1]), test.problem)
    assert len(found.x) == 25
    assert (found.x[0], found.x[-1]) == (-1.0, 2.0)
    angles = found.x * np.pi / 2
    first, second = (np.cos(angles), np.sin(angles)) if path == "arc" else (1 - found.x, found.x)
    points = first[:, None] * w0 + second[:, None] * w1
    np.testing.assert_allclose(found.train_loss, [train.value(w) for w in points], rtol=1e-12)
    np.testing.assert_allclose(found.test_loss, [test.value(w) for w in points], rtol=1e-12)
    assert found.train_accuracy.shape == found.test_accuracy.shape == found.y.shape == (0,)
    assert found.complete
    assert found.evaluations == 50
    np.testing.assert_array_equal(found.marks, [[0], [1]])


@pytest.mark.parametrize("counts", [(7, 12), (12, 7), (2, 3)], ids=str)
def test_plane_cells_are_the_losses_at_their_labels(counts: tuple[int, int]):
    train, weights = LeastSquares(0), _weights(3, 3)
    found = measure(train.problem, PlaneSpec(x_points=counts[0], y_points=counts[1]), _points(weights))
    w0, w1, w2 = weights
    u = (w1 - w0) / np.linalg.norm(w1 - w0)
    v = (w2 - w0) - u * (u @ (w2 - w0))
    v /= np.linalg.norm(v)
    expected = [[train.value(w0 + x * u + y * v) for y in found.y] for x in found.x]
    np.testing.assert_allclose(found.train_loss, expected, rtol=1e-10)
    assert found.train_loss.shape == counts
    assert found.test_loss.shape == (0,)
    for (x, y), w in zip(found.marks, weights, strict=True):
        np.testing.assert_allclose(w0 + x * u + y * v, w, atol=1e-12)


def test_plane_holds_its_minima_and_evaluates_two_of_them():
    train, weights = LeastSquares(0), _weights(3, 3)
    spec = PlaneSpec(x_points=15, y_points=9, margin=0.2)
    found = measure(train.problem, spec, _points(weights))
    low, high = found.marks.min(axis=0), found.marks.max(axis=0)
    for axis, lowest, highest in zip((found.x, found.y), low, high, strict=True):
        assert axis[0] <= lowest - 0.2 * (highest - lowest) + 1e-9
        assert axis[-1] >= highest + 0.2 * (highest - lowest) - 1e-9
    y0 = int(np.flatnonzero(found.y == 0)[0])
    for k in (0, 1):
        x = int(abs(found.x - found.marks[k, 0]).argmin())
        assert found.train_loss[x, y0] == pytest.approx(train.value(weights[k]), rel=1e-12)


@pytest.mark.parametrize("normalisation", ["filter", "none"])
def test_random_plane_is_a_quadratic_bowl_with_its_centre_on_the_grid(normalisation: str):
    """f restricted to a plane of a quadratic has third differences zero along both axes."""
    train, (w,) = LeastSquares(0), _weights(5, 1)
    spec = AxesSpec(points=(9, 5), radius=(0.5,), normalisation=normalisation, biases="random")
    found = measure(train.problem, spec, _points([w]))
    assert found.train_loss.shape == (9, 5)
    assert found.train_loss[4, 2] == pytest.approx(train.value(w), rel=1e-12)
    assert (found.x[0], found.x[-1], found.y[0], found.y[-1]) == (-0.5, 0.5, -0.5, 0.5)
    for axis in (0, 1):
        np.testing.assert_allclose(np.diff(found.train_loss, 3, axis=axis), 0, atol=1e-12)
        assert np.diff(found.train_loss, 2, axis=axis).min() > 1e-6


def test_filter_normalised_directions_have_the_norms_of_the_filters():
    """One output row: both directions are as long as that row, and the bias stays where it is."""
    train, (w,) = LeastSquares(0), _weights(5, 1)
    found = measure(train.problem, AxesSpec(points=(2,)), _points([w]))
    np.testing.assert_allclose(found.conditions["direction_norms"], np.linalg.norm(w[:4]), rtol=1e-9)


def test_the_seed_decides_the_random_plane():
    train, (w,) = LeastSquares(0), _weights(5, 1)
    a, again, b = (
        measure(train.problem, AxesSpec(points=(3,), seed=seed), _points([w])).train_loss for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, again)
    assert abs(a - b)[0, 0] > 1e-6


def test_random_directions_have_zero_mean():
    """The loss Σw is linear, so f(1, 0) − f(0, 0) is the sum of the direction's entries: N(0, n)."""
    n = 40_000
    model = nn.Linear(n, 1, bias=False)
    summed = Loss("sum of weights", lambda outputs, targets: outputs.sum(), len)
    problem = Problem(model, summed, [(torch.ones(1, n), torch.zeros(1))])
    spec = AxesSpec(points=(3,), normalisation="none", biases="random")
    found = measure(problem, spec, [Point("zero", torch.zeros(n))])
    for total in (found.train_loss[2, 1], found.train_loss[1, 2]):
        assert 0 < abs(total) < 5 * n**0.5
        assert abs(total) < 0.05 * n


def test_losses_that_are_not_finite_stay_where_they_are():
    """Σ√w at the points α − 1 is NaN before α = 1; Σ1/w is Inf at it."""
    one = [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1))]
    model = nn.Linear(1, 1, bias=False).double()
    ends = [Point("a", torch.tensor([-1.0], dtype=torch.float64)), Point("b", torch.zeros(1, dtype=torch.float64))]
    spec = LineSpec(start=0.0, stop=2.0, points=5)
    root = measure(Problem(model, Loss("√", lambda o, t: o.sqrt().sum(), len), one), spec, ends)
    np.testing.assert_allclose(root.train_loss, [np.nan, np.nan, 0, 0.5**0.5, 1])
    pole = measure(Problem(model, Loss("1/w", lambda o, t: (1 / o).sum(), len), one), spec, ends)
    np.testing.assert_allclose(pole.train_loss, [-1, -2, np.inf, 2, 1])
    assert root.complete
    assert root.done.all()


# -- networks -----------------------------------------------------------------------------------------


class Classifier:
    """A small network with batch norm, trained a little, with two more sets of weights and buffers."""

    def __init__(self, dtype: torch.dtype = torch.float64, batch_norm: str = "running"):
        rng = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(30, 4, generator=rng, dtype=dtype) * 2 + 1
        self.targets = torch.randint(0, 3, (30,), generator=rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.models = [self.model().to(dtype) for _ in range(3)]
        for model in self.models:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.3 * torch.randn(parameter.shape, generator=rng, dtype=dtype)
                model.train()
                model(self.inputs[torch.randint(0, 30, (9,), generator=rng)])
        batches = [(self.inputs[:12], self.targets[:12]), (self.inputs[12:], self.targets[12:])]
        loss = loss_by_name("cross_entropy")
        self.problem = Problem(self.models[0], loss, batches, batch_norm)
        self.test = Problem(self.models[0], loss, [(self.inputs[5:22], self.targets[5:22])], batch_norm)
        self.points = [
            Point(name, parameters_to_vector(m.parameters()).detach(), self.buffers(m))
            for name, m in zip("abc", self.models, strict=True)
        ]

    @staticmethod
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))

    @staticmethod
    def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
        return {k: b.clone() for k, b in model.named_buffers() if b.is_floating_point()}

    def at(self, w: torch.Tensor) -> nn.Module:
        """A copy of the first model, batch-norm statistics included, with the parameters w."""
        model = copy.deepcopy(self.models[0])
        vector_to_parameters(w, model.parameters())
        return model

    def loss(self, model: nn.Module, rows: slice) -> float:
        with torch.no_grad():
            return nn.functional.cross_entropy(model(self.inputs[rows]), self.targets[rows]).item()


TRAIN, TEST = slice(0, 30), slice(5, 22)


def _on_line(case: Classifier, alpha: float) -> torch.Tensor:
    return (1 - alpha) * case.points[0].weights + alpha * case.points[1].weights


def test_running_statistics_are_those_of_the_first_checkpoint():
    case = Classifier()
    spec = LineSpec(points=7, batch_norm="running")
    found = measure(case.problem, spec, case.points[:2], case.test)
    for k, alpha in enumerate(found.x):
        model = case.at(_on_line(case, alpha)).eval()
        assert found.train_loss[k] == pytest.approx(case.loss(model, TRAIN), rel=1e-10)
        assert found.test_loss[k] == pytest.approx(case.loss(model, TEST), rel=1e-10)
        hits = (model(case.inputs[TEST]).argmax(1) == case.targets[TEST]).double().mean()
        assert found.test_accuracy[k] == pytest.approx(hits.item())
    assert found.conditions["batch_norm"] == "running"
    assert found.conditions["has_batch_norm"] is True


def test_recomputed_statistics_are_those_of_update_bn_on_training_data():
    case = Classifier()
    found = measure(case.problem, LineSpec(points=7, recompute_examples=12), case.points[:2], case.test)
    for k, alpha in enumerate(found.x):
        model = case.at(_on_line(case, alpha))
        torch.optim.swa_utils.update_bn([case.inputs[:12]], model)
        model.eval()
        assert found.train_loss[k] == pytest.approx(case.loss(model, TRAIN), rel=1e-10)
        assert found.test_loss[k] == pytest.approx(case.loss(model, TEST), rel=1e-10)


def test_interpolated_statistics_move_with_the_weights_and_variances_stay_positive():
    case = Classifier()
    found = measure(case.problem, LineSpec(start=-8.0, stop=9.0, points=18, batch_norm="interpolated"), case.points[:2])
    clamped = 0
    for k, alpha in enumerate(found.x):
        model = case.at(_on_line(case, alpha)).eval()
        own = dict(model.named_buffers())
        for name, buffer in case.points[0].buffers.items():
            own[name].copy_((1 - alpha) * buffer + alpha * case.points[1].buffers[name])
        clamped += int((own["1.running_var"] < 0).sum())
        own["1.running_var"].clamp_(min=0)
        assert found.train_loss[k] == pytest.approx(case.loss(model, TRAIN), rel=1e-9)
    assert clamped > 0


@pytest.mark.parametrize("path", ["line", "arc"])
def test_interpolation_ends_are_the_checkpoints_themselves(path: str):
    case = Classifier(torch.float32)
    spec = LineSpec(start=0.0, stop=1.0, points=3, path=path, batch_norm="interpolated")
    found = measure(case.problem, spec, case.points[:2], case.test)
    for k, model in ((0, case.models[0]), (2, case.models[1])):
        assert found.train_loss[k] == pytest.approx(case.loss(model.eval(), TRAIN), rel=1e-6)
        assert found.test_loss[k] == pytest.approx(case.loss(model.eval(), TEST), rel=1e-6)


def test_arc_scales_means_with_weights_so_that_a_first_layer_keeps_its_centre():
    """Both ends equal: at α = 1/2 the weights grow by √2, and so must the mean of the first layer's outputs."""
    case = Classifier()
    point = case.points[0]
    spec = LineSpec(start=0.0, stop=1.0, points=3, path="arc", batch_norm="interpolated")
    found = measure(case.problem, spec, [point, Point("b", point.weights, point.buffers)])
    model = case.at(2**0.5 * point.weights).eval()
    dict(model.named_buffers())["1.running_mean"].mul_(2**0.5)
    assert found.train_loss[1] == pytest.approx(case.loss(model, TRAIN), rel=1e-10)


def test_interpolation_over_a_plane_has_the_barycentric_statistics():
    case = Classifier()
    found = measure(case.problem, PlaneSpec(x_points=9, y_points=8, batch_norm="interpolated"), case.points)
    y0 = int(np.flatnonzero(found.y == 0)[0])
    along = found.x / found.marks[1, 0]
    line = measure(
        case.problem,
        LineSpec(start=float(along[0]), stop=float(along[-1]), points=9, batch_norm="interpolated"),
        case.points[:2],
    )
    np.testing.assert_allclose(found.train_loss[:, y0], line.train_loss, rtol=1e-9)
    swapped = [case.points[k] for k in (0, 2, 1)]
    other = measure(case.problem, PlaneSpec(x_points=9, y_points=8, batch_norm="interpolated"), swapped)
    third = other.train_loss[int(abs(other.x - other.marks[1, 0]).argmin()), int(np.flatnonzero(other.y == 0)[0])]
    assert third == pytest.approx(case.loss(case.models[2].eval(), TRAIN), rel=1e-9)


def test_batch_statistics_are_those_of_each_batch():
    case = Classifier(batch_norm="batch")
    found = measure(case.problem, LineSpec(points=5, batch_norm="batch"), case.points[:2], case.test)
    for k, alpha in enumerate(found.x):
        model = case.at(_on_line(case, alpha)).train()
        parts = [case.loss(model, rows) * count / 30 for rows, count in ((slice(12), 12), (slice(12, 30), 18))]
        assert found.train_loss[k] == pytest.approx(sum(parts), rel=1e-10)
        assert found.test_loss[k] == pytest.approx(case.loss(model, TEST), rel=1e-10)


def test_without_batch_norm_all_policies_agree_and_say_so():
    train, weights = LeastSquares(0), _weights(3, 2)
    results = [
        measure(train.problem, LineSpec(points=3, batch_norm=policy), _points(weights))
        for policy in ("recomputed", "interpolated", "running", "batch")
    ]
    for found in results:
        _same_arrays(found, results[0])
        assert found.conditions["has_batch_norm"] is False
        assert found.conditions["batch_norm"] == "none"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cell_equals_a_direct_evaluation_at_its_coordinates(dtype: torch.dtype):
    case = Classifier(dtype)
    found = measure(case.problem, PlaneSpec(x_points=4, y_points=6, batch_norm="running"), case.points)
    w = [p.weights.double().numpy() for p in case.points]
    q, r = np.linalg.qr(np.stack([w[1] - w[0], w[2] - w[0]], axis=1))
    q *= np.sign(np.diag(r))
    for i, x in enumerate(found.x):
        for j, y in enumerate(found.y):
            direct = case.problem.value(torch.tensor(w[0] + q @ [x, y], dtype=dtype), case.points[0].buffers)
            assert found.train_loss[i, j] == pytest.approx(direct, rel=1e-6)


def test_nothing_of_the_callers_is_touched():
    case = Classifier()
    case.models[0].train()
    case.models[0](case.inputs).sum().backward()
    before = copy.deepcopy(case.models[0].state_dict()), copy.deepcopy(case.points), torch.get_rng_state()
    gradients = [p.grad.clone() for p in case.models[0].parameters()]
    measure(case.problem, PlaneSpec(x_points=3, y_points=3), case.points, case.test)
    measure(case.problem, AxesSpec(points=(3,)), case.points[:1])
    for name, tensor in case.models[0].state_dict().items():
        assert torch.equal(tensor, before[0][name])
    for now, then in zip(case.points, before[1], strict=True):
        assert torch.equal(now.weights, then.weights)
        assert all(torch.equal(now.buffers[k], then.buffers[k]) for k in then.buffers)
    assert torch.equal(torch.get_rng_state(), before[2])
    assert case.models[0].training
    assert all(torch.equal(p.grad, g) for p, g in zip(case.models[0].parameters(), gradients, strict=True))


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "count"), [(LineSpec(), 3), (PlaneSpec(), 2), (AxesSpec(), 2)])
def test_the_number_of_points_is_checked(spec: LineSpec | PlaneSpec | AxesSpec, count: int):
    with pytest.raises(InputError, match="points"):
        measure(LeastSquares(0).problem, spec, _points(_weights(0, count)))


def test_weights_of_another_size_or_not_finite_are_refused():
    train, (w0, w1) = LeastSquares(0), _weights(0, 2)
    with pytest.raises(InputError, match="weights of b"):
        measure(train.problem, LineSpec(), _points([w0, w1[:4]]))
    w1[2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        measure(train.problem, LineSpec(), _points([w0, w1]))


@pytest.mark.parametrize("third", [0.0, 0.3, 1.0])
def test_three_checkpoints_on_a_line_are_refused(third: float):
    w0, w1 = _weights(0, 2)
    with pytest.raises(InputError, match="a, b, c do not span a plane"):
        measure(LeastSquares(0).problem, PlaneSpec(), _points([w0, w1, w0 + third * (w1 - w0)]))


def test_batch_norm_policies_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="batch_norm"):
        measure(Classifier().problem, LineSpec(batch_norm="batch"), Classifier().points[:2])
    case = Classifier(batch_norm="batch")
    with pytest.raises(InputError, match="batch_norm"):
        measure(case.problem, LineSpec(batch_norm="recomputed"), case.points[:2])


@pytest.mark.parametrize("policy", ["running", "interpolated"])
def test_missing_or_foreign_buffers_are_refused(policy: str):
    case, spec = Classifier(), LineSpec(batch_norm=policy)
    bare = [Point(p.label, p.weights) for p in case.points[:2]]
    with pytest.raises(InputError, match="running_mean"):
        measure(case.problem, spec, bare)
    foreign = [Point(p.label, p.weights, {"9.running_mean": torch.zeros(3)}) for p in case.points[:2]]
    with pytest.raises(InputError, match=r"9\.running_mean"):
        measure(case.problem, spec, foreign)


def test_a_last_batch_of_one_example_is_explained():
    case = Classifier()
    batches = [(case.inputs[:12], case.targets[:12]), (case.inputs[12:13], case.targets[12:13])]
    problem = Problem(case.models[0], loss_by_name("cross_entropy"), batches)
    with pytest.raises(InputError, match="batch size"):
        measure(problem, LineSpec(), case.points[:2])


# -- interrupted and resumed --------------------------------------------------------------------------


def _interrupt_at(cell: int):
    def progress(done: int, total: int) -> None:
        if done == cell:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("save_every", [0.0, 1e9])
def test_an_interrupted_scan_goes_on_where_it_was(tmp_path: Path, save_every: float):
    case, spec, path = Classifier(torch.float32), PlaneSpec(x_points=5, y_points=4), tmp_path / "scan"
    whole = measure(case.problem, spec, case.points, case.test)
    for cell in (6, 13):
        with pytest.raises(KeyboardInterrupt):
            measure(case.problem, spec, case.points, case.test, partial=path, progress=_interrupt_at(cell),
                    save_every=save_every)  # fmt: skip
        left = load(path)
        assert isinstance(left, SurfaceResult)
        assert not left.complete
        assert left.done.sum() == cell
        np.testing.assert_array_equal(np.isnan(left.train_loss), ~left.done)
    ticks = []
    found = measure(case.problem, spec, case.points, case.test, partial=path, progress=lambda *t: ticks.append(t))
    assert ticks == [(k, 20) for k in range(14, 21)]
    _same_arrays(found, whole)
    stored = load(path)
    assert isinstance(stored, SurfaceResult)
    _same_arrays(stored, whole)
    assert stored.complete
    assert (stored.evaluations, stored.labels, stored.spec) == (40, whole.labels, spec)


def test_points_at_once_give_the_same_scan_and_go_on_from_a_part_of_it(tmp_path: Path):
    case, path = Classifier(torch.float32), tmp_path / "scan"
    spec = PlaneSpec(x_points=5, y_points=4, at_once=3)
    whole = measure(case.problem, spec, case.points, case.test)
    assert "3 points at once" in whole.evaluation
    one = measure(case.problem, replace(spec, at_once=1), case.points, case.test)
    assert "at once" not in one.evaluation
    np.testing.assert_allclose(whole.train_loss, one.train_loss, rtol=3e-6)
    np.testing.assert_allclose(whole.test_loss, one.test_loss, rtol=3e-6)
    np.testing.assert_array_equal(whole.test_accuracy, one.test_accuracy)
    with pytest.raises(KeyboardInterrupt):
        measure(case.problem, spec, case.points, case.test, partial=path, progress=_interrupt_at(9))
    ticks = []
    found = measure(case.problem, spec, case.points, case.test, partial=path, progress=lambda *t: ticks.append(t[0]))
    assert ticks == [12, 15, 18, 20]
    _same_arrays(found, whole)


def test_a_cell_that_was_nan_is_not_taken_for_one_never_evaluated(tmp_path: Path):
    calls = []

    def root(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return outputs.sqrt().sum()

    model, one = nn.Linear(1, 1, bias=False), [(torch.ones(1, 1), torch.zeros(1))]
    problem = Problem(model, Loss("√", root, len), one)
    ends = [Point("a", torch.tensor([-1.0])), Point("b", torch.tensor([0.0]))]
    spec = LineSpec(start=0.0, stop=2.0, points=5)
    with pytest.raises(KeyboardInterrupt):
        measure(problem, spec, ends, partial=tmp_path / "scan", progress=_interrupt_at(2))
    left = load(tmp_path / "scan")
    assert isinstance(left, SurfaceResult)
    assert np.isnan(left.train_loss).all()
    np.testing.assert_array_equal(left.done, [True, True, False, False, False])
    calls.clear()
    found = measure(problem, spec, ends, partial=tmp_path / "scan")
    assert len(calls) == 3 + 1  # the rest, and the check at the first checkpoint
    np.testing.assert_array_equal(np.isnan(found.train_loss), [True, True, False, False, False])


def _other_scans() -> dict[str, tuple]:
    train, weights = LeastSquares(0), _weights(3, 2)
    same = LineSpec(points=4)
    other_data, single = LeastSquares(8), LeastSquares(0, dtype=torch.float32)
    return {
        "points: 4 in the file, 5 now": (train.problem, LineSpec(points=5), _points(weights)),
        "stop: None in the file, 2.0000001 now": (train.problem, LineSpec(points=4, stop=2.0000001), _points(weights)),
        "batch_norm": (train.problem, LineSpec(points=4, batch_norm="running"), _points(weights)),
        "points_sha256": (train.problem, same, _points([weights[0], weights[1] * (1 + 1e-15)])),
        "labels": (train.problem, same, [Point("z", p.weights) for p in _points(weights)]),
        "first_train_loss": (other_data.problem, same, _points(weights)),
        "examples: 11 in the file, 12 now": (LeastSquares(0, rows=12).problem, same, _points(weights)),
        "dtype: float64 in the file, float32 now": (single.problem, same, _points(weights)),
        "test_examples": (train.problem, same, _points(weights), other_data.problem),
    }  # fmt: skip


@pytest.mark.parametrize("difference", _other_scans())
def test_another_scan_is_not_continued(tmp_path: Path, difference: str):
    path, weights = tmp_path / "scan", _weights(3, 2)
    with pytest.raises(KeyboardInterrupt):
        measure(LeastSquares(0).problem, LineSpec(points=4), _points(weights), partial=path, progress=_interrupt_at(2))
    content = path.read_bytes()
    with pytest.raises(InputError, match=difference.replace(".", r"\.")):
        measure(*_other_scans()[difference], partial=path)
    assert path.read_bytes() == content
    found = measure(*_other_scans()[difference], partial=path, overwrite=True)
    _same_arrays(found, measure(*_other_scans()[difference]))


def test_other_files_are_left_alone(tmp_path: Path):
    train, points = LeastSquares(0), _points(_weights(3, 2))
    (tmp_path / "notes").write_text("not a result")
    for path in (tmp_path / "notes", tmp_path):
        with pytest.raises(InputError):
            measure(train.problem, LineSpec(), points, partial=path)
    assert (tmp_path / "notes").read_text() == "not a result"


def test_a_finished_scan_is_given_back(tmp_path: Path):
    train, points = LeastSquares(0), _points(_weights(3, 2))
    whole = measure(train.problem, LineSpec(), points)
    save(whole, tmp_path / "scan", checkpoint="a")
    ticks = []
    found = measure(train.problem, LineSpec(), points, partial=tmp_path / "scan", progress=lambda *t: ticks.append(t))
    _same_arrays(found, whole)
    assert ticks == []


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plane", "adaptive"])
def test_a_scan_killed_ten_times_ends_with_the_same_arrays(tmp_path: Path, case: str):
    script = Path(__file__).with_name("scan_child.py")
    seed = np.random.SeedSequence().entropy % 2**31
    done = subprocess.run(
        [sys.executable, script, tmp_path / "whole", tmp_path / "killed", str(seed), case],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    counts = [int(word) for word in done.stdout.split()]
    assert len(counts) == 10
    assert counts == sorted(set(counts)), f"seed {seed}"
    assert 0 < counts[0] < counts[-1] <= 63, f"seed {seed}"
    whole, resumed = load(tmp_path / "whole"), load(tmp_path / "killed")
    assert isinstance(whole, SurfaceResult)
    assert isinstance(resumed, SurfaceResult)
    assert resumed.complete
    assert resumed.evaluations == whole.evaluations
    assert resumed.interpolated.any() == (case == "adaptive")
    _same_arrays(whole, resumed)


# -- axes, trajectories, curvature, what else is measured ---------------------------------------------


def _network(dtype: torch.dtype = torch.float64, rows: int = 40) -> Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to(dtype)
    x, y = torch.randn(rows, 5).to(dtype), torch.randint(0, 3, (rows,))
    return Problem(model, loss_by_name("cross_entropy"), [(x[:25], y[:25]), (x[25:], y[25:])])


def _others(problem: Problem, count: int, size: float = 0.5) -> list[torch.Tensor]:
    torch.manual_seed(7)
    return [problem.weights + size * torch.randn_like(problem.weights) for _ in range(count)]


def _direct(problem: Problem, origin: torch.Tensor, directions: list[torch.Tensor], found: SurfaceResult) -> np.ndarray:
    """The loss at every cell, by forming each point anew from the stored coordinates."""
    values = np.empty(found.shape)
    for cell in np.ndindex(found.shape):
        steps = [float(axis[i]) * d for axis, i, d in zip(found.coordinates, cell, directions, strict=True)]
        values[cell] = problem.value(origin + sum(steps))
    return values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("ends", [(-1.0, 2.0), (0.1, 0.9), (0.0, 1.0)], ids=["beyond", "excluded", "included"])
def test_lines_are_the_losses_at_their_coordinates_in_either_order(dtype: torch.dtype, ends: tuple[float, float]):
    problem = _network(dtype)
    a, b = problem.weights, _others(problem, 1)[0]
    for first, second in ((a, b), (b, a)):
        spec = LineSpec(start=ends[0], stop=ends[1], points=7)
        found = measure(problem, spec, [Point("a", first), Point("b", second)])
        expected = [problem.value(first + t * (second - first)) for t in found.x]
        np.testing.assert_allclose(found.train_loss, expected, rtol=1e-6)


def test_a_polyline_visits_every_checkpoint():
    problem = _network()
    weights = [problem.weights, *_others(problem, 3)]
    found = measure(problem, LineSpec(path="polyline", points=7), [Point(str(k), w) for k, w in enumerate(weights)])
    np.testing.assert_array_equal(found.x, np.arange(7) / 2)
    np.testing.assert_array_equal(found.marks[:, 0], [0, 1, 2, 3])
    for k, w in enumerate(weights):
        assert found.train_loss[2 * k] == pytest.approx(problem.value(w), rel=1e-12)
    assert found.train_loss[3] == pytest.approx(problem.value((weights[1] + weights[2]) / 2), rel=1e-12)


def test_a_plane_of_real_minima_has_each_exactly_where_it_is_drawn():
    problem = _network()
    weights = [problem.weights, *_others(problem, 2)]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        points = [Point(str(k), weights[k]) for k in order]
        found = measure(problem, PlaneSpec(x_points=7, y_points=13), points)
        u = (weights[order[1]] - weights[order[0]]) / (weights[order[1]] - weights[order[0]]).norm()
        v = weights[order[2]] - weights[order[0]]
        v = (v - (u @ v) * u) / (v - (u @ v) * u).norm()
        np.testing.assert_allclose(found.train_loss, _direct(problem, weights[order[0]], [u, v], found), rtol=1e-9)
        for (x, y), k in zip(found.marks, order, strict=True):
            assert problem.value(weights[order[0]] + x * u + y * v) == pytest.approx(
                problem.value(weights[k]), rel=1e-9
            )


def test_three_mixed_axes_are_where_they_say():
    problem = _network()
    anchor, (other,) = problem.weights, _others(problem, 1)
    vectors = torch.linalg.qr(torch.randn(len(anchor), 2, dtype=torch.float64))[0].T
    spec = AxesSpec(axes=("eigenvector:2", "to:other", "random"), points=(3, 4, 5), radius=(0.7, 1.1, 0.4))
    found = measure(problem, spec, [Point("a", anchor), Point("b", other)], eigenvectors=vectors)
    assert found.train_loss.shape == (3, 4, 5)
    assert found.axes == ("eigenvector 2 (ℓ₂)", "distance towards b (ℓ₂)", "random direction (filter norms)")
    towards = (other - anchor) / (other - anchor).norm()
    drawn = measure(problem, AxesSpec(axes=("random",), points=(3,)), [Point("a", anchor)])
    plane = found.train_loss[1, :, 2]  # the coordinates of the first and last axis are 0
    expected = [problem.value(anchor + y * towards) for y in found.y]
    np.testing.assert_allclose(plane, expected, rtol=1e-9)
    np.testing.assert_allclose(
        found.train_loss[0, 0, 0], _shifted(problem, spec, vectors[1], towards, found), rtol=1e-9
    )
    assert drawn.shape == (3,)


def _shifted(problem, spec, vector, towards, found) -> float:
    """The loss at the first corner, its random part taken from a slice of that axis alone."""
    alone = AxesSpec(axes=("random",), points=(3,), seed=spec.seed)
    (random,) = axes_slice(problem, alone, [Point("a", problem.weights)]).directions
    corner = [axis[0] for axis in found.coordinates]
    return problem.value(problem.weights + corner[0] * vector + corner[1] * towards + corner[2] * random)


def test_eigenvectors_are_measured_when_none_are_given():
    problem = _network()
    spec = AxesSpec(axes=("eigenvector:1",), points=(5,), radius=(1e-2,))
    found = measure(problem, spec, [Point("a", problem.weights)])
    dense = torch.stack([problem.hessian(problem.weights)(e) for e in torch.eye(len(problem.weights)).double()])
    largest = torch.linalg.eigvalsh(dense)[-1].item()
    second = (found.train_loss[0] - 2 * found.train_loss[2] + found.train_loss[4]) / 1e-4
    assert second == pytest.approx(largest, rel=1e-3)


def test_orthogonal_axes_keep_their_lengths_and_marks_stay_true():
    problem = _network()
    anchor, others = problem.weights, _others(problem, 2)
    points = [Point(name, w) for name, w in zip("abc", [anchor, *others], strict=True)]
    spec = AxesSpec(axes=("to:b", "to:c"), points=(5, 6), orthogonal=True, batch_norm="interpolated")
    found = measure(problem, spec, points)
    plane = measure(problem, PlaneSpec(x_points=5, y_points=6), points)
    np.testing.assert_allclose(found.marks, plane.marks, atol=1e-9)
    np.testing.assert_allclose(found.conditions["direction_norms"], 1.0, rtol=1e-12)
    with pytest.raises(InputError, match="lies in the span"):
        measure(problem, spec, [*points[:2], Point("c", anchor + 0.5 * (others[0] - anchor))])


def test_components_are_those_of_scikit_learn():
    problem = _network()
    path = [problem.weights + k * 0.1 * torch.sin(torch.arange(len(problem.weights)) * (1 + 0.1 * k)) for k in range(6)]
    trajectory = [Point(str(k), w) for k, w in enumerate(path[::-1])]
    spec = AxesSpec(axes=("component:1", "component:2"), points=(5, 5))
    found = measure(problem, spec, [trajectory[-1]], trajectory=trajectory)
    moved = np.stack([p.weights.numpy() for p in trajectory])
    pca = PCA().fit(moved)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_[:2], rtol=1e-9)
    expected = (moved - moved[-1]) @ pca.components_[:2].T
    np.testing.assert_allclose(np.abs(found.trajectory), np.abs(expected), atol=1e-9)
    np.testing.assert_array_equal(found.trajectory[-1], 0)
    assert found.trajectory_labels == tuple("012345")
    for axis, along in zip(found.coordinates, found.trajectory.T, strict=True):
        assert axis[0] < along.min()
        assert axis[-1] > along.max()
        assert abs(axis).min() == 0
    with pytest.raises(InputError, match="fewer than 6 directions"):
        measure(problem, AxesSpec(axes=("component:6",)), [trajectory[-1]], trajectory=trajectory)
    with pytest.raises(InputError, match="needs the checkpoints"):
        measure(problem, spec, [trajectory[-1]])


@pytest.mark.parametrize(("biases", "norms"), [("zero", "zero"), ("random", "zero"), ("zero", "random")])
def test_biases_and_norms_move_as_asked(biases: str, norms: str):
    problem = _network()
    spec = AxesSpec(axes=("random",), biases=biases, norms=norms)
    (direction,) = axes_slice(problem, spec, [Point("a", problem.weights)]).directions
    pieces = problem.named(direction)
    assert pieces["0.weight"].all()
    for name, asked in (("0.bias", biases), ("3.bias", biases), ("2.weight", norms)):
        assert bool(pieces[name].any()) == (asked == "random"), name


@pytest.mark.slow
def test_curvature_along_a_line_is_that_of_the_dense_hessian():
    problem = _network()
    other = _others(problem, 1)[0]
    points = [Point("a", problem.weights), Point("b", other)]
    spec = LineSpec(points=5, start=0.0, stop=1.0, curvature="both", curvature_tolerance=1e-4)
    found = measure(problem, spec, points)
    assert found.extra_names == ("largest eigenvalue", "smallest eigenvalue", "eigenvalue residual")
    for k, alpha in enumerate(found.x):
        w = (1 - alpha) * problem.weights + alpha * other
        dense = torch.stack([problem.hessian(w)(e) for e in torch.eye(len(w)).double()])
        values = torch.linalg.eigvalsh(dense)
        scale = values.abs().max().item()
        assert found.grid("largest eigenvalue")[k] == pytest.approx(values[-1].item(), abs=2e-4 * scale)
        assert found.grid("smallest eigenvalue")[k] == pytest.approx(values[0].item(), abs=2e-4 * scale)


def test_an_interrupted_scan_with_curvature_keeps_its_eigenvectors(tmp_path: Path):
    problem = _network()
    points = [Point("a", problem.weights), Point("b", _others(problem, 1)[0])]
    spec = LineSpec(points=5, curvature="largest")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(problem, spec, points, partial=tmp_path / "scan", progress=stop, save_every=1e9)
    partial = load(tmp_path / "scan")
    assert isinstance(partial, SurfaceResult)
    assert partial.done.sum() == 3
    assert partial.vectors.shape == (1, len(problem.weights))
    found, whole = measure(problem, spec, points, partial=tmp_path / "scan"), measure(problem, spec, points)
    again = measure(problem, spec, points, partial=tmp_path / "scan")
    assert again.evaluation == found.evaluation == whole.evaluation != ""
    np.testing.assert_array_equal(found.train_loss, whole.train_loss)
    np.testing.assert_allclose(found.grid("largest eigenvalue"), whole.grid("largest eigenvalue"), rtol=1e-3)
    assert found.vectors.size == 0


def test_adaptive_scans_say_what_they_interpolated():
    problem = _network()
    points = [Point(name, w) for name, w in zip("abc", [problem.weights, *_others(problem, 2, 0.2)], strict=True)]
    full = measure(problem, PlaneSpec(x_points=41, y_points=33), points)
    found = measure(problem, PlaneSpec(x_points=41, y_points=33, adaptive=0.01), points)
    assert found.complete
    assert found.evaluations == int((~found.interpolated).sum()) < full.evaluations / 3
    np.testing.assert_array_equal(found.train_loss[~found.interpolated], full.train_loss[~found.interpolated])
    assert np.abs(found.train_loss - full.train_loss).max() <= 0.01 * np.ptp(full.train_loss)
    assert found.interpolation_error <= 0.01
    assert found.held_out > 0


def test_half_precision_tells_its_error():
    single = _network(torch.float32)
    points = [Point("a", single.weights), Point("b", _others(single, 1)[0])]
    full, half = (measure(single, LineSpec(half=half), points) for half in (False, True))
    true = np.abs(half.train_loss - full.train_loss).max() / np.ptp(full.train_loss)
    assert 0 < half.half_error <= true + 1e-4 < 0.05
    assert full.half_error != full.half_error


def test_statistics_that_are_not_recomputed_are_warned_of():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    problem = Problem(model.eval(), loss_by_name("mse"), [(torch.randn(9, 3), torch.randn(9, 2))])
    points = [Point("a", problem.weights, problem.buffers()), Point("b", problem.weights + 1, problem.buffers())]
    for policy in ("running", "interpolated"):
        with pytest.warns(UserWarning, match=f"batch norm with {policy} statistics"):
            measure(problem, LineSpec(points=3, batch_norm=policy), points)
    measure(problem, LineSpec(points=3), points)


def test_files_of_random_planes_made_before_are_read():
    old = {"x_points": 5, "y_points": 3, "radius": 2.0, "normalisation": "none", "batch_norm": "running", "seed": 4,
           "recompute_examples": None}  # fmt: skip
    spec = AxesSpec.from_dict(old)
    assert spec == AxesSpec(points=(5, 3), radius=(2.0,), normalisation="none", biases="random", norms="random", seed=4)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"axes": ("random",) * 4}, "one to three"),
        ({"axes": ("eigenvector:0",)}, "eigenvector:K"),
        ({"axes": ("to:",)}, "to:CHECKPOINT"),
        ({"points": (3, 4, 5)}, "one for each of 2 axes"),
        ({"radius": (1.0, -1.0)}, "above 0"),
    ],
)
def test_axes_that_make_no_sense_are_refused(wrong: dict, words: str):
    with pytest.raises(InputError, match=words):
        AxesSpec(**wrong)


class Itself(nn.Module):
    """Gives its weights, whatever the data."""

    def __init__(self, size: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w[None].expand(len(x), -1)


def test_the_largest_eigenvalue_is_followed_where_eigenvalues_cross():
    """H = diag(1 + t, 2 − t, 0.3, …) with t the last weight: the eigenvector of the point before is one of another."""

    def total(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        w = outputs[0]
        f = (1 + w[-1]) * w[0] ** 2 + (2 - w[-1]) * w[1] ** 2 + 0.3 * w[2:-1].square().sum()
        return len(targets) * f / 2

    problem = Problem(Itself(12), Loss("crossing", total, len), [(torch.zeros(4, 1).double(), torch.zeros(4))])
    start, stop = torch.zeros(2, 12, dtype=torch.float64)
    stop[-1] = 1.6
    spec = LineSpec(start=0.0, stop=1.0, points=9, curvature="both")
    found = measure(problem, spec, [Point("a", start), Point("b", stop)])
    t = 1.6 * found.x
    np.testing.assert_allclose(found.grid("largest eigenvalue"), np.maximum(1 + t, 2 - t), rtol=1e-6)


def test_curvature_of_a_network_with_tied_weights():
    """Both names of a shared weight move; the second one alone would keep the Hessian at the first checkpoint."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    model[2].weight = model[0].weight
    problem = Problem(model, loss_by_name("mse"), [(torch.randn(20, 4).double(), torch.randn(20, 2).double())])
    other = problem.weights + 0.5 * torch.randn_like(problem.weights)
    spec = LineSpec(start=0.0, stop=1.0, points=3, curvature="largest", curvature_tolerance=1e-6)
    found = measure(problem, spec, [Point("a", problem.weights), Point("b", other)])
    dense = torch.stack([problem.hessian(other)(e) for e in torch.eye(len(other)).double()])
    assert found.grid("largest eigenvalue")[-1] == pytest.approx(torch.linalg.eigvalsh(dense)[-1].item(), rel=1e-5)


def test_an_interrupted_scan_goes_on_along_the_eigenvectors_it_measured(tmp_path: Path, monkeypatch):
    problem = _network()
    spec = AxesSpec(axes=("eigenvector:2",), points=(5,), radius=(0.3,))
    points = [Point("a", problem.weights)]

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(problem, spec, points, partial=tmp_path / "scan", progress=stop)
    partial = load(tmp_path / "scan")
    assert isinstance(partial, SurfaceResult)
    assert partial.directions.shape == (2, len(problem.weights))
    with monkeypatch.context() as patch:
        patch.setattr("landscape.hessian.measure", None)
        found = measure(problem, spec, points, partial=tmp_path / "scan")
    direction = torch.from_numpy(partial.directions[1])
    np.testing.assert_allclose(found.train_loss, _direct(problem, problem.weights, [direction], found), rtol=1e-9)
    assert found.directions.size == 0
