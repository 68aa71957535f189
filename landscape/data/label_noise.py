"""Training labels replaced at random, as an argument of every data set: what a network can only learn by heart.

Zhang et al. 2017 (arXiv 1611.03530, section 2.1), partially corrupted and random labels.
"""

import hashlib
from dataclasses import replace

from landscape.data.dataset import Dataset, Split, content_hash
from landscape.errors import illegal
from landscape.seeds import integers, permutation, stream

ARGUMENTS = ("label_noise", "label_noise_kind", "noise_seed")
KINDS = ("any", "other")
_LEFT_OUT = -100


def with_label_noise(
    dataset: Dataset, label_noise: float = 0.0, label_noise_kind: str = "any", noise_seed: int = 0
) -> Dataset:
    """The data with round(label_noise·N) of the N training labels, chosen at random, drawn anew; 1 is all of them.

    label_noise_kind: "any" draws from all K classes alike, so that a share 1/K of those drawn stays right by chance
    (Zhang et al. 2017); "other" from the K − 1 wrong ones. Test labels are untouched, labels of -100 too. One seed's
    draws are nested: the labels that 0.2 replaces are replaced by the same ones with 0.4. The hash changes with the
    labels, and `preprocessing` says what was done. 0 gives the data as they are.

    Raises `InputError` for a share outside 0 … 1, another kind, a negative seed, and data that are not classified.
    """
    if not 0 <= label_noise <= 1:
        raise illegal("label_noise", label_noise, "from 0 to 1, a share of the training labels", "1 replaces all.")
    if label_noise_kind not in KINDS:
        raise illegal("label_noise_kind", label_noise_kind, f"one of {', '.join(KINDS)}", "The default is any.")
    if noise_seed < 0:
        raise illegal("noise_seed", noise_seed, "a whole number of at least 0", "The default is 0.")
    if label_noise == 0:
        return dataset
    if dataset.task != "classification":
        raise illegal("label_noise", label_noise, f"0 for data of the task {dataset.task}", "It is for classes.")
    if dataset.classes < 2:
        raise illegal("label_noise", label_noise, "0 for data of one class", "There is no other class.")
    labels = dataset.train.targets.clone()
    flat = labels.view(-1)
    places = (flat != _LEFT_OUT).nonzero()[:, 0]
    order = permutation(stream(noise_seed, "label noise", "examples"), len(places))
    rng = stream(noise_seed, "label noise", "classes")
    if label_noise_kind == "any":
        drawn = integers(rng, dataset.classes, (len(places),))
    else:
        drawn = (flat[places] + 1 + integers(rng, dataset.classes - 1, (len(places),))) % dataset.classes
    chosen = order[: round(label_noise * len(places))]
    flat[places[chosen]] = drawn[chosen]
    wrong = int((labels != dataset.train.targets).sum())
    digest = hashlib.sha256(f"{dataset.sha256} {content_hash(labels)}".encode()).hexdigest()
    noted = {
        "label_noise": label_noise, "label_noise_kind": label_noise_kind, "noise_seed": noise_seed,
        "wrong_labels": wrong,
    }  # fmt: skip
    train = Split(dataset.train.inputs, labels)
    return replace(dataset, train=train, sha256=digest, preprocessing={**dataset.preprocessing, **noted})
