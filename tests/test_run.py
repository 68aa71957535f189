"""The run folder: what it holds, what it refuses, and that no kill can harm it."""

import fcntl
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import killed_runs
import numpy as np
import pytest
import torch
from killed_runs import network, toy_data
from safetensors.torch import load_file
from torch import nn

from landscape.errors import InputError
from landscape.files import unseal
from landscape.spec import TrainSpec
from landscape.training.configuration import read_config
from landscape.training.folder import read_history
from landscape.training.outcome import DivergedError
from landscape.training.run import train

SPEC = TrainSpec(epochs=5, batch_size=30, save_every=2, rho=0.05, learning_rate=0.05)


class StoppedError(Exception):
    """Raised from the progress callback: an interruption in the middle of an epoch."""


def stop_at(step: int):
    def progress(done: int, total: int, note: str) -> None:
        if done == step:
            raise StoppedError

    return progress


def interrupted(folder: Path, step: int, spec: TrainSpec = SPEC, **options) -> None:
    with pytest.raises(StoppedError):
        train(network(), toy_data(), spec, folder, progress=stop_at(step), **{"pause": 0.0, **options})


def without_seconds(history) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name.startswith("checkpoints/")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted."""
    return train(network(), toy_data(), SPEC, tmp_path_factory.mktemp("run") / "whole", record={"model": "toy"})


# -- killed -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", killed_runs.CASES)
def test_sigkill_at_any_moment_changes_no_bit(case, tmp_path):
    subprocess.run([sys.executable, killed_runs.__file__, str(tmp_path), case], check=True, timeout=500)
    for kind, whole in (("random", tmp_path / "whole"), ("at", tmp_path / "short")):
        killed = list(tmp_path.glob(f"{kind}-*"))
        assert killed
        for folder in killed:
            assert checkpoints(folder) == checkpoints(whole)
            assert without_seconds(read_history(folder)) == without_seconds(read_history(whole))
            assert contents(folder).keys() == contents(whole).keys()
    assert len(list(tmp_path.glob("at-*"))) > 20  # the moments between any two file operations


@pytest.mark.parametrize("step", [1, 4, 5, 11])
def test_interrupted_run_resumes_to_the_same_bits(step, whole, tmp_path):
    interrupted(tmp_path, step, record={"model": "toy"})
    resumed = train(network(), toy_data(), SPEC, tmp_path, record={"model": "toy"})
    assert checkpoints(tmp_path) == checkpoints(whole.folder)
    assert without_seconds(resumed.history) == without_seconds(whole.history)


@pytest.mark.parametrize("damage", [b"", b'{"epoch": 1, "st', None], ids=["lost line", "torn line", "no file"])
def test_metrics_are_repaired_from_the_state(damage, tmp_path):
    interrupted(tmp_path, 10)
    metrics = tmp_path / "metrics.jsonl"
    good = metrics.read_bytes()
    assert good.count(b"\n") == 2
    if damage is None:
        metrics.unlink()
    else:
        metrics.write_bytes(good[: good.index(b"\n") + 1] + damage)
    interrupted(tmp_path, 10)
    assert metrics.read_bytes() == good


def test_history_of_a_torn_file_has_the_whole_lines(whole, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes((whole.folder / "metrics.jsonl").read_bytes()[:-5])
    assert read_history(tmp_path) == list(whole.history[:-1])


# -- what a run holds ---------------------------------------------------------------------------------------


def test_folder_and_configuration(whole):
    names = set(contents(whole.folder))
    kept = {f"checkpoints/epoch_{e:04d}.safetensors" for e in (0, 2, 4, 5)}
    assert names == {"config.json", "metrics.jsonl", "state.safetensors"} | kept
    config = read_config(whole.folder)
    assert TrainSpec.from_dict(config["train"]) == SPEC
    assert config["record"]["model"] == "toy"
    assert config["dtype"] == "float32"
    assert config["environments"][0]["torch"] == torch.__version__
    assert config["environments"][0]["threads"] == torch.get_num_threads()
    assert read_history(whole.folder) == list(whole.history)


def test_checkpoints_are_sealed_state_dicts(whole):
    path = whole.folder / "checkpoints" / "epoch_0005.safetensors"
    sealed = unseal(path.read_bytes(), path)
    state = whole.model.state_dict()
    assert sealed.arrays.keys() == state.keys()
    for name, array in sealed.arrays.items():
        assert array.shape == state[name].shape
        np.testing.assert_array_equal(array, state[name].numpy())
    record = sealed.record
    assert (record["kind"], record["epoch"], record["step"], record["model"]) == ("checkpoint", 5, 20, "toy")
    assert record["metrics"] == without_seconds(whole.history)[-1]
    network().load_state_dict(load_file(path))  # plain safetensors, strict names and shapes


def test_first_checkpoint_is_the_initial_model(whole):
    initial = load_file(whole.folder / "checkpoints" / "epoch_0000.safetensors")
    assert all(torch.equal(initial[k], v) for k, v in network().state_dict().items())


def test_folder_changes_no_bit(whole):
    plain = train(network(), toy_data(), SPEC)
    assert plain.folder is None
    assert all(torch.equal(v, whole.model.state_dict()[k]) for k, v in plain.model.state_dict().items())


def test_training_stops_at_a_loss_and_stays_stopped(whole, tmp_path):
    target = whole.history[2]["train_loss"]
    assert target < whole.history[1]["train_loss"]
    spec = replace(SPEC, until_loss=target, save_every=100)
    found = train(network(), toy_data(), spec, tmp_path / "run", progress=None)
    assert without_seconds(found.history) == without_seconds(whole.history[:3])
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())[-1].startswith("epoch_0003")
    again = train(network(), toy_data(), spec, tmp_path / "run", progress=stop_at(1))
    assert again.history == found.history
    assert all(torch.equal(v, found.model.state_dict()[k]) for k, v in again.model.state_dict().items())


def test_finished_run_returns_at_once(whole):
    before = contents(whole.folder)
    again = train(network(), toy_data(), SPEC, whole.folder, record={"model": "toy"}, progress=stop_at(1))
    assert again.history == whole.history
    assert all(torch.equal(v, whole.model.state_dict()[k]) for k, v in again.model.state_dict().items())
    assert contents(whole.folder) == before


def test_tied_weights_and_adam_resume(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.down.weight = self.up.weight

        def forward(self, x):
            return self.head(self.down(self.up(x).tanh()))

    torch.manual_seed(0)
    model, spec = Tied(), TrainSpec(epochs=3, batch_size=30, optimiser="adam", learning_rate=0.01)
    whole = train(model, toy_data(), spec).model
    with pytest.raises(StoppedError):
        train(model, toy_data(), spec, tmp_path, progress=stop_at(6), pause=0.0)
    resumed = train(model, toy_data(), spec, tmp_path).model
    assert resumed.down.weight is resumed.up.weight
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())


def test_resumes_with_the_runs_own_threads(tmp_path):
    interrupted(tmp_path, 6)
    threads, seen = torch.get_num_threads(), set()
    try:
        torch.set_num_threads(threads + 1)
        train(network(), toy_data(), SPEC, tmp_path, progress=lambda *_: seen.add(torch.get_num_threads()))
        assert seen == {threads}
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_another_environment_is_noted(tmp_path, caplog):
    interrupted(tmp_path, 6)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["environments"][0]["torch"] = "1.0"
    path.write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING):
        train(network(), toy_data(), SPEC, tmp_path)
    assert "another environment" in caplog.text
    assert [e["torch"] for e in read_config(tmp_path)["environments"]] == ["1.0", torch.__version__]


def test_divergence_keeps_what_was_saved(tmp_path):
    class Failing(nn.Linear):
        """Gives infinities from the seventh training step on, in the second epoch of four steps."""

        def __init__(self) -> None:
            super().__init__(6, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += self.training
            return super().forward(x) / (self.calls < 7)

    model, spec = Failing(), TrainSpec(epochs=4, batch_size=30, save_every=1)
    for _ in range(2):  # the second time it resumes after the epoch that was saved
        with pytest.raises(DivergedError, match=f"in epoch 2: .* Everything up to epoch 1 is kept in {tmp_path}"):
            train(model, toy_data(), spec, tmp_path, pause=0.0)
        assert [row["epoch"] for row in read_history(tmp_path)] == [1]
        assert {Path(name).stem for name in checkpoints(tmp_path)} == {"epoch_0000", "epoch_0001"}


def test_event_files(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    spec = TrainSpec(epochs=4, batch_size=60, tensorboard=True)
    interrupted(tmp_path, 6, spec)
    result = train(network(), toy_data(), spec, tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("test_loss")
    assert [e.step for e in events] == [1, 2, 3, 4]
    assert [e.value for e in events] == pytest.approx([row["test_loss"] for row in result.history], rel=1e-6)


def test_missing_tensorboard_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r'pip install "landscape-sharpness\[track\]"'):
        train(network(), toy_data(), TrainSpec(epochs=1, tensorboard=True), tmp_path)


# -- what is refused, with nothing overwritten --------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"spec": TrainSpec.from_dict({**SPEC.to_dict(), "learning_rate": 0.2})},
            "learning_rate is 0.05 there and 0.2",
        ),
        ({"record": {"model": "another"}}, "record.model is 'toy' there and 'another' here"),
        ({"record": {}}, "record.model is 'toy' there and None here"),
        ({"model": network().double()}, "dtype is 'float32' there"),
        ({"model": nn.Linear(6, 3)}, "another configuration"),
        ({"loss": "nll"}, "loss is 'cross_entropy' there"),
    ],
)
def test_another_configuration_is_refused(change, says, whole):
    before = contents(whole.folder)
    call = {"model": network(), "dataset": toy_data(), "spec": SPEC, "record": {"model": "toy"}, **change}
    with pytest.raises(InputError, match=says):
        train(folder=whole.folder, **call)
    assert contents(whole.folder) == before


def test_other_initial_weights_are_refused(whole):
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(1.01)
    with pytest.raises(InputError, match="does not start from the initial weights"):
        train(model, toy_data(), SPEC, whole.folder, record={"model": "toy"})


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files \(thesis.tex\)"):
        train(network(), toy_data(), SPEC, tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match=r"cannot use .*run for a run"):
        train(network(), toy_data(), SPEC, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"kind": "recipe"}', "does not describe a run"),
        ("state.safetensors", b"nonsense", "is not the state of a run"),
        ("state.safetensors", None, "has lost its state"),
        ("checkpoints/epoch_0000.safetensors", None, "does not exist"),
    ],
)
def test_a_damaged_run_is_refused(name, content, says, tmp_path):
    interrupted(tmp_path, 6)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=says):
        train(network(), toy_data(), SPEC, tmp_path)
    assert contents(tmp_path) == before


def test_a_flipped_bit_in_the_state_is_noticed(tmp_path):
    interrupted(tmp_path, 6)
    path = tmp_path / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        train(network(), toy_data(), SPEC, tmp_path)


def test_two_processes_cannot_share_a_folder(tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is training"):
            train(network(), toy_data(), SPEC, tmp_path)
    finally:
        os.close(handle)


def test_a_record_must_be_json(tmp_path):
    with pytest.raises(InputError, match="cannot be written as JSON"):
        train(network(), toy_data(), SPEC, tmp_path / "run", record={"model": object()})


def test_short_epochs_are_written_down_together_and_repeated_together(whole, tmp_path):
    interrupted(tmp_path, 15, record={"model": "toy"}, pause=1e6)  # in epoch 4; a checkpoint is due every 2
    assert [row["epoch"] for row in read_history(tmp_path)] == [1, 2]
    resumed = train(network(), toy_data(), SPEC, tmp_path, record={"model": "toy"}, pause=1e6)
    assert checkpoints(tmp_path) == checkpoints(whole.folder)
    assert without_seconds(read_history(tmp_path)) == without_seconds(whole.history)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
