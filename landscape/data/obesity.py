"""Obesity levels of 2111 people by 16 of their habits and measures: the table of the tabular study.

F. Palechor and A. de la Hoz Manotas (2019), "Dataset for estimation of obesity levels based on eating habits and
physical condition", Data in Brief 25, UCI 544, CC BY 4.0. It circulates with its columns in two orders; they are found
by name, so both give the same data set. 77 % of the rows are synthetic (SMOTE) and 24 are duplicates, so that a random
split leaves near copies of test rows in the training part.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from landscape.data.columns import Column, target_values
from landscape.data.dataset import Dataset
from landscape.data.places import candidates, found_file, missing
from landscape.data.table import Table, read_columns, split_table
from landscape.errors import InputError, illegal

TARGET = "NObeyesdad"
LEVELS = (
    "Insufficient_Weight", "Normal_Weight", "Overweight_Level_I", "Overweight_Level_II", "Obesity_Type_I",
    "Obesity_Type_II", "Obesity_Type_III",
)  # fmt: skip
"""The classes by body-mass index, coded 0 … 6."""

_YES = ("no", "yes")
_OFTEN = ("no", "Sometimes", "Frequently", "Always")
FEATURES: Mapping[str, tuple[str, ...]] = {
    "Gender": ("Female", "Male"), "Age": (), "Height": (), "Weight": (), "family_history_with_overweight": _YES,
    "FAVC": _YES, "FCVC": (), "NCP": (), "CAEC": _OFTEN, "SMOKE": _YES, "CH2O": (), "SCC": _YES, "FAF": (), "TUE": (),
    "CALC": _OFTEN, "MTRANS": ("Automobile", "Motorbike", "Public_Transportation", "Bike", "Walking"),
}  # fmt: skip
"""The 16 features in their order here; of categories, the values in the order of their codes 0, 1, …

Frequencies rise; MTRANS, which has no order of its own, goes from the least to the most effort.
"""
ROWS = 2111
_FILES = ("ObesityDataSet_raw_and_data_sinthetic.csv", "ObesityDataSet_age_first_column_order.csv")
_FOLDERS = ("obesity",)
_REMEDY = "Get ObesityDataSet_raw_and_data_sinthetic.csv from the UCI repository, data set 544."


def obesity_dataset(
    folder: Path | None = None,
    path: str | None = None,
    task: str = "regression",
    encoding: str = "ordinal",
    weight: str = "zero",
    normalise: str = "train",
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """The obesity levels as the targets 0 … 6, fitted as numbers (N, 1) or told apart as seven classes.

    path: the file, looked for in the current folder, then in the data folder; by default either of the two circulating
    ones under obesity/. task: "regression" or "classification". encoding: categories become their code ("ordinal", 16
    features) or, where there are more than two, one 0/1 column for each ("one_hot", 26 features). weight: the body
    weight, from which the level follows, is set to 0 ("zero") or kept ("keep"). normalise, test_fraction and
    split_seed: as for `csv_dataset`; "train" standardises on the training part.

    Raises `InputError` for a missing file and for one that is not this table: other columns, categories or rows.
    """
    for name, value, legal in (
        ("task", task, ("regression", "classification")),
        ("encoding", encoding, ("ordinal", "one_hot")),
        ("weight", weight, ("zero", "keep")),
    ):
        if value not in legal:
            raise illegal(name, value, " or ".join(legal), f"The default is {legal[0]}.")
    found = found_file(path, folder, _FILES[0]) if path is not None else _find(folder)
    columns = {column.name: column for column in read_columns(found)}
    unlike = sorted({*FEATURES, TARGET} ^ set(columns))
    if unlike or len(columns[TARGET].cells) != ROWS:
        what = f"columns ({', '.join(unlike[:3])})" if unlike else f"rows ({len(columns[TARGET].cells)}, not {ROWS})"
        raise InputError(f"{found} is not the table of obesity levels: it has other {what}. {_REMEDY}")
    targets, outputs, task = target_values(columns[TARGET], task, LEVELS)
    names, features = [], []
    for name, categories in FEATURES.items():
        values = _values(columns[name], categories, str(found))
        if name == "Weight" and weight == "zero":
            values = np.zeros_like(values)
        if encoding == "one_hot" and len(categories) > 2:
            names += [f"{name}={category}" for category in categories]
            features += [(values == code).astype(np.float64) for code in range(len(categories))]
        else:
            names.append(name)
            features.append(values)
    # without the file's name: both orders of the columns are one data set
    made = {"target": TARGET, "order": list(LEVELS), "encoding": encoding, "features": names, "weight": weight}
    table = Table("obesity", str(found), torch.from_numpy(np.stack(features, 1)), targets, outputs, task, made)
    return split_table(table, normalise, test_fraction, split_seed)


def _find(folder: Path | None) -> Path:
    for place in candidates(folder, _FOLDERS, "obesity", _REMEDY):
        for name in _FILES:
            if (place / name).is_file():
                return place / name
    assert folder is not None
    raise missing("obesity", " or ".join(_FILES), folder, _FOLDERS, _REMEDY)


def _values(column: Column, categories: tuple[str, ...], source: str) -> np.ndarray:
    """The column as numbers: its own, or the codes of its categories."""
    if not categories:
        numbers = column.numbers()
        if numbers is None:
            raise InputError(f"{source}: the column {column.name} holds text where numbers belong. {_REMEDY}")
        return numbers
    codes = {category: float(code) for code, category in enumerate(categories)}
    unknown = sorted(set(column.cells) - set(codes))
    if unknown:
        raise InputError(
            f"{source}: the column {column.name} has the value {unknown[0]!r}, which is none of "
            f"{', '.join(categories)}. {_REMEDY}"
        )
    return np.array([codes[cell] for cell in column.cells])
