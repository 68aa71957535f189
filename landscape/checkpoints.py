"""From a checkpoint to a problem: weights, the model and data they belong to, and how they were made.

The one place that chooses device and dtype.
"""

import copy
import os
import platform
import re
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.aliases import Vector
from landscape.data import Dataset
from landscape.errors import InputError, illegal
from landscape.problem import Evaluation, Problem
from landscape.reading.state_dicts import match
from landscape.reading.weights import AVERAGES, Weights, checkpoint_file, describe, read_weights
from landscape.setting import completed, dataset_of, fresh_model, pose
from landscape.spec import ProblemSpec

__all__ = [
    "Opened", "Weights", "begun_from", "checkpoint_file", "choose_device", "describe", "load_into", "open_checkpoint",
    "prepare", "read_weights",
]  # fmt: skip

_ACCURACY = re.compile(r"(^|_)(acc|accuracy|prec|top1)@?1?($|_)|acc(uracy)?1?$", re.IGNORECASE)
_SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Opened:
    """A checkpoint as a problem on its training data and one on its test data.

    path: the checkpoint file. label: a short name for tables. main: the problem of the split that was asked for;
    `examples` limits both splits. model: on the chosen device and dtype, with the weights in it. weights_sha256:
    of the file. initial: w₀ of the run, in the order of `Problem.weights`, None when it was not recorded. notes:
    everything a reader of the results should know, such as an accuracy that is no better than guessing.
    """

    path: Path
    label: str
    spec: ProblemSpec
    train: Problem
    test: Problem
    model: nn.Module
    dataset: Dataset
    weights: Weights = field(repr=False)
    initial: Vector | None = field(repr=False)
    notes: tuple[str, ...]
    _evaluations: dict[str, Evaluation] = field(default_factory=dict, repr=False)

    @property
    def main(self) -> Problem:
        return self.train if self.spec.split == "train" else self.test

    @property
    def settings(self) -> dict[str, Any]:
        """How the run was trained, {} for a checkpoint that does not record it."""
        return dict(self.weights.record.get("train") or {})

    @property
    def weights_sha256(self) -> str:
        return self.weights.sha256

    def evaluate(self, split: str | None = None) -> Evaluation:
        """Loss and accuracy at the loaded weights on a split (default: the one asked for), computed once."""
        split = split or self.spec.split
        if split not in _SPLITS:
            raise illegal("split", split, "train or test", "These are the data's two splits.")
        if split not in self._evaluations:
            problem = self.train if split == "train" else self.test
            self._evaluations[split] = problem.evaluate(problem.weights)
        return self._evaluations[split]

    def provenance(self) -> dict[str, Any]:
        """How these numbers can be had again, as plain values for a result's record."""
        return {
            "checkpoint": str(self.path), "checkpoint_sha256": self.weights.sha256,
            "format": self.weights.format, "wrapper": self.weights.wrapper, "stored": dict(self.weights.stored),
            "model": self.spec.model, "model_args": [list(pair) for pair in self.spec.model_args],
            "data": self.dataset.name, "data_args": [list(pair) for pair in self.spec.data_args],
            "data_sha256": self.dataset.sha256, "preprocessing": dict(self.dataset.preprocessing),
            "problem": self.spec.to_dict(), "notes": list(self.notes), "versions": _versions(),
        }  # fmt: skip


def load_into(model: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Put the weights into `model`, all of them or none, and say what was done to names and dtypes.

    Prefixes such as `module.` and `model.` are resolved against the model's own names. Batch-norm counters and
    the second name of a tied weight may be missing. Raises `InputError`, leaving the model as it was, when any
    other name is missing or left over, or a shape differs.
    """
    tensors, notes = match(weights.tensors, model, weights.path)
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    return notes


def open_checkpoint(path: str | os.PathLike[str], spec: ProblemSpec | None = None) -> Opened:
    """Read a checkpoint (a file, a run folder, `run@epoch`) and pose its training problem.

    Model, data and loss come from `spec`, and where it says nothing from the run's own record.
    Raises `InputError`, one line, for anything wrong with the file, when neither says what model or data to use,
    and when weights, model and data do not fit together.
    """
    weights = read_weights(path)
    spec = completed(spec or ProblemSpec(), weights.record, weights.path)
    device, dtype = choose_device(spec.device), getattr(torch, spec.dtype)
    dataset = dataset_of(spec)
    model = fresh_model(spec, dataset, seed=0).to(dtype)
    notes = [*weights.notes, *load_into(model, weights)]
    model = model.to(device).eval()
    train, test = (pose(model, dataset, split, spec, device, dtype) for split in _SPLITS)
    initial, trouble = _initial(weights, model, list(train.named(train.weights)))
    opened = Opened(
        weights.path, _label(weights), spec, train, test, model, dataset, weights,
        initial=initial, notes=(*notes, *trouble),
    )  # fmt: skip
    return replace(opened, notes=(*opened.notes, *_data_notes(opened), *_accuracy_notes(opened)))


def prepare(spec: ProblemSpec, seed: int = 0) -> tuple[nn.Module, Dataset]:
    """A freshly initialised model, on the spec's device and in its dtype, and the data to train it on.

    The initial weights depend on `seed` alone. Raises `InputError` as `open_checkpoint` does.
    """
    dataset = dataset_of(completed(spec, {}))
    return initial_model(spec, dataset, seed), dataset


def initial_model(spec: ProblemSpec, dataset: Dataset, seed: int) -> nn.Module:
    """The model that `prepare` gives, for data that are there already."""
    spec = completed(spec, {})
    return fresh_model(spec, dataset, seed).to(choose_device(spec.device), getattr(torch, spec.dtype))


def begun_from(
    spec: ProblemSpec, path: str | os.PathLike[str], data: str
) -> tuple[ProblemSpec, Weights, dict[str, str]]:
    """What a training needs that begins with the weights of a checkpoint: Figure 5 of Keskar et al. 2017.

    Gives the spec with model, data and loss that it leaves open filled in from the checkpoint's run, the weights for
    `load_into`, and what the new run's record says of them: their label and the SHA-256 of the file. `data` is used
    when neither says. Raises `InputError` for a file that holds no weights, and when neither says what model to use.
    """
    weights = read_weights(path)
    source = {"label": _label(weights), "sha256": weights.sha256}
    return (
        completed(spec, {**weights.record, "data": weights.record.get("data") or data}, weights.path),
        weights,
        source,
    )


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is a GPU when there is one. Raises `InputError` for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise illegal("device", name, "auto, cpu, cuda or cuda:N", "auto takes a GPU when there is one.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device = {name!r}: this machine has no GPU that PyTorch can use. Use --device cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise InputError(f"device = {name!r} does not exist: the last one is cuda:{last}. Name one of those.")
    if device.type not in ("cpu", "cuda"):
        raise illegal("device", name, "auto, cpu, cuda or cuda:N", "auto takes a GPU when there is one.")
    return device


def _initial(weights: Weights, model: nn.Module, names: list[str]) -> tuple[Vector | None, list[str]]:
    """The named parameters before training, flat; and a note when they should be there but cannot be read."""
    first = weights.path.with_name("epoch_0000.safetensors")
    if not weights.record or not first.exists():
        return None, []
    blank = copy.deepcopy(model)
    try:
        load_into(blank, read_weights(first))
    except InputError as error:
        return None, [f"no distance from the initial weights: {error}"]
    free = dict(blank.named_parameters())
    return torch.cat([free[name].detach().reshape(-1) for name in names]), []


def _label(weights: Weights) -> str:
    path = weights.path.resolve()
    if not weights.record or path.parent.name != "checkpoints":
        return (
            path.stem if path.suffix in (".pt", ".pth", ".th", ".ckpt", ".pkl", ".tar", ".safetensors") else path.name
        )
    run = path.parent.parent
    if weights.record.get("average"):
        return f"{run.name}@{weights.record['average']}"
    last = checkpoint_file(run)
    return run.name if last.name == path.name else f"{run.name}@{weights.record['epoch']}"


def _data_notes(opened: Opened) -> list[str]:
    trained_on = opened.weights.record.get("dataset", {}).get("sha256")
    if trained_on and trained_on != opened.dataset.sha256:
        return [f"the data {opened.dataset.name} are not those the run was trained on (their SHA-256 differs)"]
    return []


def _accuracy_notes(opened: Opened) -> list[str]:
    """Warnings that this may be the wrong network: a clean load proves nothing."""
    loss, accuracy = opened.evaluate()
    if loss != loss or abs(loss) == float("inf"):
        return ["the loss at these weights is not finite: wrong data, normalisation or dtype?"]
    if accuracy != accuracy:
        return []
    targets = torch.cat([targets for _, targets in opened.main.batches])
    guessing = targets.unique(return_counts=True)[1].max().item() / max(targets.numel(), 1)
    split, error = opened.spec.split, (guessing * (1 - guessing) / opened.main.size) ** 0.5
    notes = []
    if accuracy <= guessing + 3 * error and opened.weights.record.get("epoch") != 0:
        notes.append(
            f"{split} accuracy {100 * accuracy:.2f} % is what guessing gives ({100 * guessing:.1f} %): "
            "untrained, diverged, or the wrong model, data or normalisation"
        )
    for name, value in opened.weights.stored.items():
        another = (split == "test" and name.startswith("train")) or name.startswith(tuple(f"{a}_" for a in AVERAGES))
        stored = None if another else _as_fraction(name, value)
        if stored is not None and stored - accuracy > 0.03 + 3 * (0.25 / opened.main.size) ** 0.5:
            notes.append(
                f"{split} accuracy is {100 * accuracy:.2f} %, but the file stores {name} = {value:g}: "
                "probably not the network or preprocessing it was trained with"
            )
            break
    return notes


def _as_fraction(name: str, value: Any) -> float | None:
    """A stored accuracy as a fraction; values above 1 are percent."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _ACCURACY.search(name):
        return None
    return value if 0 <= value <= 1 else value / 100 if 1 < value <= 100 else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("landscape-sharpness", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
