"""The loop against hand-written ones, torch's schedulers, and what it promises of its metrics and manners."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.outcome import DivergedError
from landscape.training.prepare import batch_sizes
from landscape.training.run import train
from landscape.training.schedule import schedule


def toy_data(train=53, test=20, task="classification") -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), train + test, torch.empty(4))
    y = x[:, :3].argmax(1) if task == "classification" else x[:, :2] ** 2
    return Dataset("toy", Split(x[:train], y[:train]), Split(x[train:], y[train:]), task, 3, "", {})


def network(dropout=0.3, norm=True, outputs=3) -> nn.Module:
    with seeds.global_stream(1, "network"):
        middle = nn.BatchNorm1d(8) if norm else nn.Identity()
        return nn.Sequential(nn.Linear(4, 8), middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, outputs))


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


# -- against other code -------------------------------------------------------------------------------------

OPTIMISERS = {
    "sgd": (TrainSpec(optimiser="sgd", learning_rate=0.1, momentum=0.9, l2=0.01),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
    "nesterov": (TrainSpec(optimiser="sgd", learning_rate=0.1, momentum=0.8, nesterov=True),
                 lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True)),
    "plain sgd": (TrainSpec(optimiser="sgd", learning_rate=0.1, momentum=0.0), lambda p: torch.optim.SGD(p, lr=0.1)),
    "adam": (TrainSpec(optimiser="adam", learning_rate=0.01, l2=0.01),
             lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01)),
    "adamw": (TrainSpec(optimiser="adamw", learning_rate=0.01, weight_decay=0.1),
              lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_zero_radius_is_bit_identical_to_a_plain_loop(name, clip_norm):
    spec, build = OPTIMISERS[name]
    spec = TrainSpec.from_dict({**spec.to_dict(), "epochs": 3, "batch_size": 10, "rho": 0.0, "clip_norm": clip_norm})
    data, plain = toy_data(), network()
    optimiser = build(plain.parameters())
    plain.train()
    for epoch in (1, 2, 3):
        with seeds.global_stream(0, "dropout", epoch):
            for part in seeds.permutation(seeds.stream(0, "order", epoch), 53).split(10):
                optimiser.zero_grad()
                F.cross_entropy(plain(data.train.inputs[part]), data.train.targets[part]).backward()
                if clip_norm:
                    nn.utils.clip_grad_norm_(plain.parameters(), clip_norm)
                optimiser.step()
    assert same_state(train(network(), data, spec).model, plain)


def torch_factors(steps, scheduler) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    made, factors = scheduler(optimiser), []
    for _ in range(steps):
        factors.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        made.step()
    return factors


lr_scheduler = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("spec", "scheduler"),
    [
        (TrainSpec(epochs=6), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        (TrainSpec(epochs=6, schedule="cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, 30)),
        (TrainSpec(epochs=6, schedule="cosine", cosine_epochs=2), lambda o: lr_scheduler.CosineAnnealingLR(o, 10)),
        (TrainSpec(epochs=6, schedule="step", milestones=(2, 5), step_factor=0.3),
         lambda o: lr_scheduler.MultiStepLR(o, [10, 25], 0.3)),
        (TrainSpec(epochs=6, warmup_epochs=0.8), lambda o: lr_scheduler.LinearLR(o, 1 / 4, 1.0, 3)),
        (TrainSpec(epochs=6, schedule="cosine", warmup_epochs=1),
         lambda o: lr_scheduler.SequentialLR(
             o, [lr_scheduler.LinearLR(o, 1 / 5, 1.0, 4), lr_scheduler.CosineAnnealingLR(o, 25)], [5])),
    ],
    ids=["constant", "cosine", "cosine that rises again", "step", "warm-up", "warm-up and cosine"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_schedules_equal_torchs(spec, scheduler):
    factor = schedule(spec, 5)
    assert [factor(t) for t in range(30)] == pytest.approx(torch_factors(30, scheduler), rel=1e-12, abs=1e-12)


def test_cosine_ends_at_zero_and_the_rows_hold_the_last_rate():
    spec = TrainSpec(epochs=2, batch_size=53, learning_rate=0.5, schedule="cosine")
    assert schedule(spec, 1)(2) == 0
    assert [row["lr"] for row in train(network(), toy_data(), spec).history] == pytest.approx([0.5, 0.25])


# -- metrics ------------------------------------------------------------------------------------------------


def test_metrics_at_frozen_weights_are_means_over_all_examples():
    data, model = toy_data(train=18), network(dropout=0.0, norm=False)
    spec = TrainSpec(epochs=1, batch_size=8, learning_rate=0.0, label_smoothing=0.2)  # batches of 8, 8 and 2
    (row,) = train(model, data, spec).history
    with torch.no_grad():
        for name, split in (("train", data.train), ("test", data.test)):
            scores = model(split.inputs).double()
            assert row[f"{name}_loss"] == pytest.approx(F.cross_entropy(scores, split.targets).item(), rel=1e-6)
            assert row[f"{name}_accuracy"] == (scores.argmax(1) == split.targets).double().mean().item()
    assert (row["epoch"], row["step"], row["distance"]) == (1, 3, 0)


def test_test_loss_is_that_of_the_returned_model_in_eval_mode():
    data = toy_data()
    result = train(network(), data, TrainSpec(epochs=2))
    assert not result.model.training
    with torch.no_grad():
        expected = F.cross_entropy(result.model(data.test.inputs), data.test.targets).item()
    assert result.history[-1]["test_loss"] == pytest.approx(expected, rel=1e-6)
    moved = torch.cat(
        [(p - q).flatten() for p, q in zip(result.model.parameters(), network().parameters(), strict=True)]
    )
    assert result.history[-1]["distance"] == pytest.approx(moved.detach().double().norm().item(), rel=1e-6)


def test_label_smoothing_changes_the_training():
    data = toy_data()
    plain, smooth = (train(network(), data, TrainSpec(epochs=1, label_smoothing=s)).model for s in (0.0, 0.3))
    assert not same_state(plain, smooth)


def test_regression_reaches_least_squares():
    data = toy_data(task="regression")
    model = nn.Linear(4, 2).double()
    spec = TrainSpec(epochs=400, batch_size=53, learning_rate=0.1)
    result = train(model, data, spec)
    x = torch.cat([data.train.inputs, torch.ones(53, 1)], 1).double()
    residual = data.train.targets - x @ torch.linalg.lstsq(x, data.train.targets.double()).solution
    assert result.history[-1]["train_loss"] == pytest.approx(residual.square().mean().item(), rel=1e-9)
    assert result.history[-1]["train_accuracy"] is None


# -- determinism and manners --------------------------------------------------------------------------------


def test_seed_decides_the_bits():
    data = toy_data()
    first, again, other = (
        train(network(), data, TrainSpec(epochs=2, batch_size=9, rho=0.1, seed=s)) for s in (0, 0, 1)
    )
    assert same_state(first.model, again.model)
    assert not same_state(first.model, other.model)


def test_the_callers_model_and_random_state_are_untouched():
    model = network()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    train(model, toy_data(), TrainSpec(epochs=1, rho=0.1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[0].bias.grad is None


def test_frozen_parameters_stay():
    model = network()
    model[0].weight.requires_grad_(False)
    trained = train(model, toy_data(), TrainSpec(epochs=1, rho=0.1, weight_decay=0.1)).model
    assert torch.equal(trained[0].weight, model[0].weight)
    assert not torch.equal(trained[4].weight, model[4].weight)


@pytest.mark.parametrize(
    ("examples", "smallest", "sizes"),
    [(20, 1, [10, 10]), (21, 1, [10, 10, 1]), (21, 2, [10, 11]), (22, 2, [10, 10, 2]), (7, 2, [7]), (10, 2, [10])],
)
def test_batch_sizes(examples, smallest, sizes):
    assert batch_sizes(examples, 10, smallest) == sizes


def test_a_single_last_example_trains_with_batch_norm():
    result = train(network(), toy_data(train=21), TrainSpec(epochs=2, batch_size=10))
    assert result.history[-1]["step"] == 4
    assert result.model[1].num_batches_tracked == 4


def test_progress_counts_every_step():
    calls = []
    train(network(), toy_data(), TrainSpec(epochs=2, batch_size=30), progress=lambda *a: calls.append(a[:2]))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


# -- what is refused ----------------------------------------------------------------------------------------


def test_divergence_is_one_clear_line():
    with pytest.raises(
        DivergedError, match=r"^training diverged in epoch \d: .* Lower learning_rate = 1e\+18"
    ) as caught:
        train(network(), toy_data(), TrainSpec(epochs=9, learning_rate=1e18))
    assert caught.value.epoch >= 1


@pytest.mark.parametrize(
    ("model", "data", "spec", "says"),
    [
        (network(), toy_data(), {"batch_size": 1}, "batch_size = 1 .* batch norm"),
        (network(), toy_data(), {"nesterov": True, "momentum": 0.0}, "momentum"),
        (network(), toy_data(), {"schedule": "step"}, "milestones"),
        (network(), toy_data(), {"epochs": 2, "warmup_epochs": 2.0}, "warmup_epochs"),
        (network(), toy_data(), {"tensorboard": True}, "tensorboard .* folder"),
        (network(), toy_data(train=0), {}, "no examples"),
        (network(outputs=2), toy_data(), {}, "classes up to 2"),
        (network(), toy_data(task="regression"), {}, "does not fit the data toy"),
        (network(outputs=2), toy_data(task="regression"), {"label_smoothing": 0.1}, "label_smoothing"),
        (nn.Conv2d(1, 3, 3), toy_data(), {}, "does not fit the data toy"),
        (network().requires_grad_(False), toy_data(), {}, "no trainable parameters"),
    ],
)
def test_what_does_not_fit_is_refused(model, data, spec, says):
    with pytest.raises(InputError, match=says) as caught:
        train(model, data, TrainSpec(**spec))
    assert "\n" not in str(caught.value)


def test_unknown_device_is_refused():
    with pytest.raises(InputError, match="device = 'abacus'"):
        train(network(), toy_data(), TrainSpec(), device="abacus")


def test_loss_by_name_trains_log_probabilities():
    data = toy_data()
    raw = train(network(), data, TrainSpec(epochs=2))
    with_softmax = train(nn.Sequential(network(), nn.LogSoftmax(1)), data, TrainSpec(epochs=2), loss="nll")
    assert math.isclose(raw.history[-1]["test_loss"], with_softmax.history[-1]["test_loss"], rel_tol=1e-4)
