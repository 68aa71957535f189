import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from landscape.data import DATASETS, Dataset, Split, batches, load_dataset, subset
from landscape.data.idx import read_idx
from landscape.data.pickled import read_pickle
from landscape.errors import InputError
from landscape.losses import loss_by_name

OBESITY = "obesity/ObesityDataSet_raw_and_data_sinthetic.csv"
OTHER_ORDER = "obesity/ObesityDataSet_age_first_column_order.csv"
BY_BMI = (
    "Insufficient_Weight,Normal_Weight,Overweight_Level_I,Overweight_Level_II,"
    "Obesity_Type_I,Obesity_Type_II,Obesity_Type_III"
)


@pytest.fixture(autouse=True)
def _only_the_folder_given(monkeypatch):
    monkeypatch.delenv("LANDSCAPE_DATA", raising=False)


def refused(name, *arguments, folder=None):
    """The one line with which `load_dataset` refuses."""
    with pytest.raises(InputError) as caught:
        load_dataset(name, arguments, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- digits ------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_digits_split_once():
    data = load_dataset("digits", (("normalise", "none"), ("shape", "flat")))
    assert (len(data.train), len(data.test), data.classes, data.task) == (1437, 360, 10, "classification")
    both = torch.cat([data.train.inputs, data.test.inputs]).numpy() * 16
    labels = torch.cat([data.train.targets, data.test.targets]).numpy()
    pixels, numbers = load_digits(return_X_y=True)  # type: ignore[misc]
    ours, theirs = np.column_stack([both, labels]), np.column_stack([pixels, numbers])
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert data.sha256.startswith("9c7898cbe93c")  # the split and the content are fixed for good


def test_digits_are_standardised_by_the_training_part_alone():
    data = load_dataset("digits")
    assert data.input_shape == (1, 8, 8)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64
    pixels = data.train.inputs.double().numpy()
    assert abs(pixels.mean()) < 1e-6
    assert abs(pixels.std() - 1) < 1e-6
    assert abs(data.test.inputs.mean()) > 1e-4
    raw = load_dataset("digits", (("normalise", "none"),))
    assert data.sha256 == raw.sha256
    mean, std = data.preprocessing["mean"][0], data.preprocessing["std"][0]
    assert np.isclose(raw.train.inputs.numpy().mean(dtype=np.float64), mean)
    assert np.isclose(raw.train.inputs.numpy().std(dtype=np.float64), std)
    assert json.loads(json.dumps(data.preprocessing)) == data.preprocessing


def test_the_packaged_digits_say_whose_they_are():
    packed = (Path(__file__).parents[1] / "landscape" / "data" / "digits.csv.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # no time stamp: the file can be made again, byte for byte
    text = gzip.decompress(packed).decode()
    assert "10.24432/C50P49" in text
    assert "CC BY 4.0" in text


# -- subset and batches ------------------------------------------------------------------------------


def test_subset_is_fixed_by_its_seed_and_keeps_the_order():
    split = Split(torch.arange(50.0)[:, None], torch.arange(50))
    first = subset(split, 20, 3)
    assert torch.equal(first.targets, subset(split, 20, 3).targets)
    assert not torch.equal(first.targets, subset(split, 20, 4).targets)
    assert torch.equal(first.targets, first.targets.unique())
    assert torch.equal(first.inputs[:, 0].long(), first.targets)
    assert torch.equal(subset(split, 50, 0).targets, split.targets)
    for wrong in (0, 51):
        with pytest.raises(InputError, match="from 1 to 50"):
            subset(split, wrong, 0)


def test_batches_are_slices_in_order_and_only_real_numbers_take_the_dtype():
    split = Split(torch.rand(7, 2), torch.arange(7))
    parts = batches(split, 3, "cpu", torch.float64)
    assert [len(y) for _, y in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([y for _, y in parts]), split.targets)
    assert torch.equal(torch.cat([x for x, _ in parts]), split.inputs.double())
    assert batches(Split(torch.arange(4)[:, None], torch.rand(4, 1)), 4, dtype=torch.float64)[0][0].dtype == torch.int64
    with pytest.raises(InputError, match="batch_size"):
        batches(split, 0)


# -- idx ---------------------------------------------------------------------------------------------


def idx_bytes(array, magic=None):
    head = magic or struct.pack(">HBB", 0, 8, array.ndim)
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, images=None, labels=None, end="", dash="-"):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 6), ("t10k", 4)):
        pixels = rng.integers(0, 256, (count, 5, 7), np.uint8) if images is None else images
        numbers = np.arange(count, dtype=np.uint8) if labels is None else labels
        for kind, array in ((f"images{dash}idx3", pixels), (f"labels{dash}idx1", numbers)):
            content = idx_bytes(array)
            (folder / f"{part}-{kind}-ubyte{end}").write_bytes(gzip.compress(content) if end else content)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "sub"),
    [
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("mnist", "."),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "fashion-mnist"),
        ("fashion_mnist", "."),
    ],
)
def test_idx_is_read_from_every_usual_place(tmp_path, name, sub, end):
    write_idx(tmp_path / sub, end=end, dash="." if end else "-")
    data = load_dataset(name, (("normalise", "none"),), tmp_path)
    assert data.train.inputs.shape == (6, 1, 5, 7)
    stored = np.random.default_rng(0).integers(0, 256, (6, 5, 7), np.uint8)
    assert np.array_equal((data.train.inputs[:, 0] * 255).round().numpy(), stored)
    assert data.test.targets.tolist() == [0, 1, 2, 3]


def test_fashion_is_not_mistaken_for_mnist(tmp_path):
    write_idx(tmp_path / "mnist")
    assert "fashion_mnist not found" in refused("fashion_mnist", folder=tmp_path / "mnist")
    assert "fashion_mnist not found" in refused("fashion_mnist", folder=tmp_path)


def damage(path, **change):
    content = bytearray(path.read_bytes())
    if "cut" in change:
        content = content[: change["cut"]]
    if "flip" in change:
        content[change["flip"]] ^= 0x10
    path.write_bytes(content + change.get("append", b""))


@pytest.mark.parametrize(
    ("end", "change", "words"),
    [
        ("", {"cut": 100}, "shorter than the 210 bytes"),
        ("", {"cut": 9}, "not an idx file"),
        ("", {"cut": 0}, "starts with nothing"),
        ("", {"append": b"x"}, "longer"),
        ("", {"flip": 2}, "starts with 00 00 18 03"),
        ("", {"flip": 4}, "above 1 GiB"),
        (".gz", {"cut": 100}, "damaged"),
        (".gz", {"cut": -4}, "damaged"),
        (".gz", {"flip": -6}, "damaged"),
        (".gz", {"flip": 1}, "damaged"),
        (".gz", {"flip": 120}, "damaged"),
    ],
)
def test_damaged_idx_files_are_one_line(tmp_path, end, change, words):
    write_idx(tmp_path / "mnist", end=end)
    damage(tmp_path / "mnist" / f"train-images-idx3-ubyte{end}", **change)
    message = refused("mnist", folder=tmp_path)
    assert words in message
    assert "train-images-idx3-ubyte" in message


def test_idx_labels_must_fit_the_images(tmp_path):
    write_idx(tmp_path / "mnist", labels=np.zeros(5, np.uint8))
    assert "6 images" in refused("mnist", folder=tmp_path)
    write_idx(tmp_path / "mnist", images=np.zeros((5, 5, 7), np.uint8), labels=np.full(5, 10, np.uint8))
    assert "the class 10" in refused("mnist", folder=tmp_path)


def test_a_damaged_idx_file_is_noticed_wherever_a_bit_of_the_gzip_body_flips(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (9, 9, 9), np.uint8)
    content = gzip.compress(idx_bytes(array))
    path = tmp_path / "file.gz"
    for position in range(10, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(InputError):
            read_idx(path, 3)
    path.write_bytes(content)
    assert np.array_equal(read_idx(path, 3).numpy(), array)


# -- normalisation, resizing, classes ----------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path):
    write_idx(tmp_path / "mnist")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "mean", "std"),
    [
        ((("normalise", "none"),), 0, 1),
        ((("normalise", "half"),), 0.5, 0.5),
        ((("mean", ".1307"), ("std", ".3081")), 0.1307, 0.3081),
    ],
)
def test_fixed_normalisations(tiny, arguments, mean, std):
    stored = np.random.default_rng(0).integers(0, 256, (6, 5, 7), np.uint8)
    inputs = load_dataset("mnist", arguments, tiny).train.inputs[:, 0]
    assert np.allclose(inputs.numpy(), (stored / 255 - mean) / std, atol=1e-6)


def test_constant_images_are_divided_by_one(tmp_path):
    write_idx(tmp_path, images=np.full((3, 2, 2), 51, np.uint8), labels=np.arange(3, dtype=np.uint8))
    data = load_dataset("mnist", (), tmp_path)
    assert data.preprocessing["std"] == [1.0]
    assert data.train.inputs.abs().max() < 1e-7


@pytest.mark.parametrize("side", [14, 32])
def test_resizing_is_pillows_bilinear(tiny, side):
    stored = np.random.default_rng(0).integers(0, 256, (6, 5, 7), np.uint8)
    data = load_dataset("mnist", (("resize", str(side)), ("normalise", "none")), tiny)
    pillow = [np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BILINEAR)) for x in stored]
    difference = (data.train.inputs[:, 0] * 255).numpy() - np.stack(pillow)
    assert np.abs(difference).max() < 1.01
    assert (np.abs(difference) > 0.5).mean() < 0.05  # last-bit differences of fixed-point weights


def test_a_few_classes_are_renumbered_in_the_order_given():
    whole = load_dataset("digits", (("normalise", "none"),))
    some = load_dataset("digits", (("classes", "7,2"), ("normalise", "none")))
    assert some.classes == 2
    for number, code in ((7, 0), (2, 1)):
        expected = whole.train.inputs[whole.train.targets == number]
        assert torch.equal(some.train.inputs[some.train.targets == code], expected)
    assert some.sha256 != whole.sha256
    learned = load_dataset("digits", (("classes", "7,2"),)).preprocessing["mean"][0]
    assert np.isclose(learned, some.train.inputs.numpy().mean(dtype=np.float64))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((("normalise", "imagenet"),), "1 number(s)"),
        ((("normalise", "maximum"),), "train, none, half or imagenet"),
        ((("mean", "0.5"),), "both"),
        ((("mean", "0.5"), ("std", "0")), "above 0"),
        ((("mean", "nan"), ("std", "1")), "finite"),
        ((("classes", "3"),), "two or more"),
        ((("classes", "3,3"),), "two or more"),
        ((("classes", "3,10"),), "0 to 9"),
        ((("resize", "0"),), "resize"),
        ((("shape", "round"),), "image or flat"),
        ((("normalize", "train"),), "normalise=train"),
    ],
)
def test_wrong_arguments_of_images(arguments, words):
    assert words in refused("digits", *arguments)


# -- CIFAR -------------------------------------------------------------------------------------------


def cifar_parts(number):
    """Small random content for every file of CIFAR-10 or -100: name -> (pixels, labels)."""
    rng = np.random.default_rng(number)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if number == 10 else ["train", "test"]
    return {name: (rng.integers(0, 256, (3, 3072), np.uint8), rng.integers(0, number, 3)) for name in names}


def python_batch(pixels, labels, number, protocol=2):
    key = "labels" if number == 10 else "fine_labels"
    return pickle.dumps({"data": pixels, key: labels.tolist(), "filenames": ["a.png"] * len(labels)}, protocol)


def binary_batch(pixels, labels, number):
    coarse = [bytes([19])] * len(labels) if number == 100 else [b""] * len(labels)
    return b"".join(c + bytes([y]) + x.tobytes() for c, x, y in zip(coarse, pixels, labels, strict=True))


def write_cifar(folder, number, layout):
    """One of the published layouts: (python or binary) as (folder or tar.gz)."""
    kind, form = layout.split()
    names = {("python", 10): "batches-py", ("binary", 10): "batches-bin"}
    inner = f"cifar-{number}-" + (names.get((kind, number)) or kind)
    make, end = (python_batch, "") if kind == "python" else (binary_batch, ".bin")
    contents = {name + end: make(*part, number) for name, part in cifar_parts(number).items()}
    if form == "folder":
        (folder / inner).mkdir(parents=True)
        for name, content in contents.items():
            (folder / inner / name).write_bytes(content)
        return folder / inner
    archive = folder / f"cifar-{number}-{kind}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


LAYOUTS = ["python folder", "python archive", "binary folder", "binary archive"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [10, 100])
def test_every_layout_of_cifar_gives_the_stored_images(tmp_path, number, layout):
    write_cifar(tmp_path, number, layout)
    data = load_dataset(f"cifar{number}", (("normalise", "none"),), tmp_path)
    *train, test = cifar_parts(number).values()
    for split, parts in ((data.train, train), (data.test, [test])):
        stored = np.concatenate([x for x, _ in parts]).reshape(-1, 3, 32, 32)
        assert np.array_equal((split.inputs * 255).round().numpy(), stored)
        assert np.array_equal(split.targets.numpy(), np.concatenate([y for _, y in parts]))
    assert data.classes == number


def test_cifar_folder_may_be_the_batch_folder_itself(tmp_path):
    inner = write_cifar(tmp_path, 10, "python folder")
    assert len(load_dataset("cifar10", (), inner).train) == 15


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_in_pickles_of_every_protocol(protocol):
    table = np.arange(12, dtype=">i4").reshape(3, 4)
    record = {"c": table, "fortran": np.asfortranarray(table), "bytes": np.arange(5, dtype=np.uint8), "list": [1, 2]}
    read = read_pickle(pickle.dumps(record, protocol), "file")
    assert np.array_equal(read["c"], table)
    assert np.array_equal(read["fortran"], table)
    assert np.array_equal(read["bytes"], record["bytes"])
    assert read["list"] == [1, 2]


class Creates:
    """Unpickling this the usual way creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_pickle_that_would_create_a_file_is_refused_and_creates_nothing(tmp_path, form, monkeypatch):
    planted = tmp_path / "planted"
    bad = pickle.dumps({"data": Creates(planted), "labels": [1]}, 2)
    pickle.loads(bad)
    assert planted.exists()
    planted.unlink()  # so the pickle does work, where it is let
    monkeypatch.setitem(globals(), "python_batch", lambda *_: bad)
    write_cifar(tmp_path, 10, f"python {form}")
    message = refused("cifar10", folder=tmp_path)
    assert "Nothing was run" in message
    assert "asks to run" in message
    assert not planted.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\ndtype.__class__\n.",
        b"\x80\x02cnumpy\ndtype\nN}X\x04\x00\x00\x00evilK\x01s\x86b.",  # set an attribute on the stand-in
        b"Pidentity\n.",
    ],
)
def test_other_programs_in_pickles_are_refused(program):
    with pytest.raises(InputError, match=r"Nothing was run|damaged"):
        read_pickle(program, "file")


def test_object_arrays_in_pickles_are_refused():
    with pytest.raises(InputError, match="not of numbers"):
        read_pickle(pickle.dumps({"data": np.array([None, 1])}, 2), "file")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cut_or_flipped_cifar_files_are_one_line(tmp_path, layout):
    path = write_cifar(tmp_path, 10, layout)
    file = path / ("data_batch_2" if "python" in layout else "data_batch_2.bin") if path.is_dir() else path
    content = file.read_bytes()
    for cut in np.linspace(0, len(content) - 1, 40).astype(int):
        file.write_bytes(content[:cut])
        refused("cifar10", folder=tmp_path)
    if path.is_dir():
        return
    # From the gzip header's free text to the last byte of the body, in which unused bits mean nothing.
    for position in np.linspace(64, len(content) - 12, 40).astype(int):
        file.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert "Remove it" in refused("cifar10", folder=tmp_path)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "2 images and 1 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "outside 0 to 9"),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [1]}, "not uint8"),
        ({"data": np.zeros((1, 1024), np.uint8), "labels": [1]}, "not uint8 (N, 3072)"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "whole numbers"),
        ({"fine_labels": [1]}, "no `data` array"),
        ([1, 2], "no `data` array"),
    ],
)
def test_wrong_cifar_batches(tmp_path, batch, words):
    folder = write_cifar(tmp_path, 10, "python folder")
    (folder / "data_batch_3").write_bytes(pickle.dumps(batch, 2))
    message = refused("cifar10", folder=tmp_path)
    assert words in message
    assert "data_batch_3" in message


def test_a_missing_batch_is_named(tmp_path):
    (write_cifar(tmp_path, 10, "binary folder") / "data_batch_4.bin").unlink()
    assert "lacks data_batch_4.bin" in refused("cifar10", folder=tmp_path)


# -- tables ------------------------------------------------------------------------------------------

TABLE = (
    "\ufeffage,city,smokes,level\r\n30, Rome ,no,low\r\n40,Oslo,yes,high\r\n50,Rome,no,mid\r\n60,Bern,no,low\r\n\r\n"
)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "table.csv").write_bytes(TABLE.encode())
    return tmp_path


def loaded(folder, **arguments):
    arguments = {"path": "table.csv", "target": "level", "test_fraction": "0.25", "normalise": "none", **arguments}
    data = load_dataset("csv", tuple(arguments.items()), folder)
    inputs, targets = (torch.cat([getattr(s, k) for s in (data.train, data.test)]) for k in ("inputs", "targets"))
    return data, inputs[inputs[:, 0].argsort()].tolist(), targets[inputs[:, 0].argsort()].tolist()


def test_a_table_becomes_one_hot_features_and_sorted_classes(table):
    data, inputs, targets = loaded(table)
    assert data.preprocessing["features"] == ["age", "city=Bern", "city=Oslo", "city=Rome", "smokes=no", "smokes=yes"]
    rows = [[30, 0, 0, 1, 1, 0], [40, 0, 1, 0, 0, 1], [50, 0, 0, 1, 1, 0], [60, 1, 0, 0, 1, 0]]
    assert inputs == rows
    assert targets == [1, 0, 2, 1]  # high, low, mid
    assert (data.task, data.classes, data.name) == ("classification", 3, "table")


def test_a_table_with_ordered_target_ordinal_codes_dropped_and_zeroed_columns(table):
    data, inputs, targets = loaded(table, order="low,mid,high", encoding="ordinal", zero="smokes")
    assert inputs == [[30, 2, 0], [40, 1, 0], [50, 2, 0], [60, 0, 0]]
    assert targets == [[0], [2], [1], [0]]
    assert (data.task, data.classes, data.loss) == ("regression", 1, "mse")
    loss = loss_by_name(data.loss)(torch.zeros(len(data.train), 1), data.train.targets)
    assert loss == data.train.targets.square().sum()
    data, _, targets = loaded(table, order="low,mid,high", task="classification", drop="smokes,city")
    assert targets == [0, 2, 1, 0]
    assert data.input_shape == (1,)


def test_a_numeric_target_is_fitted_unless_classes_are_asked_for(table):
    assert load_dataset("csv", (("path", "table.csv"), ("target", "age")), table).train.targets.shape == (3, 1)
    data = load_dataset("csv", (("path", "table.csv"), ("target", "age"), ("task", "classification")), table)
    assert data.classes == 4


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ((",yes,", ", ,"), {}, "line 3, column smokes: the value is missing"),
        (("50,", "NaN,"), {}, "line 4, column age: the value is missing ('NaN')"),
        (("50,", "old,"), {}, "column age, line 4: 'old' is not a number"),
        (("50,", "1e999,"), {}, "column age, line 4: the value is not finite"),
        (("50,", "50,1,"), {}, "line 4: 5 values under 4"),
        (("smokes", "age"), {}, "repeated name ('age')"),
        (('50,Rome,no,mid', '"50,Rome'), {}, "line"),
        (("", ""), {"target": "weight"}, "age, city, smokes, level"),
        (("", ""), {"drop": "weight"}, "no column 'weight'"),
        (("", ""), {"drop": "age,city,smokes"}, "no feature left"),
        (("", ""), {"order": "low,high"}, "mid missing"),
        (("", ""), {"order": "low,high,mid,low"}, "repeated"),
        (("", ""), {"task": "regression"}, "order=LOWEST"),
        (("", ""), {"task": "guess"}, "classification or regression"),
        (("", ""), {"encoding": "hash"}, "one_hot or ordinal"),
        (("", ""), {"normalise": "half"}, "train or none"),
        (("", ""), {"test_fraction": "1"}, "below 1"),
        (("", ""), {"test_fraction": "0.01"}, "too few"),
        (("", ""), {"delimiter": ";;"}, "one character"),
        (("", ""), {"path": "absent.csv"}, "absent.csv"),
    ],
)  # fmt: skip
def test_faults_of_tables_are_named_with_line_and_column(table, change, arguments, words):
    (table / "table.csv").write_bytes(TABLE.replace(change[0], change[1], 1).encode())
    arguments = {"path": "table.csv", "target": "level", **arguments}
    assert words in refused("csv", *arguments.items(), folder=table)


def test_a_table_that_is_no_text_or_has_no_rows(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"a,b\n\xff\xfe\x00,1\n")
    assert "not UTF-8" in refused("csv", ("path", "table.csv"), ("target", "a"), folder=tmp_path)
    (tmp_path / "table.csv").write_bytes(b"a,b\n\n")
    assert "no rows" in refused("csv", ("path", "table.csv"), ("target", "a"), folder=tmp_path)
    assert "needs path, target" in refused("csv", folder=tmp_path)


# -- names, places, own data -------------------------------------------------------------------------


def test_unknown_names_are_answered_with_the_known_ones():
    message = refused("imagenet")
    assert all(name in message for name in DATASETS)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_missing_data_say_what_was_sought_where_and_how_to_get_it(tmp_path, name):
    message = refused(name, folder=tmp_path)
    assert f"{name} not found: looked for" in message
    assert str(tmp_path) in message
    assert "torchvision.datasets" in message
    assert "LANDSCAPE_DATA" in refused(name)
    assert "is not a folder" in refused(name, folder=tmp_path / "absent")


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write_idx(tmp_path / "mnist")
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path))
    assert len(load_dataset("mnist").train) == 6


def own(tmp_path, body):
    path = tmp_path / "own.py"
    path.write_text(f"import numpy as np, torch\nfrom landscape.data import Dataset, Split\n{body}\n")
    return f"{path}:make"


def test_the_users_own_arrays(tmp_path):
    name = own(
        tmp_path, "def make(n: int, folder):\n  return np.ones((n, 3)), [0, 1] * (n // 2), np.ones((2, 3)), [2, 0]"
    )
    data = load_dataset(name, (("n", "6"),), tmp_path)
    assert (data.classes, data.task, data.input_shape) == (3, "classification", (3,))
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.tolist() == [0, 1] * 3
    assert data.sha256 != load_dataset(name, (("n", "8"),), tmp_path).sha256


@pytest.mark.parametrize(
    ("targets", "dtype", "outputs"),
    [
        ("torch.rand(4)", torch.float32, 1),
        ("torch.rand(4, 2)", torch.float32, 2),
        ("[[0], [1], [2], [1]]", torch.int64, 3),
    ],
)
def test_the_users_own_targets(tmp_path, targets, dtype, outputs):
    data = load_dataset(
        own(tmp_path, f"def make():\n  y = {targets}\n  return torch.ones(4, 1), y, torch.ones(4, 1), y")
    )
    assert (data.train.targets.dtype, data.classes) == (dtype, outputs)
    assert data.train.targets.dim() == (1 if dtype == torch.int64 else 2)


def test_the_users_own_dataset_keeps_what_it_says(tmp_path):
    body = (
        "def make():\n  s = Split(torch.ones(2, 1), torch.tensor([0, 1]))\n"
        "  return Dataset('mine', s, s, 'classification', 5, '', {'by': 'hand'})"
    )
    data = load_dataset(own(tmp_path, body))
    assert isinstance(data, Dataset)
    assert (data.name, data.classes, data.preprocessing) == ("mine", 5, {"by": "hand"})
    assert len(data.sha256) == 64
    assert "say" in refused(own(tmp_path, body.replace("5, ''", "1, ''")))


X, Y = "np.ones((2, 3))", "[0, 1]"


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("3", "must return a Dataset"),
        (f"{X}, {Y}, {X}, [0]", "2 test_inputs and 1 test_targets"),
        (f"{X}, {Y}, np.ones((2, 4)), {Y}", "float32 (3,)"),
        (f"{X} * np.nan, {Y}, {X}, {Y}", "train_inputs holds NaN"),
        (f"{X}, [0.5, 1], {X}, {Y}", "train_targets are float32"),
        (f"{X}, [0, -1], {X}, {Y}", "negative"),
        (f"np.ones((2, 3), np.uint8), {Y}, {X}, {Y}", "Scale images"),
        (f"[1.0, 2.0], {Y}, {X}, {Y}", "(N, features)"),
        (f"['a', 'b'], {Y}, {X}, {Y}", "cannot be made a tensor"),
        (f"{X}[:0], [], {X}, {Y}", "train_inputs is empty"),
    ],
)
def test_faults_of_the_users_own_data(tmp_path, returned, words):
    assert words in refused(own(tmp_path, f"def make():\n  return {returned}"))


# -- the real files ----------------------------------------------------------------------------------


def test_real_mnist_has_its_published_mean_and_deviation(data_folder):
    data = load_dataset("mnist", (), data_folder)
    assert data.train.inputs.shape == (60_000, 1, 28, 28)
    assert data.test.inputs.shape == (10_000, 1, 28, 28)
    assert data.preprocessing["mean"] == pytest.approx([0.1307], abs=5e-5)
    assert data.preprocessing["std"] == pytest.approx([0.3081], abs=5e-5)
    assert data.train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(data.train.inputs.mean()) < 1e-4


@pytest.mark.slow
def test_real_cifar10_has_its_published_mean_and_deviation(data_folder):
    data = load_dataset("cifar10", (), data_folder)
    assert data.train.targets.bincount().tolist() == [5000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    assert data.preprocessing["mean"] == pytest.approx([0.4914, 0.4822, 0.4465], abs=6e-5)
    assert data.preprocessing["std"] == pytest.approx([0.2470, 0.2435, 0.2616], abs=6e-5)


def test_real_tables_agree_whatever_the_order_of_their_columns(data_folder):
    arguments = (("target", "NObeyesdad"), ("order", BY_BMI), ("zero", "Weight"))
    one, two = (load_dataset("csv", (("path", path), *arguments), data_folder) for path in (OBESITY, OTHER_ORDER))
    assert (len(one.train), len(one.test)) == (1689, 422)
    assert torch.equal(one.train.targets, two.train.targets)
    assert torch.cat([one.train.targets, one.test.targets]).flatten().long().bincount().tolist() == [
        272, 287, 290, 290, 351, 297, 324,
    ]  # fmt: skip
    features = two.preprocessing["features"]
    columns = [features.index(name) for name in one.preprocessing["features"]]
    assert torch.equal(one.train.inputs, two.train.inputs[:, columns])
    values = one.train.inputs.double()
    assert values.mean(0).abs().max() < 1e-6
    deviations = values.std(0, correction=0)
    weight = one.preprocessing["features"].index("Weight")
    assert values[:, weight].abs().max() == 0
    assert torch.allclose(deviations[torch.arange(len(deviations)) != weight], torch.ones(1).double(), atol=1e-5)
