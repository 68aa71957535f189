"""A text file as a data set of a character-level language model."""

from pathlib import Path

import numpy as np
import torch

from landscape.data.dataset import Dataset, Split, content_hash
from landscape.data.places import found_file
from landscape.errors import InputError, illegal


def text_dataset(
    path: str,
    folder: Path | None = None,
    length: int = 64,
    stride: int | None = None,
    test_fraction: float = 0.1,
    vocabulary: str | None = None,
) -> Dataset:
    """Windows of `length` characters, each with the character that follows every one of them as targets.

    path: a UTF-8 file, looked for in the current folder, then in the data folder. The last `test_fraction` of
    the text is the test part; windows begin every `stride` characters (default `length`: no overlap) and a
    rest is left out. A character's number is its place among the file's distinct characters in code-point
    order, or in `vocabulary`, which must have them all.
    Raises `InputError` for a missing file, one that is not UTF-8, and a part shorter than one window.
    """
    for name, value in (("length", length), ("stride", stride)):
        if value is not None and value < 1:
            raise illegal(name, value, "a whole number of at least 1", "For example length=64.")
    if not 0 < test_fraction < 1:
        raise illegal("test_fraction", test_fraction, "above 0 and below 1", "The default is 0.1.")
    found = found_file(path, folder, "FILE.txt")
    try:
        text = found.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{found} is not UTF-8 text ({error.reason} at byte {error.start}). Convert it.") from None
    characters = vocabulary if vocabulary is not None else "".join(sorted(set(text)))
    codes = _codes(found, text, characters)
    border = len(codes) - round(test_fraction * len(codes))
    step = stride or length
    train, test = (_windows(found, part, length, step) for part in (codes[:border], codes[border:]))
    preprocessing = {
        "file": found.name, "level": "character", "vocabulary": characters, "length": length, "stride": step,
        "test_fraction": test_fraction,
    }  # fmt: skip
    return Dataset(found.stem, train, test, "language", len(characters), content_hash(codes), preprocessing)


def _codes(path: Path, text: str, characters: str) -> torch.Tensor:
    if len(set(characters)) < len(characters):
        raise illegal("vocabulary", characters, "characters that differ", "Name each character once.")
    missing = sorted(set(text) - set(characters))
    if missing:
        raise InputError(
            f"vocabulary lacks characters of {path}: {', '.join(map(repr, missing[:5]))}. Add them, or leave it out."
        )
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    table = np.zeros(max(map(ord, characters), default=0) + 1, np.int64)
    table[[ord(c) for c in characters]] = np.arange(len(characters))
    return torch.from_numpy(table[points])


def _windows(path: Path, codes: torch.Tensor, length: int, stride: int) -> Split:
    if len(codes) <= length:
        raise InputError(
            f"{path} has a part of {len(codes)} characters, too few for one window of length {length} and the "
            "character after it. Give a smaller length or another test_fraction."
        )
    windows = codes.unfold(0, length + 1, stride)
    return Split(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())
