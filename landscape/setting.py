"""What a spec asks for: data, model and problem, shared within a process, with one-line errors for user code."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.aliases import Batch
from landscape.data import Dataset, Split, batches, load_dataset, subset
from landscape.errors import InputError
from landscape.losses import loss_by_name, prediction
from landscape.models import build_model
from landscape.problem import Problem
from landscape.seeds import global_stream
from landscape.spec import LOSSES, Arguments, ProblemSpec


def completed(spec: ProblemSpec, record: Mapping[str, Any], path: object = None) -> ProblemSpec:
    """The spec with what it leaves open filled in from a run's record; arguments are merged, the spec's win.

    Raises `InputError`, telling to pass --model or --data, when neither says.
    """
    values = spec.to_dict()
    for name in ("model", "data"):
        if values[name] is None and record.get(name):
            values[name] = record[name]
            merged = dict(_pairs(record.get(f"{name}_args") or ())) | dict(values[f"{name}_args"])
            values[f"{name}_args"] = tuple(merged.items())
        if values[name] is None:
            subject = f"{path} does not say" if path else "nothing says"
            missing = "what model its weights belong to" if path and name == "model" else f"what {name} to use"
            raise InputError(f"{subject} {missing}. Pass --{name} NAME or --{name} path/to/file.py:factory.")
    if values["loss"] is None and record.get("loss") in LOSSES:
        values["loss"] = record["loss"]
    return ProblemSpec.from_dict(values)


def _pairs(arguments: Any) -> Arguments:
    if isinstance(arguments, Mapping):
        arguments = arguments.items()
    return tuple((str(key), str(value)) for key, value in arguments)


def dataset_of(spec: ProblemSpec) -> Dataset:
    """The spec's data, read once per process."""
    assert spec.data is not None
    folder = spec.data_folder or os.environ.get("LANDSCAPE_DATA")
    return _loaded(spec.data, spec.data_args, folder, str(Path.cwd()))


@lru_cache(maxsize=2)
def _loaded(name: str, arguments: Arguments, folder: str | None, _where: str) -> Dataset:
    """Several checkpoints on the same data share them; relative names mean something only in their folder."""
    return load_dataset(name, arguments, folder)


_BATCHES: dict[tuple[Any, ...], tuple[Dataset, list[Batch]]] = {}


def _batches(dataset: Dataset, name: str, spec: ProblemSpec, device: torch.device, dtype: torch.dtype) -> list[Batch]:
    """A split on the device, shared by all problems of one process that use it; the last four are kept."""
    key = (id(dataset), name, spec.split, spec.examples, spec.subset_seed, spec.batch_size, device, dtype)
    if key not in _BATCHES:
        split: Split = dataset.train if name == "train" else dataset.test
        if spec.examples is not None:
            wanted = spec.examples if name == spec.split else min(spec.examples, len(split))
            split = subset(split, wanted, spec.subset_seed)
        while len(_BATCHES) >= 4:
            del _BATCHES[next(iter(_BATCHES))]
        _BATCHES[key] = dataset, batches(split, spec.batch_size, device, dtype)
    return _BATCHES[key][1]


def fresh_model(spec: ProblemSpec, dataset: Dataset, seed: int) -> nn.Module:
    """The spec's model, with initial weights that depend on `seed` alone."""
    assert spec.model is not None
    with global_stream(seed, "init"):
        return build_model(spec.model, spec.model_args, dataset.input_shape, dataset.classes)


def pose(
    model: nn.Module, dataset: Dataset, split: str, spec: ProblemSpec, device: torch.device, dtype: torch.dtype
) -> Problem:
    """The problem on one split. Whatever a user's model does with the data becomes one line."""
    loss = loss_by_name(spec.loss or dataset.loss, spec.label_smoothing)
    data = _batches(dataset, split, spec, device, dtype)
    try:
        if loss.class_axis is not None:
            _check_outputs(model, data, dataset, loss.class_axis)
        problem = Problem(model, loss, data, spec.batch_norm, spec.engine)
        return problem.restricted(spec.params) if spec.params else problem
    except InputError:
        raise
    except Exception as error:  # a user's forward can raise anything
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise InputError(
            f"the model {type(model).__name__} does not take the data {dataset.name} (inputs of shape "
            f"{dataset.input_shape}, loss {loss.name}): {reason}. Choose another model, data or arguments."
        ) from error


def _check_outputs(model: nn.Module, data: list[Batch], dataset: Dataset, axis: int) -> None:
    """Labels beyond the model's outputs: on a GPU the loss would not raise, but kill the process."""
    with torch.no_grad():
        outputs = prediction(model(data[0][0][:2]))
    if outputs.dim() < 2:
        return
    highest = max(int(targets.max()) for _, targets in data)
    others = list(outputs.shape)
    del others[axis]
    # Another layout of outputs is for the loss to refuse, which it does by their shape.
    if others[1:] == list(data[0][1].shape[1:]) and highest >= outputs.shape[axis]:
        raise InputError(
            f"the data {dataset.name} have classes up to {highest}, and the model has {outputs.shape[axis]} outputs. "
            "Use a model with as many outputs as there are classes."
        )
