"""The table of obesity levels against a reading of the file by Python's own csv module."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from landscape import seeds
from landscape.data import load_dataset
from landscape.data.obesity import FEATURES, LEVELS, obesity_dataset
from landscape.errors import InputError
from landscape.models.mlp import mlp
from landscape.spec import TrainSpec
from landscape.training.run import train

FOLDER = Path(os.environ.get("LANDSCAPE_DATA", "")) / "obesity"
RAW, AGE_FIRST = (
    FOLDER / f"ObesityDataSet_{name}.csv" for name in ("raw_and_data_sinthetic", "age_first_column_order")
)
real = pytest.mark.skipif(not RAW.is_file() or not AGE_FIRST.is_file(), reason="needs the two files of obesity levels")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def whole(data) -> tuple[np.ndarray, np.ndarray]:
    """Both splits undone: the features before normalisation and the targets, in the file's order."""
    order = torch.randperm(2111, generator=seeds.stream(data.preprocessing["split_seed"], "table split"))
    tests = len(data.test)
    places = torch.cat([order[tests:].sort().values, order[:tests].sort().values]).argsort()
    x = torch.cat([data.train.inputs, data.test.inputs])[places].double().numpy()
    y = torch.cat([data.train.targets, data.test.targets])[places].numpy()
    return x * data.preprocessing["std"] + data.preprocessing["mean"], y


@real
def test_features_and_targets_are_those_of_the_file():
    data = obesity_dataset(FOLDER.parent)
    x, y = whole(data)
    frequency = {"no": 0, "Sometimes": 1, "Frequently": 2, "Always": 3}
    for row, features, target in zip(rows(RAW), x, y[:, 0], strict=True):
        yes = [float(row[k] == "yes") for k in ("family_history_with_overweight", "FAVC", "SMOKE", "SCC")]
        effort = ["Automobile", "Motorbike", "Public_Transportation", "Bike", "Walking"].index(row["MTRANS"])
        expected = [
            float(row["Gender"] == "Male"), float(row["Age"]), float(row["Height"]), 0.0, yes[0], yes[1],
            float(row["FCVC"]), float(row["NCP"]), frequency[row["CAEC"]], yes[2], float(row["CH2O"]), yes[3],
            float(row["FAF"]), float(row["TUE"]), frequency[row["CALC"]], effort,
        ]  # fmt: skip
        np.testing.assert_allclose(features, expected, atol=2e-5)
        assert LEVELS[int(target)] == row["NObeyesdad"]
    assert (data.task, data.classes, data.name) == ("regression", 1, "obesity")
    assert data.input_shape == (16,)
    assert (len(data.train), len(data.test)) == (1689, 422)
    assert data.train.targets.dtype == torch.float32


@real
def test_the_codes_rise_with_the_body_mass_index():
    found = rows(RAW)
    index = {level: [] for level in LEVELS}
    for row in found:
        index[row["NObeyesdad"]].append(float(row["Weight"]) / float(row["Height"]) ** 2)
    means = [np.mean(index[level]) for level in LEVELS]
    assert means == sorted(means)


@real
def test_training_features_are_standardised_and_the_test_part_by_the_same_numbers():
    data = obesity_dataset(FOLDER.parent, weight="keep")
    kept = data.train.inputs.double()
    torch.testing.assert_close(kept.mean(0), torch.zeros(16, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(kept.std(0, correction=0), torch.ones(16, dtype=torch.float64), atol=1e-5, rtol=0)
    assert data.test.inputs.mean(0).abs().max() > 1e-3
    zeroed = obesity_dataset(FOLDER.parent)
    assert not zeroed.train.inputs[:, 3].any()
    others = [i for i in range(16) if i != 3]
    assert torch.equal(zeroed.train.inputs[:, others], data.train.inputs[:, others])
    plain = obesity_dataset(FOLDER.parent, normalise="none", weight="keep")
    assert plain.train.inputs[:, 3].min() >= 39


@real
def test_both_column_orders_are_one_data_set():
    one, other = (obesity_dataset(path=str(path)) for path in (RAW, AGE_FIRST))
    assert one.sha256 == other.sha256
    assert one.preprocessing == other.preprocessing
    for split in ("train", "test"):
        assert torch.equal(getattr(one, split).inputs, getattr(other, split).inputs)
        assert torch.equal(getattr(one, split).targets, getattr(other, split).targets)


@real
def test_options_change_the_content_and_its_hash():
    default = obesity_dataset(FOLDER.parent)
    hashes = {default.sha256}
    for options in (
        {"encoding": "one_hot"}, {"weight": "keep"}, {"split_seed": 1}, {"test_fraction": 0.25},
        {"task": "classification"},
    ):  # fmt: skip
        changed = obesity_dataset(FOLDER.parent, **options)
        assert changed.sha256 not in hashes
        hashes.add(changed.sha256)
    hot = obesity_dataset(FOLDER.parent, encoding="one_hot", normalise="none")
    names = hot.preprocessing["features"]
    assert hot.input_shape == (len(names),) == (26,)
    for name in ("CAEC", "CALC", "MTRANS"):
        block = hot.train.inputs[:, [i for i, other in enumerate(names) if other.startswith(f"{name}=")]]
        assert block.shape[1] == len(FEATURES[name])
        assert torch.equal(block.sum(1), torch.ones(len(block)))
    classes = obesity_dataset(FOLDER.parent, task="classification")
    assert classes.classes == 7
    assert torch.bincount(torch.cat([classes.train.targets, classes.test.targets])).tolist() == [
        272, 287, 290, 290, 351, 297, 324
    ]  # fmt: skip


@real
def test_the_study_network_learns_from_it():
    data = load_dataset("obesity", (("split_seed", "3"),), FOLDER.parent)
    with seeds.global_stream(0, "network"):
        model = mlp(data.input_shape, data.classes, (18, 18, 18, 18))
    assert sum(p.numel() for p in model.parameters()) == 16 * 18 + 18 + 3 * (18 * 18 + 18) + 18 + 1
    history = train(model, data, TrainSpec(epochs=10, optimiser="adam", learning_rate=3e-3)).history
    variance = data.test.targets.var(correction=0).item()  # what the best constant leaves
    assert history[-1]["test_loss"] < 0.6 * variance


def write_table(path: Path, change) -> Path:
    """A made-up table with the right columns, rows and categories, after `change` of its first row."""
    header = [*FEATURES, "NObeyesdad"]
    body = [{**{k: v[0] if v else "1.5" for k, v in FEATURES.items()}, "NObeyesdad": LEVELS[0]} for _ in range(2111)]
    change(header, body)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, header, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(body)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, body: header.remove("FAF"), "other columns (FAF)"),
        (lambda header, body: body.pop(), "other rows (2110, not 2111)"),
        (lambda header, body: body[0].update(CALC="Often"), "the column CALC has the value 'Often'"),
        (lambda header, body: body[0].update(NObeyesdad="Obese"), "Obese missing"),
        (lambda header, body: body[0].update(Age="old"), "'old' is not a number"),
        (lambda header, body: [row.update(Age="old") for row in body], "the column Age holds text"),
    ],
)
def test_another_table_is_refused_in_one_line(tmp_path, change, message):
    assert obesity_dataset(path=str(write_table(tmp_path / "good.csv", lambda header, body: None))).classes == 1
    with pytest.raises(InputError) as refused:
        obesity_dataset(path=str(write_table(tmp_path / "bad.csv", change)))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "language"}, "task = 'language'"), ({"encoding": "hot"}, "encoding = 'hot'"),
        ({"weight": "0"}, "weight = '0'"), ({"normalise": "half"}, "normalise = 'half'"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0"),
    ],
)  # fmt: skip
def test_illegal_options_are_named(tmp_path, options, message):
    path = write_table(tmp_path / "good.csv", lambda header, body: None)
    with pytest.raises(InputError, match=message):
        obesity_dataset(path=str(path), **options)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(InputError, match="obesity not found: looked for ObesityDataSet_raw"):
        obesity_dataset(tmp_path)
    with pytest.raises(InputError, match="needs a folder of data sets"):
        obesity_dataset()
