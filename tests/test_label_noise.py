"""Random training labels: how many, which, for every data set, and the same ones in every measurement."""

import pytest
import torch
from commands import run

from landscape.checkpoints import open_checkpoint
from landscape.data import load_dataset
from landscape.data.label_noise import with_label_noise
from landscape.errors import InputError

OWN = """
import torch
def data(n: int = 200):
    x = torch.randn(n, 3)
    return x, torch.arange(n) % 4, x, torch.arange(n) % 4
def takes_it(label_noise: float = 0.0):
    x = torch.full((8, 2), label_noise)
    return x, torch.arange(8) % 2, x, torch.arange(8) % 2
def line():
    x = torch.randn(9, 2)
    return x, x, x, x
"""


def digits(**arguments):
    return load_dataset("digits", tuple((k, str(v)) for k, v in arguments.items()))


CLEAN = digits()


def changed(dataset) -> torch.Tensor:
    return (dataset.train.targets != CLEAN.train.targets).nonzero()[:, 0]


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_other_classes_change_exactly_that_share(share):
    noisy = digits(label_noise=share, label_noise_kind="other")
    assert len(changed(noisy)) == round(share * len(CLEAN.train)) == noisy.preprocessing["wrong_labels"]
    assert torch.equal(noisy.test.targets, CLEAN.test.targets)
    assert noisy.train.inputs is not None
    assert torch.equal(noisy.train.inputs, CLEAN.train.inputs)
    assert set(noisy.train.targets.tolist()) <= set(range(10))


def test_any_class_leaves_a_tenth_right_and_classes_are_uniform():
    noisy = digits(label_noise=1)
    n = len(CLEAN.train)
    right = n - len(changed(noisy))
    assert abs(right - n / 10) < 4 * (n * 0.09) ** 0.5
    counts = noisy.train.targets.bincount(minlength=10).double()
    assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 27.9  # χ² with 9 degrees of freedom, 99.9 %
    # Independent of the true class: every cell of the table of (true, drawn) is about n/100.
    table = (CLEAN.train.targets * 10 + noisy.train.targets).bincount(minlength=100).double()
    assert ((table - n / 100) ** 2 / (n / 100)).sum() < 150  # 99 degrees of freedom, 99.9 %


def test_wrong_classes_are_drawn_alike():
    noisy = digits(label_noise=1, label_noise_kind="other")
    step = ((noisy.train.targets - CLEAN.train.targets) % 10).bincount(minlength=10).double()
    expected = len(CLEAN.train) / 9
    assert step[0] == 0
    assert ((step[1:] - expected) ** 2 / expected).sum() < 26.1  # 8 degrees of freedom, 99.9 %


def test_draws_are_nested_and_belong_to_the_seed():
    small, large, other = (digits(label_noise=s, noise_seed=k) for s, k in ((0.2, 0), (0.4, 0), (0.4, 1)))
    few, many = set(changed(small).tolist()), set(changed(large).tolist())
    assert few < many
    assert torch.equal(small.train.targets[list(few)], large.train.targets[list(few)])
    assert not torch.equal(large.train.targets, other.train.targets)
    assert len({d.sha256 for d in (CLEAN, small, large, other)}) == 4
    assert torch.equal(digits(label_noise=0.4).train.targets, large.train.targets)
    assert digits(label_noise=0).sha256 == CLEAN.sha256


def test_the_callers_own_data_take_it_too(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    noise = ("label_noise", "0.5"), ("label_noise_kind", "other")
    noisy = load_dataset(f"{tmp_path}/own.py:data", (("n", "40"), *noise))
    assert int((noisy.train.targets != torch.arange(40) % 4).sum()) == 20
    theirs = load_dataset(f"{tmp_path}/own.py:takes_it", noise[:1])
    assert theirs.train.inputs.unique().tolist() == [0.5]
    assert theirs.train.targets.tolist() == [0, 1] * 4
    with pytest.raises(InputError, match=r"label_noise = 0\.5 .* regression"):
        load_dataset(f"{tmp_path}/own.py:line", noise[:1])


def test_labels_that_are_left_out_stay_left_out(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("import torch\ndef data():\n    y = torch.tensor([0, -100, 1] * 9)\n    x = torch.ones(27, 2)\n"
                    "    return x, y, x, y\n")  # fmt: skip
    noisy = load_dataset(f"{path}:data", (("label_noise", "1"), ("label_noise_kind", "other")))
    assert noisy.train.targets.tolist() == [1, -100, 0] * 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"label_noise": 1.5}, "label_noise = 1.5 .* from 0 to 1"),
        ({"label_noise": "nan"}, "label_noise = nan"),
        ({"label_noise": "much"}, "label_noise = 'much'"),
        ({"label_noise": 0.5, "label_noise_kind": "some"}, "label_noise_kind = 'some'"),
        ({"label_noise": 0.5, "noise_seed": -1}, "noise_seed = -1"),
        ({"label_nose": 0.5}, "no argument 'label_nose'"),
    ],
)
def test_refused(arguments, says):
    with pytest.raises(InputError, match=says) as caught:
        digits(**arguments)
    assert "\n" not in str(caught.value)


def test_a_measurement_sees_the_labels_of_the_training(tmp_path):
    run("train", tmp_path / "r", "--model", "mlp", "--model-arg", "widths=8", "--epochs", 1,
        "--data-arg", "label_noise=0.4", "--data-arg", "noise_seed=3")  # fmt: skip
    opened = open_checkpoint(tmp_path / "r")
    labels = torch.cat([y for _, y in opened.train.batches])
    assert torch.equal(labels.cpu(), digits(label_noise=0.4, noise_seed=3).train.targets)
    assert not any("SHA-256" in note for note in opened.notes)


def test_a_class_of_one_has_no_other():
    from dataclasses import replace

    with pytest.raises(InputError, match="one class"):
        with_label_noise(replace(CLEAN, classes=1), 0.5)
