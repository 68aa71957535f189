"""Reading weights of every kind, refusing everything else in one line, and posing the problem they belong to."""

import io
import json
import pickle
import random
import tarfile
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from landscape import checkpoints
from landscape.checkpoints import choose_device, describe, load_into, open_checkpoint, prepare, read_weights
from landscape.errors import InputError
from landscape.files import seal
from landscape.reading.weights import Weights
from landscape.spec import ProblemSpec, TrainSpec
from landscape.training.run import train


def network(width=5, norm=False):
    layers = [nn.Linear(4, width), nn.BatchNorm1d(width)] if norm else [nn.Linear(4, width)]
    return nn.Sequential(OrderedDict(body=nn.Sequential(*layers), head=nn.Linear(width, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return network()


def write(path, value, **options):
    torch.save(value, path, **options)
    return path


def one_line(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in expected)


# -- formats -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "no_extension"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "sealed"])
def test_formats_are_told_apart_by_content(tmp_path, model, kind, name):
    path, state = tmp_path / name, model.state_dict()
    if kind == "safetensors":
        safetensors.torch.save_file(state, path, {"epoch": "3"})
    elif kind == "sealed":
        path.write_bytes(seal({"kind": "checkpoint", "epoch": 3}, {k: v.numpy() for k, v in state.items()}))
    else:
        write(path, {"state_dict": state, "epoch": 3}, _use_new_zipfile_serialization=kind == "zip")
    weights = read_weights(path)
    assert same(weights.tensors, state)
    assert weights.stored["epoch"] in (3, "3")
    assert (weights.record != {}) == (kind == "sealed")
    described = describe(path)
    assert described["sha256"] == weights.sha256
    assert described["values"] == sum(p.numel() for p in model.parameters())
    assert described["tensors"][-1 if kind in ("zip", "legacy") else 2][2] == "float32"
    json.dumps(described)


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model_state", "model", "net", "params", "ema", "odd"]
)
def test_wrappers_are_found_and_named(tmp_path, model, key):
    value = {"epoch": torch.tensor(7), "best_acc": np.float64(0.5), key: model.state_dict(), "optimizer": {"state": {}}}
    weights = read_weights(write(tmp_path / "w.pt", value))
    assert same(weights.tensors, model.state_dict())
    assert weights.wrapper == key
    assert weights.stored == {"epoch": 7, "best_acc": 0.5}
    assert repr(key) in weights.notes[0]


def test_nested_wrappers_and_averages(tmp_path, model):
    average = {k: v + 1 for k, v in model.state_dict().items()}
    value = {"ema": average, "model": {"state_dict": model.state_dict()}}
    weights = read_weights(write(tmp_path / "w.pt", value))
    assert same(weights.tensors, model.state_dict())
    assert weights.wrapper == "model.state_dict"
    assert "also holds ema" in weights.notes[0]


def test_numbers_beside_bare_names(tmp_path, model):
    weights = read_weights(write(tmp_path / "w.pt", {**model.state_dict(), "epoch": 4}))
    assert same(weights.tensors, model.state_dict())
    assert weights.stored == {"epoch": 4}


# -- refusals ----------------------------------------------------------------------------------------


class Touch:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def scripted(path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)


def with_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO(b""))


def exported(path):
    class Plain(nn.Module):
        def forward(self, x):
            return x + 1

    torch.export.save(torch.export.export(Plain(), (torch.zeros(2),)), path)


def quantised(path):
    write(path, {"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)})


LEGACY = {"_use_new_zipfile_serialization": False}
W = {"a.weight": torch.ones(2, 2)}
REFUSALS = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "folder": (lambda p: p.mkdir(), "not a run folder"),
    "distributed": (lambda p: (p.mkdir(), (p / ".metadata").write_bytes(b"\x80\x02.")), "distributed checkpoint"),
    "truncated": (lambda p: (write(p, W), p.write_bytes(p.read_bytes()[:-9])), "truncated or damaged"),
    "module": (lambda p: write(p, network()), "class torch.nn.modules.container.Sequential"),
    "old module": (lambda p: write(p, network(), **LEGACY), "whole pickled object of class torch.nn"),
    "optimiser": (lambda p: write(p, {**W, "o": torch.optim.SGD([W["a.weight"]], 0.1)}), "torch.optim.sgd.SGD"),
    "torchscript": (scripted, "TorchScript"),
    "export": (exported, "torch.export"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.ones(2)), ".npz"),
    "npy": (lambda p: np.save(p.open("wb"), np.ones(2)), "a NumPy array"),
    "tar": (with_tar, "a tar archive"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(20)), "gzip"),
    "hdf5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
    "onnx": (lambda p: p.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(99)), "ONNX"),
    "json": (lambda p: p.write_text('{"a": {"b": 1}}'), "JSON"),
    "page": (lambda p: p.write_text("<!DOCTYPE html><html>Not found</html>"), "web page"),
    "pointer": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "zeros": (lambda p: p.write_bytes(bytes(4096)), "zero bytes"),
    "noise": (lambda p: p.write_bytes(random.Random(0).randbytes(500)), "none of the known kinds"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"a": [1.0]})), "torch.save did not write"),
    "tensor": (lambda p: write(p, torch.ones(3)), "holds no state dict, but a Tensor"),
    "list": (lambda p: write(p, [torch.ones(3)]), "holds no state dict, but a list"),
    "no tensors": (lambda p: write(p, {"epoch": 3, "lr": 0.1}), "its keys are: epoch, lr"),
    "nothing": (lambda p: write(p, {}), "none at all"),
    "two": (lambda p: write(p, {"gen": W, "disc": W}), "several state dicts (gen, disc)"),
    "nan": (lambda p: write(p, {"a.w": torch.tensor([1.0, float("nan"), float("inf")])}), "a.w holds 1 NaN and 1 inf"),
    "complex": (lambda p: write(p, {"a.w": torch.ones(3, dtype=torch.complex64)}), "complex64"),
    "sparse": (lambda p: write(p, {"a.w": torch.eye(3).to_sparse()}), "sparse tensors"),
    "float8": (lambda p: write(p, {"a.w": torch.ones(3).to(torch.float8_e4m3fn)}), "float8_e4m3fn"),
    "meta": (lambda p: write(p, {"a.w": torch.ones(3, device="meta")}), "meta"),
    "safetensors": (lambda p: p.write_bytes(safetensors.torch.save(W)[:-1]), "damaged safetensors"),
    "no safetensors": (lambda p: p.write_bytes(safetensors.torch.save({})), "holds no tensors"),
    "result": (lambda p: p.write_bytes(seal({"kind": "hessian"}, {})), "landscape result"),
    "state": (lambda p: p.write_bytes(seal({"kind": "state"}, {})), "run resumes from"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSALS)
def test_everything_else_is_refused_in_one_line(tmp_path, case):
    make, words = REFUSALS[case]
    make(tmp_path / "file.pt")
    message = one_line(read_weights, tmp_path / "file.pt")
    assert words in message
    assert "file.pt" in message


@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning", "ignore:.*quantiz.*")
def test_quantised_weights_are_refused(tmp_path):
    quantised(tmp_path / "w.pt")
    assert "quantised" in one_line(read_weights, tmp_path / "w.pt")


def test_a_missing_file_says_so(tmp_path):
    assert "does not exist" in one_line(read_weights, tmp_path / "absent.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain 0", "plain 2", "plain 5", "beside"])
def test_nothing_is_executed(tmp_path, kind):
    target, path = tmp_path / "made", tmp_path / "w.pt"
    if kind.startswith("plain"):
        path.write_bytes(pickle.dumps(Touch(target), int(kind[-1])))
    else:
        value = {**W, "x": Touch(target)} if kind == "beside" else Touch(target)
        write(path, value, _use_new_zipfile_serialization=kind != "legacy")
    assert ".open" in one_line(read_weights, path)
    assert not target.exists()


def test_masks_of_minus_infinity_are_no_divergence(tmp_path):
    mask = torch.full((3, 3), -torch.inf).triu(1)
    assert same(read_weights(write(tmp_path / "w.pt", {**W, "a.mask": mask})).tensors, {**W, "a.mask": mask})


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "sealed"])
def test_damaged_files_give_one_line_or_load(tmp_path, kind):
    state = {f"layer{k}.weight": torch.ones(3, k + 1) for k in range(4)}
    if kind == "safetensors":
        content = safetensors.torch.save(state)
    elif kind == "sealed":
        content = seal({"kind": "checkpoint", "epoch": 0}, {k: v.numpy() for k, v in state.items()})
    else:
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=kind == "zip")
        content = buffer.getvalue()
    rng, path, noticed = random.Random(1), tmp_path / "w", []
    for number in range(400):
        damaged = bytearray(content)
        if number % 2:
            del damaged[rng.randrange(len(content)) :]
        else:
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            read_weights(path)
            noticed.append(False)
        except InputError as error:
            noticed.append("\n" not in str(error))
    assert all(noticed[1::2])
    assert all(noticed) == (kind in ("zip", "sealed"))


# -- names -------------------------------------------------------------------------------------------


def weights_of(tensors, path="w.pt"):
    return Weights(checkpoints.Path(path), "PyTorch zip archive", "0" * 64, tensors)


PREFIXES = ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module.net.", "my.own."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_stripped(model, prefix):
    theirs = {k: v + 1 for k, v in model.state_dict().items()}
    notes = load_into(model, weights_of({prefix + k: v for k, v in theirs.items()}))
    assert same(model.state_dict(), theirs)
    assert bool(notes) == (prefix not in ("", "_orig_mod."))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_prefixes_are_added(model, prefix):
    theirs = {k: v + 1 for k, v in model.state_dict().items()}
    wrapped = nn.ModuleDict({"net": model})
    load_into(wrapped, weights_of({prefix + k: v for k, v in theirs.items()}))
    assert same(model.state_dict(), theirs)


def test_wrappers_inside_are_ignored(model):
    theirs = {k: v + 1 for k, v in model.state_dict().items()}
    load_into(model, weights_of({k.replace("body.", "body.module._orig_mod."): v for k, v in theirs.items()}))
    assert same(model.state_dict(), theirs)


def test_what_lies_beside_the_model_is_left_out_and_said(model):
    theirs = {k: v + 1 for k, v in model.state_dict().items()}
    averaged = {f"model_ema.{k}": v * 0 for k, v in theirs.items()}
    both = {**averaged, **{f"model.{k}": v for k, v in theirs.items()}, "criterion.weight": torch.ones(3)}
    notes = load_into(model, weights_of(both))
    assert same(model.state_dict(), theirs)
    assert "left out" in notes[0]


def test_batch_norm_counters_and_tied_names_may_be_missing():
    model = network(norm=True)
    state = {k: v + 1 for k, v in model.state_dict().items() if "num_batches" not in k}
    load_into(model, weights_of(state))
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    tied = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    tied["b"].weight = tied["a"].weight
    state = {k: v + 1 for k, v in tied.state_dict().items() if k != "b.weight"}
    load_into(tied, weights_of(state))
    assert torch.equal(tied["b"].weight, state["a.weight"])


@pytest.mark.parametrize(
    ("dtype", "said"), [(torch.float16, "float16 to float32"), (torch.float64, "float64 to float32")]
)
def test_conversions_are_said(model, dtype, said):
    notes = load_into(model, weights_of({k: v.to(dtype) for k, v in model.state_dict().items()}))
    assert said in notes[0]


def renamed(state, old, new):
    return {k.replace(old, new): v for k, v in state.items()}


MISFITS = {
    "missing": (lambda s: {k: v for k, v in s.items() if k != "head.bias"}, ["1 of the model's 4", "(head.bias)"]),
    "unexpected": (lambda s: {**s, "head2.weight": s["head.bias"]}, ["1 in the file", "head2.weight", "larger"]),
    "shape": (lambda s: {**s, "body.0.weight": torch.ones(7, 9)}, ["body.0.weight: (7, 9) in the file", "(5, 4)"]),
    "classes": (
        lambda s: {**s, "head.weight": torch.ones(100, 5), "head.bias": torch.ones(100)},
        ["(100, 5)", "number of classes"],
    ),
    "strangers": (lambda s: {f"x{k}": torch.ones(2) for k in range(9)}, ["… 5 more", "another architecture"]),
    "integers": (lambda s: {**s, "head.bias": torch.ones(3, dtype=torch.int8)}, ["head.bias: int8 in the file"]),
    "part": (lambda s: {f"a.{k}": v for k, v in s.items()} | {f"b.{k}": v for k, v in s.items()}, ["not in the model"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_misfits_are_named_and_change_nothing(model, case):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    change, words = MISFITS[case]
    message = one_line(load_into, model, weights_of(change(model.state_dict())))
    assert all(word in message for word in words), message
    assert same(model.state_dict(), before)


# -- problems ----------------------------------------------------------------------------------------

FACTORIES = """
import torch
from torch import nn

def data(shift: float = 0.0):
    g = torch.Generator().manual_seed(5)
    x = torch.randn(60, 4, generator=g)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 1).long()
    return x[:40] + shift, y[:40], x[40:] + shift, y[40:]

def model(width: int = 5, outputs: int = 3):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, outputs))

def small(outputs: int = 3):
    return nn.Linear(4, 2)

def broken():
    return nn.Linear(9, 3)
"""


@pytest.fixture
def factories(tmp_path):
    path = tmp_path / "factories.py"
    path.write_text(FACTORIES)
    return path


@pytest.fixture
def spec(factories):
    return ProblemSpec(model=f"{factories}:model", data=f"{factories}:data", device="cpu", dtype="float64")


@pytest.fixture
def run(tmp_path, spec):
    """A real run of two epochs."""
    model, dataset = prepare(spec, seed=3)
    record = {"model": spec.model, "model_args": [["width", "5"]], "data": spec.data, "data_args": []}
    train(model, dataset, TrainSpec(epochs=2, save_every=1, batch_size=8), tmp_path / "run", record)
    return tmp_path / "run"


def test_a_run_knows_its_model_data_and_beginning(run, spec):
    opened = open_checkpoint(run, ProblemSpec(device="cpu", dtype="float64"))
    start, _ = prepare(spec, seed=3)
    flat = torch.cat([p.detach().reshape(-1) for p in start.parameters()])
    assert torch.equal(opened.initial, flat)
    assert not torch.equal(opened.train.weights, flat)
    assert opened.path.name == "epoch_0002.safetensors"
    assert opened.label == "run"
    assert (opened.train.size, opened.test.size) == (40, 20)
    assert opened.main is opened.train
    record = opened.provenance()
    assert record["checkpoint_sha256"] == opened.weights_sha256
    assert record["data_sha256"] == opened.dataset.sha256
    json.dumps(record)


def test_runs_are_addressed_by_folder_epoch_or_file(run):
    spec = ProblemSpec(device="cpu")
    first = open_checkpoint(f"{run}@0", spec)
    assert torch.equal(first.train.weights, first.initial)
    assert first.label == "run@0"
    file = open_checkpoint(run / "checkpoints" / "epoch_0001.safetensors", spec)
    assert torch.equal(file.train.weights, open_checkpoint(f"{run}@1", spec).train.weights)
    assert "has those of 0, 1, 2" in one_line(open_checkpoint, f"{run}@7", spec)


def test_evaluation_is_that_of_the_model(run):
    opened = open_checkpoint(run, ProblemSpec(device="cpu", dtype="float64", split="test"))
    inputs, targets = opened.dataset.test.inputs.double(), opened.dataset.test.targets
    with torch.no_grad():
        outputs = opened.model(inputs)
    loss = nn.functional.cross_entropy(outputs, targets).item()
    accuracy = (outputs.argmax(1) == targets).double().mean().item()
    assert opened.evaluate() == pytest.approx((loss, accuracy))
    assert opened.main is opened.test
    assert opened.evaluate("train").loss != opened.evaluate("test").loss


def test_the_spec_wins_over_the_record_and_arguments_merge(run, factories):
    shifted = open_checkpoint(run, ProblemSpec(device="cpu", data_args=(("shift", "2.0"),)))
    plain = open_checkpoint(run, ProblemSpec(device="cpu"))
    assert dict(shifted.spec.data_args) == {"shift": "2.0"}
    torch.testing.assert_close(shifted.dataset.train.inputs, plain.dataset.train.inputs + 2)
    assert any("SHA-256 differs" in note for note in shifted.notes)
    assert not any("SHA-256" in note for note in plain.notes)
    other = ProblemSpec(device="cpu", model=f"{factories}:small")
    assert "does not fit" in one_line(open_checkpoint, run, other)


def test_data_are_loaded_once_and_shared(run):
    spec = ProblemSpec(device="cpu")
    first, second = open_checkpoint(f"{run}@1", spec), open_checkpoint(f"{run}@2", spec)
    assert first.dataset is second.dataset
    assert first.train.batches is second.train.batches
    fewer = open_checkpoint(run, replace(spec, examples=30))
    assert (fewer.train.size, fewer.test.size) == (30, 20)


def test_a_foreign_file_needs_model_and_data(tmp_path, spec):
    path = write(tmp_path / "w.pt", W)
    assert "--model" in one_line(open_checkpoint, path)
    assert "--data" in one_line(open_checkpoint, path, replace(spec, data=None))
    assert "--model" in one_line(prepare, ProblemSpec(data="digits"))


@pytest.mark.parametrize("names", ["broken", "small"])
def test_models_that_do_not_take_the_data_say_so(tmp_path, spec, factories, names):
    module = nn.Linear(9, 3) if names == "broken" else nn.Linear(4, 2)
    path = write(tmp_path / "w.pt", module.state_dict())
    message = one_line(open_checkpoint, path, replace(spec, model=f"{factories}:{names}"))
    assert ("does not take the data" in message) or ("has 2 outputs" in message)


def test_accuracies_that_cannot_be_right_are_noted(tmp_path, spec):
    model, _ = prepare(spec, seed=0)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    path = write(tmp_path / "w.pt", {"state_dict": model.state_dict(), "best_prec1": 97.5, "epoch": 9})
    notes = " ".join(open_checkpoint(path, spec).notes)
    assert "what guessing gives" in notes
    assert "best_prec1 = 97.5" in notes


def test_prepare_depends_on_the_seed_alone(spec):
    torch.manual_seed(1)
    first, before = prepare(spec, 7)[0].state_dict(), torch.get_rng_state()
    torch.rand(3)
    assert same(prepare(spec, 7)[0].state_dict(), first)
    assert not same(prepare(spec, 8)[0].state_dict(), first)
    torch.manual_seed(1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "meta", "cuda:x"])
def test_devices_that_are_not_there_are_refused(name):
    assert name in one_line(choose_device, name)


def test_auto_takes_a_gpu_when_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
