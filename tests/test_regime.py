"""Learning rate, length and batch size as functions of a base batch size; stopping at an accuracy; growing batches."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.run import train
from landscape.training.schedule import schedule


def data(n=53) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), n, torch.empty(4))
    split = Split(x, x[:, :3].argmax(1))
    return Dataset("toy", split, split, "classification", 3, "", {})


def network() -> nn.Module:
    with seeds.global_stream(1, "network"):
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


class StoppedError(Exception):
    pass


def stop_at(step):
    def progress(done, total, note):
        if done == step:
            raise StoppedError

    return progress


# -- learning rate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "rate"), [("none", 0.1), ("linear", 0.4), ("sqrt", 0.2)])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_the_scaled_rate_trains_as_that_rate_itself(rule, rate, optimiser):
    spec = TrainSpec(epochs=2, batch_size=32, learning_rate=0.1, optimiser=optimiser, schedule="cosine")
    scaled = train(network(), data(), replace(spec, lr_scaling=rule, base_batch_size=8))
    plain = train(network(), data(), replace(spec, learning_rate=rate))
    assert scaled.history[0]["lr"] == pytest.approx(plain.history[0]["lr"])
    for a, b in zip(scaled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_smaller_batch_than_the_base_lowers_the_rate():
    spec = TrainSpec(batch_size=8, base_batch_size=32, learning_rate=0.1)
    assert replace(spec, lr_scaling="linear").scaled_rate == pytest.approx(0.025)
    assert replace(spec, lr_scaling="sqrt").scaled_rate == pytest.approx(0.05)


# -- length --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "factor"), [(8, 1), (16, 2), (20, 3), (4, 1)])
def test_regime_adaptation_is_the_longer_training(batch, factor):
    given = TrainSpec(epochs=4, batch_size=batch, base_batch_size=8, regime_adaptation=True, schedule="step",
                      milestones=(2, 3), warmup_epochs=0.5)  # fmt: skip
    longer = TrainSpec(epochs=4 * factor, batch_size=batch, schedule="step", milestones=(2 * factor, 3 * factor),
                       warmup_epochs=0.5 * factor)  # fmt: skip
    found, expected = train(network(), data(), given), train(network(), data(), longer)
    assert [r["lr"] for r in found.history] == [r["lr"] for r in expected.history]
    assert same_state(found.model, expected.model)


def test_as_many_updates_as_at_the_base_batch():
    base = train(network(), data(64), TrainSpec(epochs=3, batch_size=8)).history[-1]["step"]
    large = TrainSpec(epochs=3, batch_size=32, base_batch_size=8, regime_adaptation=True)
    assert train(network(), data(64), large).history[-1]["step"] == base == 24


def test_an_adapted_run_resumes_and_ends(tmp_path):
    spec = TrainSpec(epochs=2, batch_size=16, base_batch_size=8, regime_adaptation=True, save_every=100)
    whole = train(network(), data(), spec, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(network(), data(), spec, tmp_path / "cut", progress=stop_at(10), pause=0.0)
    again = train(network(), data(), spec, tmp_path / "cut")
    assert same_state(again.model, whole.model)
    assert [p.name for p in sorted((tmp_path / "cut" / "checkpoints").iterdir())][-1] == "epoch_0004.safetensors"
    train(network(), data(), spec, tmp_path / "cut", progress=stop_at(1))  # finished: no step is made


# -- growing batches -----------------------------------------------------------------------------------------

GROWING = TrainSpec(epochs=5, batch_size=8, batch_milestones=(1, 3), batch_factor=3.0, learning_rate=0.05)


def test_batches_grow_as_in_a_loop_written_out():
    spec, model = replace(GROWING, schedule="cosine", warmup_epochs=1.5), network()
    sizes = {1: 8, 2: 24, 3: 24, 4: 72, 5: 72}
    counts = {e: math.ceil(53 / b) for e, b in sizes.items()}  # 7, 3, 3, 1, 1
    warmup, total, step = round(7 + 0.5 * 3), 15, 0
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    for epoch, size in sizes.items():
        with seeds.global_stream(0, "dropout", epoch):
            for part in seeds.permutation(seeds.stream(0, "order", epoch), 53).split(size):
                rise = (step + 1) / warmup
                fall = (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
                optimiser.param_groups[0]["lr"] = 0.05 * (rise if step < warmup else fall)
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(data().train.inputs[part]), data().train.targets[part]).backward()
                optimiser.step()
                step += 1
    calls = []
    found = train(network(), data(), spec, progress=lambda done, all_, note: calls.append((done, all_)))
    assert same_state(found.model, model)
    assert calls == [(k, 15) for k in range(1, 16)]
    assert [r["step"] for r in found.history] == [7, 10, 13, 14, 15]
    assert list(counts.values()) == [7, 3, 3, 1, 1]


@pytest.mark.parametrize("step", [4, 8, 12, 14])
def test_a_growing_run_resumes_to_the_same_bits(step, tmp_path):
    spec = replace(GROWING, schedule="step", milestones=(2,))
    whole = train(network(), data(), spec)
    with pytest.raises(StoppedError):
        train(network(), data(), spec, tmp_path, progress=stop_at(step), pause=0.0)
    again = train(network(), data(), spec, tmp_path)
    assert same_state(again.model, whole.model)
    assert [r["step"] for r in again.history] == [r["step"] for r in whole.history]


def test_milestones_fall_on_epochs_whatever_their_steps():
    factor = schedule(TrainSpec(epochs=3, schedule="step", milestones=(1, 2), step_factor=0.5), [5, 2, 2])
    assert [factor(t) for t in range(9)] == [1] * 5 + [0.5] * 2 + [0.25] * 2


# -- stopping ------------------------------------------------------------------------------------------------


def test_training_stops_at_an_accuracy_and_stays_stopped(tmp_path):
    spec = TrainSpec(epochs=12, batch_size=10)
    rows = train(network(), data(), spec).history
    best, target = 0.0, None
    for row in rows[1:]:  # the first epoch after the first that reaches a new height
        if row["train_accuracy"] > max(best, rows[0]["train_accuracy"]):
            target = row
            break
    assert target is not None
    until = replace(spec, until_accuracy=target["train_accuracy"])
    found = train(network(), data(), until, tmp_path)
    assert len(found.history) == target["epoch"] < 12
    assert train(network(), data(), until, tmp_path, progress=stop_at(1)).history == found.history


def test_regression_has_no_accuracy_to_stop_at():
    x = seeds.gaussian(seeds.stream(0, "inputs"), 20, torch.empty(4))
    split = Split(x, x[:, :2])
    linear = Dataset("line", split, split, "regression", 2, "", {})
    with pytest.raises(InputError, match=r"until_accuracy = 0\.5 .* regression"):
        train(nn.Linear(4, 2), linear, TrainSpec(epochs=2, until_accuracy=0.5))


# -- refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"lr_scaling": "linear"}, "base_batch_size = None"),
        ({"regime_adaptation": True}, "base_batch_size = None"),
        ({"lr_scaling": "cubic", "base_batch_size": 8}, "lr_scaling = 'cubic'"),
        ({"batch_factor": 1.0}, "batch_factor = 1.0"),
        ({"batch_milestones": (0,)}, "batch_milestones = 0"),
        ({"until_accuracy": 1.5}, "until_accuracy = 1.5"),
        ({"ghost_batch": 1}, "ghost_batch = 1"),
        ({"swa_from": 51}, "swa_from = 51"),
        ({"ema": 1.0}, "ema = 1.0"),
        ({"augment": ("flip", "flip")}, "Name each once"),
        ({"adversarial_share": 1.5}, "adversarial_share = 1.5"),
        ({"adversarial_share": 0.5, "micro_batch": 8}, "adversarial_share = 0.5"),
        ({"adversarial_share": 0.5, "precision": "float16"}, "adversarial_share = 0.5"),
        ({"adversarial_share": 0.5, "rho": 0.1, "sam_variant": "friendly"}, "adversarial_share = 0.5"),
    ],
)
def test_illegal_specs(spec, says):
    with pytest.raises(InputError, match=says):
        TrainSpec(**spec)
