"""Curves between networks: the network on them against a hand-written one, their training, their run folders."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import network, toy_data
from torch import nn

from landscape import connect, seeds
from landscape.checkpoints import Opened, open_checkpoint, prepare
from landscape.errors import InputError
from landscape.path import measure
from landscape.spec import CurveSpec, CurveTrainSpec, PathSpec, ProblemSpec, TrainSpec
from landscape.surface_points import Point
from landscape.training.curve import CurveNetwork, curve_of
from landscape.training.run import train

DIGITS = ProblemSpec(model="mlp", model_args=(("widths", "32,32"),), data="digits")


def flat(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def ends() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network with dropout and batch norm, and the weights of two."""
    base, other = network(), network()
    with torch.no_grad(), seeds.global_stream(3, "other"):
        for module in other.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    return base, flat(base), flat(other)


@pytest.fixture(scope="module")
def minima(tmp_path_factory) -> tuple[Opened, Opened]:
    """Two perceptrons trained on digits independently of each other."""
    folder = tmp_path_factory.mktemp("minima")
    for seed in (0, 1):
        model, data = prepare(DIGITS, seed)
        spec = TrainSpec(epochs=12, learning_rate=0.05, seed=seed)
        names = ("model", "model_args", "data")
        train(model, data, spec, folder / str(seed), {name: getattr(DIGITS, name) for name in names})
    return open_checkpoint(folder / "0"), open_checkpoint(folder / "1")


# -- the network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 1), ("bezier", 3), ("chain", 1), ("chain", 2)])
def test_bends_start_on_the_straight_line(kind, bends):
    base, first, last = ends()
    curve = curve_of(CurveNetwork(base, first, last, CurveSpec(kind, bends)).state_dict(), CurveSpec(kind, bends))
    assert torch.equal(curve.points[0], first)
    assert torch.equal(curve.points[-1], last)
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        torch.testing.assert_close(curve.at(t), (1 - t) * first + t * last)


def test_the_network_is_the_base_network_at_a_point_drawn_from_the_global_stream():
    base, first, last = ends()
    with torch.no_grad():
        curved = CurveNetwork(base, first, last, CurveSpec())
        for piece in curved.bends[0].parameters():
            piece.add_(0.3)
    x, plain = toy_data().train.inputs, copy.deepcopy(base).train()
    bend = (first + last) / 2 + 0.3
    with seeds.global_stream(5, "step"):
        outputs = curved.train()(x)
    with seeds.global_stream(5, "step"):
        t = seeds.position()
        nn.utils.vector_to_parameters((1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * last, plain.parameters())
        torch.testing.assert_close(outputs, plain(x))
    assert 0 < t < 1
    plain = copy.deepcopy(base).eval()
    nn.utils.vector_to_parameters(first / 4 + bend / 2 + last / 4, plain.parameters())
    fresh = CurveNetwork(base, first, last, CurveSpec())
    fresh.bends.load_state_dict(curved.bends.state_dict())
    torch.testing.assert_close(fresh.eval()(x), plain(x))


def test_a_step_moves_the_bend_by_its_share_of_the_gradient():
    base, first, last = ends()
    base.eval()
    curved = CurveNetwork(base, first, last, CurveSpec()).train()
    curved.network.eval()
    data = toy_data().train
    with seeds.global_stream(5, "step"):
        nn.functional.cross_entropy(curved(data.inputs), data.targets).backward()
    with seeds.global_stream(5, "step"):
        t = seeds.position()
    plain = copy.deepcopy(base)
    nn.utils.vector_to_parameters((1 - t) * first + t * last, plain.parameters())
    nn.functional.cross_entropy(plain(data.inputs), data.targets).backward()
    for piece, weight in zip(curved.bends[0].parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(piece.grad, 2 * t * (1 - t) * weight.grad, rtol=1e-4, atol=1e-6)


def test_frozen_parameters_stay_and_ends_of_other_sizes_are_refused():
    base, _, _ = ends()
    base[0].requires_grad_(False)
    free = torch.cat([p.detach().reshape(-1) for p in base.parameters() if p.requires_grad])
    curved = CurveNetwork(base, free, free + 1, CurveSpec())
    assert sum(p.numel() for p in curved.parameters() if p.requires_grad) == len(free)
    assert torch.equal(curved.network[0].weight, base[0].weight)
    with pytest.raises(InputError, match="last = "):
        CurveNetwork(base, free, free[1:], CurveSpec())
    with pytest.raises(InputError, match="curve with 2 bends"):
        curve_of(curved.state_dict(), CurveSpec(bends=2))


# -- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_ends_stay_bit_for_bit_and_the_callers_networks_untouched(rho):
    base, first, last = ends()
    before = copy.deepcopy(base.state_dict())
    curved = CurveNetwork(base, first, last, CurveSpec(bends=2))
    trained = train(curved, toy_data(), TrainSpec(epochs=2, batch_size=10, rho=rho, weight_decay=0.01))
    curve = curve_of(trained.model.state_dict(), CurveSpec(bends=2))
    assert curve.points[0].numpy().tobytes() == first.numpy().tobytes()
    assert curve.points[-1].numpy().tobytes() == last.numpy().tobytes()
    assert not torch.allclose(curve.points[1], first + (last - first) / 3)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_sharpness_aware_steps_see_one_point_of_the_curve_in_both_passes(monkeypatch):
    base, first, last = ends()
    drawn = []
    draw = seeds.position
    monkeypatch.setattr(seeds, "position", lambda: drawn.append(draw()) or drawn[-1])
    train(CurveNetwork(base, first, last, CurveSpec()), toy_data(), TrainSpec(epochs=1, batch_size=10, rho=0.1))
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn)) == len(drawn) / 2 == 6


@pytest.mark.parametrize("curve", [CurveSpec(), CurveSpec("chain", 2)])
def test_a_trained_curve_has_a_much_lower_barrier_than_the_line(minima, tmp_path, curve):
    first, second = minima
    connect.connect(first, second, tmp_path / "curve", curve, CurveTrainSpec(epochs=15))
    found = connect.open_curve(tmp_path / "curve")
    assert found.notes == ()
    points = [Point(end.label, end.train.weights) for end in minima]
    result = measure(first.train, PathSpec(points=15), points, first.test, found.between(first, second))
    assert result.paths == ("raw", "curve")
    assert result.barriers[1, 0] < 0.2 * result.barriers[0, 0]
    for k, end in ((0, first), (-1, second)):
        assert (result.train_loss[1, k], result.train_accuracy[1, k]) == end.evaluate("train")
    assert result.lengths[1] > result.lengths[0]


def test_an_interrupted_training_resumes_to_the_same_bits(minima, tmp_path):
    spec, curve = CurveTrainSpec(epochs=3, rho=0.05), CurveSpec()

    def stop(done: int, total: int, note: str) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    connect.connect(*minima, tmp_path / "whole", curve, spec)
    with pytest.raises(KeyboardInterrupt):
        connect.connect(*minima, tmp_path / "parts", curve, spec, stop)
    early = connect.open_curve(tmp_path / "parts")
    assert "0 of 3 epochs" in early.notes[0]
    connect.connect(*minima, tmp_path / "parts", curve, spec)
    whole, parts = (connect.open_curve(tmp_path / name).curve.points for name in ("whole", "parts"))
    assert torch.equal(whole, parts)
    with pytest.raises(InputError, match="another configuration"):
        connect.connect(*minima, tmp_path / "whole", CurveSpec(bends=2), spec)


def test_a_curve_fits_its_ends_in_either_order_and_no_others(minima, tmp_path):
    first, second = minima
    connect.connect(first, second, tmp_path / "curve", CurveSpec(), CurveTrainSpec(epochs=1))
    found = connect.open_curve(tmp_path / "curve")
    there, back = found.between(first, second), found.between(second, first)
    assert there is not None
    assert back is not None
    np.testing.assert_allclose(there.at(0.3), back.at(0.7), atol=1e-6)
    assert found.between(first, first) is None
    with pytest.raises(InputError, match="holds no curve"):
        connect.open_curve(first.path)
    other = replace(second, spec=replace(second.spec, model_args=()))
    with pytest.raises(InputError, match="different models"):
        connect.connect(first, other, None, CurveSpec(), CurveTrainSpec())
