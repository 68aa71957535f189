"""MNIST and its kin: the idx format, plain or gzipped.

A file is two zero bytes, a type code (8: unsigned bytes), the number of axes, each length as a big-endian
32-bit number, then the bytes, row-major (Y. LeCun, C. Cortes, C. Burges, "The MNIST database").
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from landscape.data.images import Labelled
from landscape.data.places import candidates, missing
from landscape.errors import InputError

_PARTS = ("train", "t10k")
_LIMIT = 1 << 30


@dataclass(frozen=True)
class IdxSet:
    """Four idx files (images and labels for training and test) in one of the usual folders."""

    name: str
    subfolders: tuple[str, ...]
    foreign: tuple[str, ...]
    remedy: str
    classes: int = 10

    def read(self, folder: Path | None) -> tuple[Labelled, Labelled]:
        """Training and test images, (N, 1, height, width). Raises `InputError` when missing or damaged."""
        train, test = (self._part(folder, part) for part in _PARTS)
        return train, test

    def _part(self, folder: Path | None, part: str) -> Labelled:
        image_file, label_file = self._find(folder, f"{part}-images", 3), self._find(folder, f"{part}-labels", 1)
        images, labels = read_idx(image_file, 3), read_idx(label_file, 1).long()
        if len(images) != len(labels):
            raise InputError(
                f"{image_file} has {len(images)} images and {label_file} {len(labels)} labels. Fetch both again."
            )
        if labels.max() >= self.classes:
            raise InputError(f"{label_file} holds the class {labels.max()}, beyond {self.classes - 1}. Fetch it again.")
        return Labelled(images[:, None], labels)

    def _find(self, folder: Path | None, stem: str, axes: int) -> Path:
        names = [f"{stem}{dash}idx{axes}-ubyte{end}" for dash in "-." for end in ("", ".gz")]
        for place in candidates(folder, self.subfolders, self.name, self.remedy):
            # The sets share their file names, so a folder named after another one is not this one's.
            if place == folder and any(p in self.foreign for p in place.resolve().parts[-2:]):
                continue
            for name in names:
                if (place / name).is_file():
                    return place / name
        assert folder is not None
        raise missing(self.name, f"{names[0]}[.gz]", folder, self.subfolders, self.remedy)


_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
_MNIST_FOLDERS = ("mnist", "MNIST/raw", "MNIST", "mnist/raw")
_FASHION_FOLDERS = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "fashion-mnist/data/fashion")
MNIST = IdxSet(
    "mnist", _MNIST_FOLDERS, ("FashionMNIST", "fashion-mnist", "fashion_mnist"),
    f"Get the four files of the MNIST database (LeCun, Cortes, Burges: {_FILES}), "
    'or let torchvision.datasets.MNIST("FOLDER", download=True) write FOLDER/MNIST/raw.',
)  # fmt: skip
FASHION_MNIST = IdxSet(
    "fashion_mnist", _FASHION_FOLDERS, ("MNIST", "mnist"),
    f"Get the four files of Fashion-MNIST (GitHub zalandoresearch/fashion-mnist: {_FILES}), let "
    'torchvision.datasets.FashionMNIST("FOLDER", download=True) write FOLDER/FashionMNIST/raw, or let '
    "keras.datasets.fashion_mnist.load_data() write ~/.keras/datasets/fashion-mnist.",
)  # fmt: skip


def read_idx(path: Path, axes: int) -> Tensor:
    """The bytes of an idx file as a uint8 tensor with `axes` axes.

    Raises `InputError`, one line, when the file is not gzip, not idx, of another kind, short or long.
    """
    zipped = path.suffix == ".gz"
    try:
        with gzip.open(path) if zipped else open(path, "rb") as file:
            head = file.read(4 + 4 * axes)
            if head[:4] != bytes((0, 0, 8, axes)) or len(head) < 4 + 4 * axes:
                raise InputError(
                    f"{path} is not an idx file of bytes with {axes} axes: it starts with "
                    f"{head[:4].hex(' ') or 'nothing'}, not 00 00 08 {axes:02x}. Fetch it again."
                )
            shape = tuple(int(n) for n in np.frombuffer(head, ">u4", offset=4))
            size = math.prod(shape)
            if not 0 < size <= _LIMIT:
                raise InputError(
                    f"{path} claims the shape {shape}: empty or above 1 GiB. It is damaged; fetch it again."
                )
            body = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged ({error}). Fetch it again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from None
    if len(body) != size:
        kind = "shorter" if len(body) < size else "longer"
        raise InputError(f"{path} is {kind} than the {size} bytes that its shape {shape} says. Fetch it again.")
    return torch.from_numpy(np.frombuffer(body, np.uint8).reshape(shape).copy())
