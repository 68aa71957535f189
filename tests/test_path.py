"""Barriers against closed forms and brute force; aligned, recalibrated and curved paths; what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from landscape import seeds
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.methods.curves import Curve
from landscape.path import measure
from landscape.problem import Problem
from landscape.results import PathResult, load, save
from landscape.spec import PathSpec
from landscape.surface_points import Point

TRAIN_LOSS, TRAIN_ERROR, TEST_LOSS, TEST_ERROR = range(4)


class Coordinate(nn.Module):
    """A network whose output is its one weight, so that the loss is any function of it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight.expand(len(x), 1)


def scalar_problem(function, examples: int = 3) -> Problem:
    data = [(torch.zeros(examples, 1), torch.zeros(examples, 1))]
    return Problem(Coordinate(), lambda outputs, targets: function(outputs).sum(), data)


def at(*values: float) -> list[Point]:
    return [Point("ab"[k], torch.tensor([value], dtype=torch.float64)) for k, value in enumerate(values)]


def two_networks(norm: bool = False, examples: int = 60) -> tuple[list[Problem], list[Point]]:
    """Training and test problem, and two points: networks of different seeds, trained a little."""
    x = seeds.gaussian(seeds.stream(0, "inputs"), 2 * examples, torch.empty(6))
    y = x[:, :3].argmax(1)
    networks = []
    for seed in (1, 2):
        with seeds.global_stream(seed, "network"):
            normed = [nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16)] if norm else []
            network = nn.Sequential(nn.Linear(6, 16), *normed, nn.ReLU(), nn.Linear(16, 3))
        optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
        for _ in range(150):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[:examples]), y[:examples]).backward()
            optimiser.step()
        networks.append(network)
    loss, split = loss_by_name("cross_entropy"), slice(0, examples)
    train = Problem(networks[0], loss, list(zip(x[split].split(25), y[split].split(25), strict=True)))
    test = Problem(networks[0], loss, [(x[examples:], y[examples:])])
    others = [train.with_state(network.state_dict()) for network in networks]
    points = [Point(f"network {k}", p.weights, p.buffers()) for k, p in enumerate(others)]
    return [train, test], points


# -- heights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [3, 4, 25, 101])
@pytest.mark.parametrize(("a", "b"), [(-1.0, 3.0), (0.5, 2.0)])
def test_a_concave_quadratic_has_the_barrier_of_its_closed_form(points, a, b):
    # f = c − w²/2 on a line from a to b lies (b − a)²/8 above its chord, in the middle
    result = measure(scalar_problem(lambda w: 7 - w**2 / 2), PathSpec(points=points), at(a, b))
    assert result.barriers[0, TRAIN_LOSS] == pytest.approx((b - a) ** 2 / 8, rel=1e-12)
    assert result.barrier_t[0, TRAIN_LOSS] == pytest.approx(0.5, abs=1e-9)
    assert result.barrier_accuracy[0, TRAIN_LOSS] < 1e-12
    top = 7 - (0 if a < 0 else a**2 / 2)
    assert result.rises[0, TRAIN_LOSS] == pytest.approx(top - (7 - a**2 / 2), abs=1e-12)
    assert result.lengths == pytest.approx([b - a])


def test_a_convex_loss_has_no_barrier_and_costs_no_points_beyond_the_grid():
    result = measure(scalar_problem(lambda w: (w - 0.3) ** 2), PathSpec(), at(0.0, 1.0), scalar_problem(torch.exp))
    assert result.barriers[0, [TRAIN_LOSS, TEST_LOSS]].tolist() == [0, 0]
    assert result.rises[0, [TRAIN_LOSS, TEST_LOSS]].tolist() == [0, 0]
    assert result.evaluations == 50
    assert np.isnan(result.barriers[0, [TRAIN_ERROR, TEST_ERROR]]).all()
    assert result.quantities == ("train loss", "test loss")


def test_heights_do_not_depend_on_the_grid():
    def bump(w):
        return torch.exp(-60 * (w - 0.37) ** 2) + 0.2 * w

    fine = np.linspace(0, 1, 200_001)
    truth = np.exp(-60 * (fine - 0.37) ** 2) + 0.2 * fine
    chord = (1 - fine) * truth[0] + fine * truth[-1]
    for points in (7, 25, 60):
        result = measure(scalar_problem(bump), PathSpec(points=points, tolerance=1e-3), at(0.0, 1.0))
        for heights, accuracies, expected in (
            (result.barriers, result.barrier_accuracy, (truth - chord).max()),
            (result.rises, result.rise_accuracy, truth.max() - truth[[0, -1]].max()),
        ):
            assert accuracies[0, 0] <= 1e-3 * expected
            assert heights[0, 0] == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_point_that_is_not_finite_is_kept_and_makes_the_barrier_infinite(bad):
    problem = scalar_problem(lambda w: torch.where((w - 0.5).abs() < 0.05, bad, w))
    result = measure(problem, PathSpec(points=11), at(0.0, 1.0), scalar_problem(lambda w: w * (1 - w)))
    assert result.barriers[0, TRAIN_LOSS] == result.rises[0, TRAIN_LOSS] == np.inf
    assert result.barrier_t[0, TRAIN_LOSS] == 0.5
    assert np.array_equal(result.train_loss[0, 5], bad, equal_nan=True)
    assert result.barriers[0, TEST_LOSS] == pytest.approx(0.25)


def test_every_value_is_that_of_a_plain_loop():
    (train, test), points = two_networks()
    result = measure(train, PathSpec(points=9), points, test)
    model = copy.deepcopy(train.model)
    for k, t in enumerate(result.t):
        w = (1 - t) * points[0].weights + t * points[1].weights
        nn.utils.vector_to_parameters(w, model.parameters())
        x, y = (torch.cat(parts) for parts in zip(*train.batches, strict=True))
        outputs = model(x).detach()
        assert result.train_loss[0, k] == pytest.approx(nn.functional.cross_entropy(outputs, y).item(), rel=1e-5)
        assert result.train_accuracy[0, k] == pytest.approx((outputs.argmax(1) == y).double().mean().item())
    for error, values in (("train error", 1 - result.train_accuracy[0]), ("test loss", result.test_loss[0])):
        t, along = result.along(0, error)
        assert (np.diff(t) > 0).all()
        np.testing.assert_array_equal(along[np.isin(t, result.t)], values)
        chord = (1 - t) * along[0] + t * along[-1]
        column = ("train loss", "train error", "test loss", "test error").index(error)
        assert result.barriers[0, column] == pytest.approx((along - chord).max(), abs=1e-12)
    assert result.evaluations == 2 * len(result.along(0, "train loss")[0])


# -- aligned ------------------------------------------------------------------------------------------------


def test_a_permuted_copy_has_a_barrier_that_alignment_removes():
    (train, test), (point, _) = two_networks()
    state = dict(zip(train.named(point.weights), train.named(point.weights).values(), strict=True))
    order = seeds.permutation(seeds.stream(0, "units"), 16)
    state |= {"0.weight": state["0.weight"][order], "0.bias": state["0.bias"][order]}
    state |= {"2.weight": state["2.weight"][:, order]}
    copied = Point("permuted", torch.cat([piece.reshape(-1) for piece in state.values()]))
    result = measure(train, PathSpec(align="weights"), [point, copied], test)
    assert result.paths == ("raw", "aligned")
    assert result.barriers[0, TRAIN_LOSS] > 0.3
    assert result.barriers[0, TRAIN_ERROR] > 0.1
    np.testing.assert_allclose(result.barriers[1], 0, atol=1e-6)
    assert result.lengths[1] == 0 < result.lengths[0]
    assert result.conditions["units_moved"][0][2] == 16


# -- batch norm ---------------------------------------------------------------------------------------------


def test_batch_norm_policies_are_their_definitions_and_recalibration_lowers_the_barrier():
    (train, test), points = two_networks(norm=True)
    spec = PathSpec(points=5, batch_norm=("interpolated", "recomputed", "running"))
    result = measure(train, spec, points, test)
    assert result.paths == ("raw", "recalibrated", "running statistics")
    w, model = (points[0].weights + points[1].weights) / 2, copy.deepcopy(train.model)
    nn.utils.vector_to_parameters(w, model.parameters())
    first, second = (point.buffers for point in points)
    x, y = (torch.cat(parts) for parts in zip(*train.batches, strict=True))
    with torch.no_grad():
        for row, statistics in ((0, {k: (first[k] + second[k]) / 2 for k in first}), (2, first)):
            model.load_state_dict(statistics, strict=False)
            expected = nn.functional.cross_entropy(model.eval()(x), y).item()
            assert result.train_loss[row, 2] == pytest.approx(expected, rel=1e-5)
        update_bn([x], model)
        whole = Problem(train.model_at(train.weights), train.loss, [(x, y)])
        again = measure(whole, replace(spec, batch_norm=("recomputed",)), points)
        expected = nn.functional.cross_entropy(model.eval()(x), y).item()
        assert again.train_loss[0, 2] == pytest.approx(expected, rel=1e-5)
    assert result.barriers[1, TRAIN_LOSS] < result.barriers[0, TRAIN_LOSS]
    for k, point in enumerate(points):
        own = train.evaluate(point.weights, point.buffers)
        assert (result.train_loss[0, -k], result.train_accuracy[0, -k]) == own


# -- curves -------------------------------------------------------------------------------------------------


def test_a_curve_is_evaluated_at_its_points():
    points, corner = at(-1.0, 1.0), torch.tensor([[-1.0], [4.0], [1.0]], dtype=torch.float64)
    problem = scalar_problem(lambda w: w**2)
    for kind, middle in (("bezier", 2.0), ("chain", 4.0)):
        result = measure(problem, PathSpec(points=5), points, curve=Curve(kind, corner))
        assert result.paths == ("raw", "curve")
        assert result.train_loss[1, [0, 2, 4]].tolist() == [1, middle**2, 1]
        assert result.lengths[1] > result.lengths[0]


def test_a_curve_has_recomputed_statistics():
    (train, test), points = two_networks(norm=True)
    middle = (points[0].weights + points[1].weights) / 2
    straight = Curve("chain", torch.stack([points[0].weights, middle, points[1].weights]))
    result = measure(train, PathSpec(points=5), points, test, straight)
    assert result.paths == ("raw", "recalibrated", "curve")
    np.testing.assert_allclose(result.test_loss[2], result.test_loss[1], rtol=1e-4)
    np.testing.assert_allclose(result.lengths, result.lengths[0], rtol=1e-6)


# -- records and refusals -----------------------------------------------------------------------------------


def test_the_record_survives_its_file(tmp_path):
    (train, test), points = two_networks(norm=True)
    result = measure(train, PathSpec(points=4, align="weights"), points, test)
    save(result, tmp_path / "path")
    again = load(tmp_path / "path")
    assert isinstance(again, PathResult)
    assert again.spec == result.spec
    assert again.paths == ("raw", "recalibrated", "aligned", "aligned, recalibrated")
    np.testing.assert_array_equal(again.added, result.added)
    np.testing.assert_array_equal(again.barriers, result.barriers)


def test_progress_reaches_the_end():
    seen = []
    measure(scalar_problem(torch.sin), PathSpec(points=5), at(0.0, 3.0), progress=lambda *pair: seen.append(pair))
    assert seen == [(k, 5) for k in range(1, 6)]


def test_refusals():
    problem, points = scalar_problem(torch.sin), at(0.0, 1.0)
    with pytest.raises(InputError, match="points = "):
        measure(problem, PathSpec(), points[:1])
    with pytest.raises(InputError, match="does not end at b"):
        measure(problem, PathSpec(), points, curve=Curve("chain", torch.zeros(3, 1, dtype=torch.float64)))
    with pytest.raises(InputError, match="curve = '2 parameters'"):
        measure(problem, PathSpec(), points, curve=Curve("chain", torch.zeros(3, 2, dtype=torch.float64)))
    with pytest.raises(InputError, match="NaN or Inf"):
        measure(problem, PathSpec(), at(0.0, float("nan")))
    (train, _), points = two_networks(norm=True, examples=20)
    batched = Problem(train.model_at(train.weights), train.loss, train.batches, batch_norm="batch")
    with pytest.raises(InputError, match="batch_norm = 'batch'"):
        measure(batched, PathSpec(), points)
    part = train.restricted(["0.*"])
    ends = [Point(point.label, point.weights[: len(part.weights)], point.buffers) for point in points]
    with pytest.raises(InputError, match="some parameters are fixed"):
        measure(part, PathSpec(align="weights"), ends)
    for wrong in ({"points": 2}, {"batch_norm": ()}, {"batch_norm": ("running",) * 2}, {"align": "biases"}):
        with pytest.raises(InputError):
            PathSpec(**wrong)
