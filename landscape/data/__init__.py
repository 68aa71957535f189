"""Data sets by name: tensors on the CPU in a fixed order, the same at every call.

digits (built in), mnist, fashion_mnist, cifar10, cifar100, csv, obesity, text, and the user's own by
`package.module:factory` or `file.py:factory`.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from landscape.data import cifar, digits, idx
from landscape.data.dataset import Dataset, Split, batches, content_hash, loss_of_task, subset
from landscape.data.images import Source, image_dataset
from landscape.data.obesity import obesity_dataset
from landscape.data.own import own_dataset
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

    arguments: `key=value` pairs for the data set (see `image_dataset`, `csv_dataset`,
    `obesity_dataset`, `text_dataset`).
    folder: where data sets lie; default the environment variable LANDSCAPE_DATA. A factory that has a parameter
    `folder` receives it as a `Path` (or None), and returns a `Dataset` or (train_inputs, train_targets,
    test_inputs, test_targets).

    Raises `InputError`, one line, for an unknown name or argument, for missing data (saying what was looked
    for, where, and how to get it), and for files that are damaged, unsafe or not what they should be.
    """
    folder = folder or os.environ.get("LANDSCAPE_DATA") or None
    place = Path(folder).expanduser() if folder is not None else None
    if name in DATASETS:
        return call(DATASETS[name], arguments, f"data set {name}", folder=place)
    if ":" not in name:
        raise illegal("data", name, f"one of {', '.join(DATASETS)}", "Or name your own as file.py:factory.")
    made: Any = call(load_factory(name), arguments, name, folder=place)
    return own_dataset(name, made)
