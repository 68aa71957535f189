"""Tables: a CSV file with a header line as columns of text, and one of its columns as the target."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.data.columns import Column, encoded, target_values
from landscape.data.dataset import Dataset, Split, content_hash
from landscape.data.places import found_file
from landscape.errors import InputError, illegal
from landscape.files import read_bytes
from landscape.seeds import permutation, stream

_MISSING = ("", "na", "n/a", "nan", "null", "?")


def csv_dataset(
    path: str,
    target: str,
    folder: Path | None = None,
    task: str = "auto",
    order: tuple[str, ...] = (),
    encoding: str = "one_hot",
    normalise: str = "train",
    drop: tuple[str, ...] = (),
    zero: tuple[str, ...] = (),
    delimiter: str = ",",
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """A table as features and target, split at random into train and test.

    path: the file, looked for in the current folder, then in the data folder. target: the target's column.
    task: "classification" (classes in sorted order), "regression", or "auto": a target of text is
    classified, one of numbers is fitted. order: the target's classes from low to high; with task "auto" or
    "regression" they are fitted as the numbers 0, 1, …, otherwise they are classes in that order.
    encoding: a feature of text becomes one 0/1 column for each of its values ("one_hot", sorted) or the
    number of its value in sorted order ("ordinal"). normalise: "train" subtracts the training mean of each
    column and divides by its population standard deviation (constant columns: by 1); "none" leaves it.
    drop: columns left out; zero: columns set to 0. Missing values are refused.
    """
    _check_split(test_fraction, normalise)
    found = found_file(path, folder, "FILE.csv")
    columns = {c.name: c for c in read_columns(found, delimiter)}
    for name in (target, *drop, *zero):
        if name not in columns:
            raise InputError(f"{found} has no column {name!r}. Its columns: {', '.join(columns)}.")
    values, outputs, task = target_values(columns[target], task, order)
    kept = [c for c in columns.values() if c.name != target and c.name not in drop]
    if not kept:
        raise InputError(f"{found} has no feature left besides {target!r}. Drop fewer columns.")
    names, features = encoded(kept, encoding, zero)
    made = {
        "file": found.name, "target": target, "order": list(order), "encoding": encoding, "features": names,
        "zero": list(zero),
    }  # fmt: skip
    table = Table(found.stem, str(found), features, values, outputs, task, made)
    return split_table(table, normalise, test_fraction, split_seed)


@dataclass(frozen=True)
class Table:
    """Features (N, k) float64 and targets of a whole table read from `source`; `made` says how, for the record."""

    name: str
    source: str
    features: Tensor
    targets: Tensor
    outputs: int
    task: str
    made: Mapping[str, Any]


def split_table(table: Table, normalise: str, test_fraction: float, split_seed: int) -> Dataset:
    """The table split at random into train and test, its features normalised as `csv_dataset` says."""
    _check_split(test_fraction, normalise)
    parts = _split_rows(table.source, len(table.targets), test_fraction, split_seed)
    raw, targets = [table.features[part] for part in parts], [table.targets[part] for part in parts]
    width = table.features.shape[1]
    mean, std = _moments(raw[0]) if normalise == "train" else (np.zeros(width), np.ones(width))
    train, test = (
        Split(torch.from_numpy(((x.numpy() - mean) / std).astype(np.float32)), y)
        for x, y in zip(raw, targets, strict=True)
    )
    preprocessing = {
        **table.made, "normalise": normalise, "mean": mean.tolist(), "std": std.tolist(),
        "test_fraction": test_fraction, "split_seed": split_seed,
    }  # fmt: skip
    digest = content_hash(raw[0], targets[0], raw[1], targets[1])
    return Dataset(table.name, train, test, table.task, table.outputs, digest, preprocessing)


def _check_split(test_fraction: float, normalise: str) -> None:
    if not 0 < test_fraction < 1:
        raise illegal("test_fraction", test_fraction, "above 0 and below 1", "The default is 0.2.")
    if normalise not in ("train", "none"):
        raise illegal("normalise", normalise, "train or none for a table", "The default is train.")


def read_columns(path: Path, delimiter: str = ",") -> list[Column]:
    """The columns of a CSV file in file order; blank lines and CRLF do not matter.

    Raises `InputError` naming line and column for a missing value, an uneven row, a doubled header, no rows.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise illegal("delimiter", delimiter, "one character", "Quote it for the shell, for example delimiter=';'.")
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if row and any(cell.strip() for cell in row):
                lines.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}. Mend the line.") from None
    if len(lines) < 2:
        raise InputError(f"{path} has no rows below its header line. It must be a CSV file with a header.")
    header, body = lines[0][1], lines[1:]
    doubled = {name for name in header if not name or header.count(name) > 1}
    if doubled:
        raise InputError(f"{path}: the header has an empty or repeated name ({sorted(doubled)[0]!r}). Rename it.")
    for number, row in body:
        _check_row(path, number, row, header)
    numbers = tuple(number for number, _ in body)
    return [Column(name, tuple(row[i] for _, row in body), numbers) for i, name in enumerate(header)]


def _check_row(path: Path, number: int, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise InputError(
            f"{path}, line {number}: {len(row)} values under {len(header)} column names. "
            "Mend the line, or name the delimiter."
        )
    for name, cell in zip(header, row, strict=True):
        if cell.lower() in _MISSING:
            raise InputError(
                f"{path}, line {number}, column {name}: the value is missing ({cell!r}). Fill it in or remove the row."
            )


def _split_rows(source: str, rows: int, test_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    tests = round(test_fraction * rows)
    if not 0 < tests < rows:
        raise InputError(f"{source} has {rows} rows: too few for test_fraction = {test_fraction}. Change the fraction.")
    shuffled = permutation(stream(seed, "table split"), rows)
    return shuffled[tests:].sort().values, shuffled[:tests].sort().values


def _moments(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = x.numpy()
    mean, std = values.mean(0), values.std(0)
    return mean, np.where(std <= 1e-12 * np.abs(values).max(0), 1.0, std)
