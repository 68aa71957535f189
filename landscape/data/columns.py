"""Columns of text as numbers: features one-hot or ordinal, targets as classes, ordered codes or values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError, illegal

_MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Column:
    """A named column: its cells as text, and the line of the file each cell is on."""

    name: str
    cells: tuple[str, ...]
    lines: tuple[int, ...]

    def numbers(self) -> np.ndarray | None:
        """The cells as float64, or None when they are categories.

        Raises `InputError` for an infinite value, and when most cells are numbers but some are not.
        """
        values = [_number(cell) for cell in self.cells]
        texts = [i for i, value in enumerate(values) if value is None]
        if texts:
            if 2 * len(texts) < len(values):
                raise InputError(
                    f"column {self.name}, line {self.lines[texts[0]]}: {self.cells[texts[0]]!r} is not a number, "
                    "though most of the column is. Mend it."
                )
            return None
        for value, line in zip(values, self.lines, strict=True):
            if not math.isfinite(value or 0.0):
                raise InputError(f"column {self.name}, line {line}: the value is not finite. Mend it.")
        return np.array(values, np.float64)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def encoded(columns: Sequence[Column], encoding: str, zero: Sequence[str]) -> tuple[list[str], Tensor]:
    """Names and values (N, features), float64, of the columns in order; those named in `zero` are all 0.

    Categories are learned from all rows: which values exist is no statistic of the training part.
    """
    if encoding not in ("one_hot", "ordinal"):
        raise illegal("encoding", encoding, "one_hot or ordinal", "The default is one_hot.")
    names: list[str] = []
    features: list[np.ndarray] = []
    for column in columns:
        numbers = np.zeros(len(column.cells)) if column.name in zero else column.numbers()
        if numbers is not None:
            names.append(column.name)
            features.append(numbers)
            continue
        categories = sorted(set(column.cells))
        codes = np.array([categories.index(cell) for cell in column.cells], np.float64)
        if encoding == "ordinal":
            names.append(column.name)
            features.append(codes)
        elif len(categories) > _MOST_CATEGORIES:
            raise InputError(
                f"column {column.name} has {len(categories)} different texts, too many for one_hot. "
                f"Use drop={column.name} or encoding=ordinal."
            )
        else:
            names += [f"{column.name}={category}" for category in categories]
            features += [(codes == code).astype(np.float64) for code in range(len(categories))]
    return names, torch.from_numpy(np.stack(features, 1))


def target_values(column: Column, task: str, order: Sequence[str]) -> tuple[Tensor, int, str]:
    """The targets, the number of outputs, and the task: int64 classes (N,) or float32 values (N, 1)."""
    if task not in ("auto", "classification", "regression"):
        raise illegal("task", task, "auto, classification or regression", "The default is auto.")
    if order:
        codes = _ordered(column, order)
        if task == "classification":
            return codes, len(order), task
        return codes.float()[:, None], 1, "regression"
    numbers = None if task == "classification" else column.numbers()
    if numbers is not None:
        return torch.from_numpy(numbers).float()[:, None], 1, "regression"
    if task == "regression":
        raise InputError(
            f"the target {column.name} is text ({column.cells[0]!r}, …), which regression cannot fit. "
            "Give order=LOWEST,…,HIGHEST to code it, or task=classification."
        )
    classes = sorted(set(column.cells), key=lambda cell: (_number(cell) is None, _number(cell) or 0.0, cell))
    if not 2 <= len(classes) <= _MOST_CATEGORIES:
        raise InputError(
            f"the target {column.name} has {len(classes)} different values: classes must be 2 to {_MOST_CATEGORIES}. "
            "Choose another column or task=regression."
        )
    return _ordered(column, classes), len(classes), "classification"


def _ordered(column: Column, order: Sequence[str]) -> Tensor:
    codes = {name: code for code, name in enumerate(order)}
    unknown = sorted(set(column.cells) - set(codes))
    if unknown or len(codes) < len(order):
        raise InputError(
            f"order must name each class of {column.name} once; "
            + (f"{', '.join(unknown[:5])} missing." if unknown else "some are repeated.")
            + f" The classes: {', '.join(sorted(set(column.cells))[:20])}."
        )
    return torch.tensor([codes[cell] for cell in column.cells], dtype=torch.int64)
