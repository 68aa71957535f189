"""Data sets by name: tensors on the CPU in a fixed order, the same at every call.

digits (built in), mnist, fashion_mnist, cifar10, cifar100, csv, obesity, text, and the user's own by
`package.module:factory` or `file.py:factory`.
"""

import os
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from landscape.data import cifar, digits, idx
from landscape.data.dataset import Dataset, Split, batches, content_hash, loss_of_task, subset
from landscape.data.images import Source, image_dataset
from landscape.data.label_noise import ARGUMENTS as NOISE
from landscape.data.label_noise import with_label_noise
from landscape.data.obesity import obesity_dataset
from landscape.data.own import own_dataset
from landscape.data.part import ARGUMENTS as PART
from landscape.data.part import with_part
from landscape.data.table import csv_dataset
from landscape.data.text import text_dataset
from landscape.errors import illegal
from landscape.factories import call, load_factory

__all__ = ["DATASETS", "Dataset", "Split", "batches", "content_hash", "load_dataset", "loss_of_task", "subset"]

_IMAGES = (
    Source("digits", digits.CLASSES, digits.read, digits.MAXIMUM),
    *(Source(s.name, s.classes, s.read) for s in (idx.MNIST, idx.FASHION_MNIST, cifar.CIFAR10, cifar.CIFAR100)),
)
DATASETS: dict[str, Callable[..., Dataset]] = {
    **{source.name: partial(image_dataset, source) for source in _IMAGES},
    "csv": csv_dataset,
    "obesity": obesity_dataset,
    "text": text_dataset,
}
"""The data sets by name; their signatures are their arguments."""


def load_dataset(
    name: str,
    arguments: tuple[tuple[str, str], ...] = (),
    folder: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set called `name`, or what the factory `package.module:factory` returns, as a `Dataset`.

    arguments: `key=value` pairs for the data set (see `image_dataset`, `csv_dataset`, `obesity_dataset`,
    `text_dataset`), and for any of them train_examples, test_examples and part_seed (see `with_part`), then
    label_noise, label_noise_kind and noise_seed (see `with_label_noise`): so whatever reads a run's record sees the
    examples and labels that it was trained on. A factory that has parameters of these names receives them itself.
    folder: where data sets lie; default the environment variable LANDSCAPE_DATA. A factory that has a parameter
    `folder` receives it as a `Path` (or None), and returns a `Dataset` or (train_inputs, train_targets,
    test_inputs, test_targets).

    Raises `InputError`, one line, for an unknown name or argument, for missing data (saying what was looked
    for, where, and how to get it), and for files that are damaged, unsafe or not what they should be.
    """
    folder = folder or os.environ.get("LANDSCAPE_DATA") or None
    place = Path(folder).expanduser() if folder is not None else None
    if name in DATASETS:
        make, title = DATASETS[name], f"data set {name}"
    elif ":" in name:
        make, title = load_factory(name), name
    else:
        raise illegal("data", name, f"one of {', '.join(DATASETS)}", "Or name your own as file.py:factory.")
    others = {pair for pair in arguments if pair[0] in (*PART, *NOISE) and not _takes(make, pair[0])}
    made: Any = call(make, tuple(pair for pair in arguments if pair not in others), title, folder=place)
    dataset = made if name in DATASETS else own_dataset(name, made)
    for change, known, words in ((with_part, PART, "part of the data"), (with_label_noise, NOISE, "label noise")):
        asked = tuple(pair for pair in arguments if pair in others and pair[0] in known)
        dataset = call(partial(change, dataset), asked, words) if asked else dataset
    return dataset


def _takes(factory: Callable[..., Any], argument: str) -> bool:
    """Whether the factory's own signature names the argument."""
    try:
        return argument in signature(factory).parameters
    except (TypeError, ValueError):
        return False
