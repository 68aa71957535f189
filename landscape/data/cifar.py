"""CIFAR-10 and CIFAR-100 in every published layout: python or binary, a folder or its tar.gz.

Python layout: pickled dicts of `data` (N, 3072) bytes and `labels` / `fine_labels`; binary layout: records
of one label byte (CIFAR-100: coarse, fine) and 3072 pixels, red, green, blue planes of 32 rows
(A. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from landscape.data.images import Labelled
from landscape.data.pickled import read_pickle
from landscape.data.places import candidates, missing
from landscape.errors import InputError
from landscape.files import read_bytes

_PIXELS = 3 * 32 * 32
_LIMIT = 1 << 28

Parse = Callable[[bytes, str, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Layout:
    """One published form: its folder, its archives, its files for training and test, and how to parse one."""

    folder: str
    archives: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    parse: Parse


@dataclass(frozen=True)
class CifarSet:
    """A CIFAR set in one of its layouts."""

    name: str
    classes: int
    layouts: tuple[Layout, ...]
    subfolders: tuple[str, ...]
    remedy: str

    def read(self, folder: Path | None) -> tuple[Labelled, Labelled]:
        """Training and test images, (N, 3, 32, 32). Raises `InputError` when missing, damaged or unsafe."""
        layout, files, place = self._find(folder)
        train, test = (
            self._joined([layout.parse(files[name], f"{place}/{name}", self.classes) for name in names])
            for names in (layout.train, layout.test)
        )
        return train, test

    def _find(self, folder: Path | None) -> tuple[Layout, Mapping[str, bytes], Path]:
        for place in candidates(folder, self.subfolders, self.name, self.remedy):
            for layout in self.layouts:
                for inner in (place / layout.folder, place):
                    # CIFAR-100 calls its files just `train` and `test`: only a folder of that name proves them.
                    named = inner.name == layout.folder or len(layout.train) > 1
                    if named and any((inner / name).is_file() for name in layout.train):
                        return layout, _folder_files(inner, layout, self.remedy), inner
                for archive in layout.archives:
                    if (place / archive).is_file():
                        return layout, _archive_files(place / archive, layout, self.remedy), place / archive
        assert folder is not None
        looked = ", ".join(f"{layout.folder}/, {layout.archives[0]}" for layout in self.layouts)
        raise missing(self.name, looked, folder, self.subfolders, self.remedy)

    @staticmethod
    def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> Labelled:
        pixels = np.concatenate([p for p, _ in parts]).reshape(-1, 3, 32, 32)
        return Labelled(torch.from_numpy(pixels), torch.from_numpy(np.concatenate([y for _, y in parts])))


def _folder_files(folder: Path, layout: Layout, remedy: str) -> dict[str, bytes]:
    wanted = (*layout.train, *layout.test)
    absent = [name for name in wanted if not (folder / name).is_file()]
    if absent:
        raise InputError(f"{folder} lacks {', '.join(absent)}. {remedy}")
    for name in wanted:
        _refuse_giant(folder / name, (folder / name).stat().st_size)
    return {name: read_bytes(folder / name) for name in wanted}


def _archive_files(archive: Path, layout: Layout, remedy: str) -> dict[str, bytes]:
    """The wanted members by base name, read in memory: nothing is extracted, links are not followed."""
    wanted = (*layout.train, *layout.test)
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                name = Path(member.name).name
                if name in wanted and name not in found and member.isfile():
                    _refuse_giant(f"{archive}: {name}", member.size)
                    file = tar.extractfile(member)
                    assert file is not None
                    found[name] = file.read()
            # gzip's checksum stands at the very end: read to it, or a flipped bit would pass.
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InputError(f"{archive} is damaged or not a tar.gz ({error}). Remove it. {remedy}") from None
    absent = [name for name in wanted if name not in found]
    if absent:
        raise InputError(f"{archive} lacks {', '.join(absent)}. {remedy}")
    return found


def _refuse_giant(name: object, size: int) -> None:
    if size > _LIMIT:
        raise InputError(f"{name} has {size} bytes, more than any CIFAR file. Fetch it again.")


def _parse_python(content: bytes, name: str, classes: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    record = read_pickle(content, name)
    pixels = record.get("data") if isinstance(record, dict) else None
    labels = record.get(key) if isinstance(record, dict) else None
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list | np.ndarray):
        raise InputError(f"{name} is not a CIFAR batch: it has no `data` array with `{key}`. Fetch it again.")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise InputError(f"{name}: `data` is {pixels.dtype} {pixels.shape}, not uint8 (N, {_PIXELS}). Fetch it again.")
    if not all(isinstance(label, int | np.integer) for label in labels):
        raise InputError(f"{name}: `{key}` are not whole numbers. Fetch it again.")
    return _checked(pixels, np.array(labels, np.int64), name, classes)


def _parse_binary(content: bytes, name: str, classes: int, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    record = label_bytes + _PIXELS
    if not content or len(content) % record:
        raise InputError(f"{name} has {len(content)} bytes, not a multiple of {record}: it is cut. Fetch it again.")
    table = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _checked(table[:, label_bytes:], table[:, label_bytes - 1].astype(np.int64), name, classes)


def _checked(pixels: np.ndarray, labels: np.ndarray, name: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    if len(pixels) != len(labels) or not len(labels):
        raise InputError(f"{name} has {len(pixels)} images and {len(labels)} labels. Fetch it again.")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{name} has labels outside 0 to {classes - 1}. Fetch it again.")
    return pixels, labels


def _layouts(number: int, train: tuple[str, ...], test: str, key: str) -> tuple[Layout, ...]:
    python, binary = ("batches-py", "batches-bin") if number == 10 else ("python", "binary")
    stem, label_bytes = f"cifar-{number}", 1 if number == 10 else 2
    return (
        Layout(f"{stem}-{python}", tuple(dict.fromkeys((f"{stem}-python.tar.gz", f"{stem}-{python}.tar.gz"))),
               train, (test,), partial(_parse_python, key=key)),
        Layout(f"{stem}-{binary}", (f"{stem}-binary.tar.gz",),
               tuple(f"{name}.bin" for name in train), (f"{test}.bin",),
               partial(_parse_binary, label_bytes=label_bytes)),
    )  # fmt: skip


def _remedy(number: int) -> str:
    return (
        f"Get cifar-{number}-python.tar.gz from the CIFAR page of A. Krizhevsky (University of Toronto), or let "
        f'torchvision.datasets.CIFAR{number}("FOLDER", download=True) or keras.datasets.cifar{number} write it.'
    )


CIFAR10 = CifarSet(
    "cifar10", 10, _layouts(10, tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "labels"),
    ("cifar10", "cifar-10", "CIFAR10", "CIFAR-10", "cifar_10"), _remedy(10),
)  # fmt: skip
CIFAR100 = CifarSet(
    "cifar100", 100, _layouts(100, ("train",), "test", "fine_labels"),
    ("cifar100", "cifar-100", "CIFAR100", "CIFAR-100", "cifar_100"), _remedy(100),
)  # fmt: skip
