"""EMA and SWA weights against torch's own averages of a loop written out; their files, rows and resumed runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import run
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from landscape import seeds
from landscape.checkpoint_files import write_checkpoint
from landscape.checkpoints import open_checkpoint
from landscape.data.dataset import Dataset, Split
from landscape.spec import TrainSpec
from landscape.training.folder import read_history
from landscape.training.run import train

SPEC = TrainSpec(epochs=5, batch_size=10, learning_rate=0.05, save_every=2)


def data() -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 80, torch.empty(4))
    y = x[:, :3].argmax(1)
    return Dataset("toy", Split(x[:53], y[:53]), Split(x[53:], y[53:]), "classification", 3, "", {})


def network(norm=True) -> nn.Module:
    with seeds.global_stream(1, "network"):
        layers = [nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.ReLU(), nn.Dropout(0.3)]
        return nn.Sequential(*layers, nn.Linear(8, 3))


def by_hand(model: nn.Module, after_step=lambda: None, after_epoch=lambda epoch: None) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(1, 6):
        model.train()
        with seeds.global_stream(0, "dropout", epoch):
            for part in seeds.permutation(seeds.stream(0, "order", epoch), 53).split(10):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(data().train.inputs[part]), data().train.targets[part]).backward()
                optimiser.step()
                after_step()
        after_epoch(epoch)


def close(found: nn.Module, expected: nn.Module, **tolerance) -> None:
    for (name, a), b in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        if a.is_floating_point():  # torch averages the counters of batch norm too, which means nothing
            torch.testing.assert_close(a, b, msg=name, **tolerance)


def measured(model: nn.Module) -> tuple[float, float]:
    scores = model.eval()(data().test.inputs)
    loss = nn.functional.cross_entropy(scores, data().test.targets)
    return loss.item(), (scores.argmax(1) == data().test.targets).double().mean().item()


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("ghost", [None, 4])
def test_ema_is_torchs(decay, ghost):
    model = network()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    found = train(network(), data(), replace(SPEC, ema=decay, ghost_batch=ghost))
    if ghost is None:
        by_hand(model, lambda: average.update_parameters(model))
        close(found.averages["ema"], average.module)
        assert measured(found.averages["ema"]) == pytest.approx(
            (found.history[-1]["ema_test_loss"], found.history[-1]["ema_test_accuracy"]), rel=1e-6
        )
    assert not any("forward" in vars(m) for m in [*found.averages["ema"].modules(), *found.model.modules()])


@pytest.mark.parametrize("first", [1, 3, 5])
def test_swa_is_the_mean_of_epoch_ends(first):
    model, ends = network(), []
    by_hand(model, after_epoch=lambda _: ends.append([p.detach().clone() for p in model.parameters()]))
    found = train(network(), data(), replace(SPEC, swa_from=first))
    for k, p in enumerate(found.averages["swa"].parameters()):
        torch.testing.assert_close(p, torch.stack([end[k] for end in ends[first - 1 :]]).mean(0))
    rows = found.history
    assert [row["swa_test_loss"] is None for row in rows] == [row["epoch"] < first for row in rows]
    assert (rows[-1]["swa_test_loss"], rows[-1]["swa_test_accuracy"]) == pytest.approx(
        measured(found.averages["swa"]), rel=1e-6
    )


def test_swa_statistics_are_those_of_the_averaged_weights():
    spec = replace(SPEC, swa_from=2, batch_size=53)  # one batch, so that the statistics are those of all examples
    swa = train(network(), data(), spec).averages["swa"]
    assert isinstance(swa, nn.Sequential)
    with torch.no_grad():
        before_norm = swa[0](data().train.inputs)
    torch.testing.assert_close(swa[1].running_mean, before_norm.mean(0))
    torch.testing.assert_close(swa[1].running_var, before_norm.var(0))


def test_averages_do_not_touch_the_training():
    plain, kept = (train(network(), data(), s) for s in (SPEC, replace(SPEC, ema=0.9, swa_from=2)))
    assert all(torch.equal(v, kept.model.state_dict()[k]) for k, v in plain.model.state_dict().items())
    assert [{k: v for k, v in row.items() if k in plain.history[0] and k != "seconds"} for row in kept.history] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in plain.history
    ]


class StoppedError(Exception):
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "checkpoints").iterdir()}


@pytest.mark.parametrize("step", [3, 7, 15, 22, 28])
def test_interrupted_averages_resume_to_the_same_bits(step, tmp_path):
    spec = replace(SPEC, ema=0.9, swa_from=2)

    def stop(done, total, note):
        if done == step:
            raise StoppedError

    whole = train(network(), data(), spec, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(network(), data(), spec, tmp_path / "cut", progress=stop, pause=0.0)
    again = train(network(), data(), spec, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert {"ema.safetensors", "swa.safetensors"} <= contents(tmp_path / "cut").keys()
    without = [[{k: v for k, v in row.items() if k != "seconds"} for row in r] for r in (whole.history, again.history)]
    assert without[0] == without[1]
    finished = train(network(), data(), spec, tmp_path / "cut", progress=stop)
    for kind in ("ema", "swa"):
        close(finished.averages[kind], whole.averages[kind], rtol=0, atol=0)


def test_averages_are_checkpoints_that_every_command_opens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "r"
    run("train", folder, "--model", "mlp", "--model-arg", "widths=8", "--epochs", 3, "--ema", 0.9, "--swa-from", 2)
    last = read_history(folder)[-1]
    for kind in ("ema", "swa"):
        for path in (folder / "checkpoints" / f"{kind}.safetensors", f"{folder}@{kind}"):
            opened = open_checkpoint(path)
            assert opened.label == f"r@{kind}"
            assert opened.evaluate("test").loss == pytest.approx(last[f"{kind}_test_loss"], rel=1e-5)
        shown = json.loads(run("sharpness", f"{folder}@{kind}", "--json", "--trials", 1, "--restarts", 1,
                               "--iterations", 2, "--dimension", 5).stdout)  # fmt: skip
        assert shown["provenance"]["checkpoint"].endswith(f"{kind}.safetensors")
        stored = opened.weights.record["metrics"]
        assert stored["test_accuracy"] == last[f"{kind}_test_accuracy"]
        assert opened.evaluate("test").accuracy == pytest.approx(stored["test_accuracy"])
    assert open_checkpoint(folder).label == "r"  # the last epoch, not an average


def test_an_average_better_than_the_weights_is_no_reason_to_doubt_them(tmp_path):
    run("train", tmp_path / "r", "--model", "mlp", "--model-arg", "widths=8", "--epochs", 1)
    opened = open_checkpoint(tmp_path / "r")

    def notes(**metrics):
        write_checkpoint(tmp_path / "x.safetensors", {**opened.weights.record, "metrics": metrics},
                         opened.model.state_dict())  # fmt: skip
        return open_checkpoint(tmp_path / "x.safetensors").notes

    assert any("test_accuracy" in note for note in notes(test_accuracy=1.0))
    assert notes(swa_test_accuracy=1.0, ema_test_accuracy=1.0) == ()
