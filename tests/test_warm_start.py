"""A large-batch run begun from a small-batch run's checkpoint: its weights, its record, and what resumes it."""

from pathlib import Path

import pytest
import torch
from commands import refused, run

from landscape.checkpoints import open_checkpoint, read_weights
from landscape.training.configuration import read_config

SMALL = ("--model", "mlp", "--model-arg", "widths=8", "--data-arg", "label_noise=0.2")
LARGE = ("--batch-size", 700, "--epochs", 2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    run("train", folder, *SMALL, "--epochs", 3, "--save-every", 1)
    return folder


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["{}/checkpoints/epoch_0002.safetensors", "{}@2"])
def test_begins_with_the_weights_model_and_data_of_the_checkpoint(small, name):
    start = name.format(small)
    run("train", "large", "--start-from", start, *LARGE)
    first, theirs = read_weights("large@0"), read_weights(start)
    assert first.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(first.tensors[k], theirs.tensors[k]) for k in first.tensors)
    record = read_config(Path("large"))["record"]
    assert record["start"] == {"label": "small@2", "sha256": theirs.sha256}
    opened = open_checkpoint("large")
    assert dict(opened.spec.model_args)["widths"] == "8"
    assert dict(opened.spec.data_args)["label_noise"] == "0.2"
    moved = (opened.train.weights - opened.initial).double().norm().item()
    assert opened.weights.record["metrics"]["distance"] == pytest.approx(moved, rel=1e-6)


def test_the_same_command_resumes_and_another_start_is_refused(small):
    run("train", "large", "--start-from", f"{small}@2", *LARGE)
    before = read_weights("large").sha256
    run("train", "large", "--start-from", f"{small}@2", *LARGE)
    assert read_weights("large").sha256 == before
    assert "record.start" in refused("train", "large", "--start-from", f"{small}@1", *LARGE)
    assert "another configuration" in refused("train", "large", *SMALL, *LARGE)


def test_other_weights_by_name_of_their_model(small, tmp_path):
    opened = open_checkpoint(small)
    torch.save(opened.model.state_dict(), tmp_path / "theirs.pt")
    run("train", "large", "--start-from", "theirs.pt", *SMALL, *LARGE)
    first = read_weights("large@0").tensors
    assert all(torch.equal(first[k], v.cpu()) for k, v in opened.model.state_dict().items())


def test_refused(small):
    assert "--model" in refused("train", "large", *LARGE)
    assert "does not fit the model" in refused("train", "large", "--start-from", small, "--model", "cnn", *LARGE)
    assert "nowhere" in refused("train", "large", "--start-from", "nowhere", *LARGE)
    assert not (small.parent / "large").exists()
