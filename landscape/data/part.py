"""A part of a data set, as an argument of every data set: studies on a stated subset."""

import hashlib
from dataclasses import replace

from landscape.data.dataset import Dataset, subset
from landscape.errors import illegal

ARGUMENTS = ("train_examples", "test_examples", "part_seed")


def with_part(
    dataset: Dataset, train_examples: int | None = None, test_examples: int | None = None, part_seed: int = 0
) -> Dataset:
    """The data with so many training and test examples, drawn without repetition; None keeps all.

    The examples stay in their old order, and `preprocessing` and the hash say what was done. Images keep the mean and
    standard deviation that they were normalised by, those of all training examples.

    Raises `InputError` for a number below 1 or above the size of the split.
    """
    if train_examples is None and test_examples is None:
        return dataset
    sizes = {"train_examples": train_examples, "test_examples": test_examples}
    for (name, count), split in zip(sizes.items(), (dataset.train, dataset.test), strict=True):
        if count is not None and not 1 <= count <= len(split):
            raise illegal(name, count, f"from 1 to {len(split)}, the size of the split", "Leave it out for all.")
    if part_seed < 0:
        raise illegal("part_seed", part_seed, "a whole number of at least 0", "The default is 0.")
    train, test = (
        split if count is None else subset(split, count, part_seed)
        for split, count in zip((dataset.train, dataset.test), sizes.values(), strict=True)
    )
    noted = {**{name: count for name, count in sizes.items() if count is not None}, "part_seed": part_seed}
    digest = hashlib.sha256(f"{dataset.sha256} {sorted(noted.items())}".encode()).hexdigest()
    return replace(
        dataset, train=train, test=test, sha256=digest, preprocessing={**dataset.preprocessing, **noted}
    )  # fmt: skip
