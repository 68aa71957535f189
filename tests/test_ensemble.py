"""Networks trained together against each trained alone by the trainer, and what cannot be batched."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.models.mlp import mlp
from landscape.spec import CurveTrainSpec, TrainSpec
from landscape.training.ensemble import Member, save_checkpoint, save_member, train_together, why_alone
from landscape.training.ensemble_chain import Chain
from landscape.training.folder import read_history
from landscape.training.outcome import DivergedError
from landscape.training.prepare import prepare
from landscape.training.run import train


def toy_data(train=53, test=20, task="classification", shape=(4,)) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), train + test, torch.empty(shape).flatten()).reshape(-1, *shape)
    flat = x.flatten(1)
    y = flat[:, :3].argmax(1) if task == "classification" else flat[:, :2] ** 2
    return Dataset("toy", Split(x[:train], y[:train]), Split(x[train:], y[train:]), task, 3, "", {})


def perceptron(seed: int, activation="relu", outputs=3) -> nn.Module:
    with seeds.global_stream(seed, "network"):
        return mlp((4,), outputs, (9, 7), activation)


class Tied(nn.Module):
    """No chain: layer norm, a residual, tied weights, one frozen tensor and a buffer that differ between members."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with seeds.global_stream(seed, "tied"):
            self.first, self.norm, self.second = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
            self.last = nn.Linear(4, 3)
            self.register_buffer("offset", torch.randn(4))
        self.second.weight = self.first.weight
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        return self.last(self.second(torch.tanh(self.norm(self.first(x + self.offset)))) + x)


def agree(member: Member, trained, data, loss=None, tolerance=2e-5) -> None:
    """The trained member is what the trainer makes of it alone: weights, buffers and every metric of every epoch."""
    alone = train(member.model, data, member.spec, loss=loss)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], value, rtol=tolerance, atol=tolerance)
    assert len(trained.history) == len(alone.history)
    for mine, theirs in zip(trained.history, alone.history, strict=True):
        assert mine.keys() == theirs.keys()
        for key in theirs.keys() - {"seconds"}:
            if theirs[key] is None:
                assert mine[key] is None
            else:
                assert mine[key] == pytest.approx(theirs[key], rel=1e-4, abs=tolerance), key


BASE = TrainSpec(epochs=4, batch_size=8, learning_rate=0.05)
CASES = {
    "sgd": dict(momentum=0.0),
    "momentum": dict(momentum=0.8, l2=0.01),
    "nesterov": dict(momentum=0.9, nesterov=True, l2=0.01),
    "adam": dict(optimiser="adam", learning_rate=0.01),
    "adam with decay": dict(optimiser="adam", learning_rate=0.01, l2=0.1),
    "adamw": dict(optimiser="adamw", learning_rate=0.01, weight_decay=0.3),
    "both decays": dict(momentum=0.8, l2=0.02, weight_decay=0.3),
    "both decays of adamw": dict(optimiser="adamw", learning_rate=0.01, l2=0.05, weight_decay=0.3),
    "sam": dict(rho=0.3),
    "sam on adam": dict(rho=0.1, optimiser="adam", learning_rate=0.01, l2=0.01),
    "asam": dict(rho=0.5, adaptive=True, eta=0.1),
    "cosine": dict(schedule="cosine", warmup_epochs=1.5),
    "step": dict(schedule="step", milestones=(1, 3), step_factor=0.3),
    "smoothing": dict(label_smoothing=0.2),
    "clipped": dict(clip_norm=0.2),
    "clipped sam": dict(clip_norm=0.2, rho=0.2),
    "one batch": dict(batch_size=64),
}


@pytest.mark.parametrize("network", ["relu", "tanh", "identity", "tied"])
@pytest.mark.parametrize("case", CASES)
def test_each_member_is_what_the_trainer_makes_of_it_alone(case, network):
    data, spec = toy_data(), replace(BASE, **CASES[case])

    def own(i: int) -> TrainSpec:  # what differs within a stack
        clip = None if spec.clip_norm is None else spec.clip_norm * (1 + i)
        return replace(
            spec, seed=i % 2, learning_rate=spec.learning_rate / (1 + i), weight_decay=spec.weight_decay * i,
            l2=spec.l2 * i, rho=spec.rho * (1 + i) / 3, clip_norm=clip,
        )  # fmt: skip

    members = [Member(Tied(i) if network == "tied" else perceptron(i, network), own(i)) for i in range(3)]
    is_chain = Chain.of(prepare(members[0].model, data, spec)) is not None
    assert is_chain == (network != "tied")
    for member, trained in zip(members, train_together(members, data), strict=True):
        agree(member, trained, data)


@pytest.mark.parametrize("flatten", [True, False])
def test_regression_with_two_outputs(flatten):
    data = toy_data(task="regression")
    models = [perceptron(i, outputs=2) for i in range(2)]
    if not flatten:
        models = [nn.Sequential(*list(model)[1:]) for model in models]
    members = [Member(m, replace(BASE, rho=0.1, learning_rate=0.01, seed=i)) for i, m in enumerate(models)]
    for member, trained in zip(members, train_together(members, data), strict=True):
        agree(member, trained, data)


def test_other_losses_go_through_vmap():
    data = toy_data()
    members = [Member(perceptron(i), replace(BASE, seed=i)) for i in range(2)]
    for member, trained in zip(members, train_together(members, data, loss="multi_margin"), strict=True):
        agree(member, trained, data, loss="multi_margin")


def test_a_convolutional_network_with_group_norm():
    data = toy_data(shape=(2, 6, 6))

    def network(seed: int) -> nn.Module:
        with seeds.global_stream(seed, "convolutions"):
            return nn.Sequential(
                nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
            )

    members = [Member(network(i), replace(BASE, seed=i, rho=0.05, batch_size=10)) for i in range(2)]
    for member, trained in zip(members, train_together(members, data), strict=True):
        agree(member, trained, data)


@pytest.mark.parametrize("workers", [1, 2])
def test_members_of_all_kinds_together_keep_their_places(workers):
    data = toy_data()
    specs = [
        BASE, replace(BASE, batch_size=10), replace(BASE, epochs=2), replace(BASE, rho=0.1), replace(BASE, seed=4),
        replace(BASE, optimiser="adam", learning_rate=0.01), replace(BASE, schedule="cosine"),
        replace(BASE, clip_norm=0.5),
    ]  # fmt: skip
    models = [perceptron(i) for i in range(len(specs))]
    models[4] = Tied(4)
    members = [Member(m, s) for m, s in zip(models, specs, strict=True)]
    before = copy.deepcopy([m.state_dict() for m in models])
    for member, trained in zip(members, train_together(members, data, workers=workers), strict=True):
        assert trained.spec is member.spec
        assert not trained.model.training
        agree(member, trained, data)
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_large_groups_are_cut_into_stacks_and_put_together_again(monkeypatch):
    monkeypatch.setattr("landscape.training.ensemble.STACK", 3)
    data = toy_data(train=17)
    members = [Member(perceptron(i), replace(BASE, epochs=2, seed=i)) for i in range(8)]
    for member, trained in zip(members, train_together(members, data, workers=2), strict=True):
        agree(member, trained, data)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_member_that_diverges_disturbs_no_other(stacked):
    data = toy_data(task="regression")
    activation = "gelu" if stacked else "relu"
    rates = (0.01, 1e4, 0.02)
    members = [Member(perceptron(i, activation, 2), replace(BASE, learning_rate=rate)) for i, rate in enumerate(rates)]
    found = train_together(members, data)
    for i in (0, 2):
        assert found[i].diverged is None
        agree(members[i], found[i], data)
    with pytest.raises(DivergedError) as alone:
        train(members[1].model, data, members[1].spec)
    assert str(found[1].diverged) == str(alone.value)
    assert found[1].diverged.epoch == alone.value.epoch == len(found[1].history) + 1
    with pytest.raises(DivergedError):
        save_checkpoint(found[1], "never written")


def test_a_member_that_reaches_its_loss_stops_there():
    data = toy_data()
    limits = (None, 0.9, 1e-9, 0.8)
    members = [Member(perceptron(i), replace(BASE, epochs=9, until_loss=limit)) for i, limit in enumerate(limits)]
    found = train_together(members, data)
    lengths = [len(f.history) for f in found]
    assert lengths[0] == lengths[2] == 9
    assert max(lengths[1], lengths[3]) < 9
    assert lengths[1] != lengths[3]
    for member, trained in zip(members, found, strict=True):
        agree(member, trained, data)


def test_the_test_set_at_the_end_alone():
    data = toy_data()
    members = [Member(perceptron(i), replace(BASE, until_loss=(None, 0.9)[i], epochs=6)) for i in range(2)]
    always, once = (train_together(members, data, test_every_epoch=every) for every in (True, False))
    for a, b in zip(always, once, strict=True):
        assert {k: v for k, v in a.history[-1].items() if k != "seconds"} == {
            k: v for k, v in b.history[-1].items() if k != "seconds"
        }
        assert all(row["test_loss"] is None and row["test_accuracy"] is None for row in b.history[:-1])
        assert [row["train_loss"] for row in a.history] == [row["train_loss"] for row in b.history]


def test_progress_counts_the_steps_of_all_members():
    seen = []
    members = [Member(perceptron(i), replace(BASE, epochs=2, batch_size=(8, 53)[i])) for i in range(2)]
    train_together(members, toy_data(), progress=lambda done, total, note: seen.append((done, total)))
    assert sorted(total for _, total in seen) == [16] * 4
    assert seen[-1][0] == 16
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_float64_members_agree_to_its_own_precision():
    data = toy_data()
    members = [Member(perceptron(i).double(), replace(BASE, rho=0.1, optimiser="adam", seed=i)) for i in range(2)]
    for member, trained in zip(members, train_together(members, data), strict=True):
        assert next(trained.model.parameters()).dtype == torch.float64
        agree(member, trained, data, tolerance=1e-10)


def test_a_saved_member_is_a_finished_run(tmp_path):
    data, member = toy_data(), Member(perceptron(0), BASE)
    trained = train_together([member], data)[0]
    for _ in range(2):  # the second time changes nothing
        save_member(trained, data, tmp_path / "run", {"model": "mlp"})
    folder = tmp_path / "run"
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == [
        "epoch_0000.safetensors", "epoch_0004.safetensors"
    ]  # fmt: skip
    assert tuple(read_history(folder)) == trained.history
    resumed = train(member.model, data, BASE, folder, {"model": "mlp"})  # finished: returns what is there
    assert resumed.history == trained.history
    for name, value in trained.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)
    with pytest.raises(InputError, match="another configuration"):
        save_member(trained, data, folder, {"model": "another"})
    save_checkpoint(trained, tmp_path / "last.safetensors", {"model": "mlp", "dataset": {"name": "toy"}})
    assert (tmp_path / "last.safetensors").stat().st_size > 0


# -- refusals ------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """Changes a buffer at every call, out of sight of the list of known layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        self.calls.add_(1)
        return self.layer(x)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        out = self.layer(x)
        return out if out.sum() > 0 else -out


class Dropping(Branching):
    def forward(self, x):
        return self.layer(nn.functional.dropout(x, 0.5, self.training))


@pytest.mark.parametrize(
    ("model", "spec", "reason"),
    [
        (mlp((4,), 3, (5,), norm="batch"), BASE, "BatchNorm1d '2' keeps statistics"),
        (mlp((4,), 3, (5,), dropout=0.1), BASE, "Dropout '3' draws random numbers"),
        (nn.LSTM(4, 3), BASE, "LSTM has no batched form"),
        (mlp((4,), 3, (5,)), replace(BASE, tensorboard=True), "tensorboard = True has no batched form"),
        (mlp((4,), 3, (5,)), CurveTrainSpec(), "CurveTrainSpec has no batched form"),
        (mlp((4,), 3, (5,)).requires_grad_(False), BASE, "no trainable parameters"),
    ],
)
def test_what_cannot_be_batched_says_why(model, spec, reason):
    assert reason in str(why_alone(model, spec))
    with pytest.raises(InputError, match="member 0 cannot be trained together"):
        train_together([Member(model, spec)], toy_data())


@pytest.mark.parametrize("model", [Counting(), Branching(), Dropping()], ids=lambda m: type(m).__name__)
def test_what_only_a_trial_shows_is_refused_in_one_line(model):
    with pytest.raises(InputError, match="member 0 cannot be trained together") as refused:
        train_together([Member(model, BASE)], toy_data())
    assert "\n" not in str(refused.value)


def test_ignored_targets_are_refused():
    data = toy_data()
    data.train.targets[5] = -100
    with pytest.raises(InputError, match="targets are ignored"):
        train_together([Member(perceptron(0), BASE)], data)


def test_large_networks_are_left_alone_and_small_ones_not():
    assert why_alone(perceptron(0), BASE) is None
    assert why_alone(Tied(0), BASE) is None
    assert why_alone(nn.InstanceNorm1d(3, affine=True), BASE) is None
    assert "stacking pays" in str(why_alone(mlp((784,), 10, (512,)), BASE))


def test_no_members_and_no_workers():
    assert train_together([], toy_data()) == []
    with pytest.raises(InputError, match="workers = 0"):
        train_together([], toy_data(), workers=0)


def test_torch_keeps_its_number_of_threads_and_its_random_state():
    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        train_together([Member(perceptron(i), replace(BASE, epochs=1)) for i in range(4)], toy_data(), workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), state)
