"""What every data set becomes: two splits of tensors in a fixed order, and how they were made."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.errors import InputError, illegal
from landscape.seeds import permutation, stream


@dataclass(frozen=True)
class Split:
    """Examples along the first axis: inputs (N, …); targets (N,) int64 classes or (N, k) float32 values."""

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InputError(f"a split has {len(self.inputs)} inputs and {len(self.targets)} targets: make them alike.")

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split on the CPU, float32 inputs unless they are token numbers (int64).

    task: "classification" (int64 targets), "regression" (float32 targets (N, k)) or "language" (a class for
    each token of the input, and the model's classes on its last axis). classes: the number of outputs a
    model needs. sha256: `content_hash` of the content before normalisation, so it is the same on
    every machine; `preprocessing` says what was done to it afterwards (and what was selected before).
    """

    name: str
    train: Split
    test: Split
    task: str
    classes: int
    sha256: str
    preprocessing: Mapping[str, Any]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example's input."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def loss(self) -> str:
        """The name of the task's usual loss (see `landscape.losses`)."""
        return loss_of_task(self.task)


def loss_of_task(task: str) -> str:
    """The name of the usual loss of `classification`, `language` or `regression`."""
    return {"classification": "cross_entropy", "language": "token_cross_entropy"}.get(task, "mse")


def content_hash(*tensors: Tensor) -> str:
    """SHA-256 over dtype, shape and bytes (little-endian, row-major) of each tensor in turn."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def subset(split: Split, examples: int, seed: int) -> Split:
    """A random `examples` of the split without repetition, the same for the same seed, in their old order."""
    if not 1 <= examples <= len(split):
        raise illegal("examples", examples, f"from 1 to {len(split)}, the size of the split", "Leave it out for all.")
    chosen = permutation(stream(seed, "subset"), len(split))[:examples].sort().values
    return Split(split.inputs[chosen], split.targets[chosen])


def batches(
    split: Split,
    batch_size: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """The split cut into consecutive pairs (inputs, targets); the last one may be short.

    Floating-point inputs and targets take `dtype`; class numbers and tokens keep theirs.
    """
    if batch_size < 1:
        raise illegal("batch_size", batch_size, "at least 1", "It changes memory, not results.")

    def place(x: Tensor) -> Tensor:
        return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

    return list(zip(place(split.inputs).split(batch_size), place(split.targets).split(batch_size), strict=True))
