"""A stated part of any data set, the same in every measurement."""

import pytest
import torch

from landscape.data import load_dataset
from landscape.errors import InputError

WHOLE = load_dataset("digits")


def digits(**arguments):
    return load_dataset("digits", tuple((k, str(v)) for k, v in arguments.items()))


def rows_of(part, whole) -> list[int]:
    """Where each example of a part is in the whole, by its pixels."""
    found = (part.inputs[:, None].flatten(2) == whole.inputs[None].flatten(2)).all(2)
    return [int(row.nonzero()[0]) for row in found]


def test_a_part_has_so_many_different_examples_with_their_labels_in_the_old_order():
    part = digits(train_examples=100, test_examples=40)
    for mine, whole, count in ((part.train, WHOLE.train, 100), (part.test, WHOLE.test, 40)):
        rows = rows_of(mine, whole)
        assert len(mine) == count == len(set(rows))
        assert rows == sorted(rows)
        assert torch.equal(mine.targets, whole.targets[rows])
    assert part.preprocessing["train_examples"] == 100
    assert part.preprocessing["mean"] == WHOLE.preprocessing["mean"]


def test_the_seed_decides_and_the_hash_tells():
    one, same, other, all_ = digits(train_examples=50), digits(train_examples=50), digits(
        train_examples=50, part_seed=1), digits(part_seed=3)  # fmt: skip
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert one.sha256 == same.sha256
    assert rows_of(one.train, WHOLE.train) != rows_of(other.train, WHOLE.train)
    assert len({one.sha256, other.sha256, WHOLE.sha256}) == 3
    assert all_.sha256 == WHOLE.sha256
    assert len(one.test) == len(WHOLE.test)


def test_noise_comes_after_the_part():
    part = digits(train_examples=200)
    noisy = digits(train_examples=200, label_noise=0.5, label_noise_kind="other")
    assert torch.equal(noisy.train.inputs, part.train.inputs)
    assert int((noisy.train.targets != part.train.targets).sum()) == 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"train_examples": 0}, "train_examples = 0 is not legal: it must be from 1 to 1437"),
        ({"test_examples": 361}, "test_examples = 361 is not legal: it must be from 1 to 360"),
        ({"train_examples": 5, "part_seed": -1}, "part_seed = -1"),
        ({"train_examples": "many"}, "train_examples"),
    ],
)
def test_what_is_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        digits(**arguments)
