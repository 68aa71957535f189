"""The built-in data set: 1797 real handwritten digits of 8×8 pixels, 0 … 16 grey levels.

Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
doi 10.24432/C50P49, CC BY 4.0: the test part, by 13 writers, in the order in which scikit-learn ships it.
The split into 1437 training and 360 test images is drawn once and for all.
"""

import gzip
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from landscape.data.images import Labelled
from landscape.seeds import permutation, stream

CLASSES = 10
MAXIMUM = 16
TEST = 360


def read(folder: Path | None = None) -> tuple[Labelled, Labelled]:
    """Training and test images, (N, 1, 8, 8); they travel with the package, so `folder` is not used."""
    content = gzip.decompress((files("landscape.data") / "digits.csv.gz").read_bytes())
    table = torch.from_numpy(np.loadtxt(content.decode().splitlines(), np.uint8, delimiter=","))
    order = permutation(stream(0, "digits"), len(table))
    chosen = order[TEST:].sort().values, order[:TEST].sort().values
    train, test = (Labelled(table[rows, :-1].reshape(-1, 1, 8, 8), table[rows, -1].long()) for rows in chosen)
    return train, test
