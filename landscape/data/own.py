"""The user's own data: whatever a factory returns, checked and made a data set."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.data.dataset import Dataset, Split, content_hash
from landscape.errors import InputError

_WHAT = "a Dataset or (train_inputs, train_targets, test_inputs, test_targets)"


def own_dataset(name: str, made: Any) -> Dataset:
    """A `Dataset`, or four arrays, as a checked `Dataset` called `name`.

    Floating inputs become float32; int32 and int64 inputs (token numbers) int64. Whole-number targets are
    classes (shape (N,) or (N, …), int64), floating targets are regression, (N, k) float32.
    Raises `InputError` naming the part when lengths, shapes or kinds do not fit or a value is not finite.
    """
    if isinstance(made, Dataset):
        parts = [made.train.inputs, made.train.targets, made.test.inputs, made.test.targets]
    elif isinstance(made, tuple | list) and len(made) == 4:
        parts = list(made)
    else:
        raise InputError(f"{name} returned {type(made).__name__}: it must return {_WHAT}.")
    train_x, test_x = _inputs(name, "train_inputs", parts[0]), _inputs(name, "test_inputs", parts[2])
    train_y, test_y = _targets(name, "train_targets", parts[1]), _targets(name, "test_targets", parts[3])
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if len(x) != len(y):
            raise InputError(f"{name}: {len(x)} {part}_inputs and {len(y)} {part}_targets. Both must be as many.")
    for part, a, b in (("inputs", train_x, test_x), ("targets", train_y, test_y)):
        if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
            raise InputError(
                f"{name}: train_{part} are {_kind(a)} and test_{part} {_kind(b)} per example. Make them alike."
            )
    regression = train_y.is_floating_point()
    outputs = train_y.shape[1] if regression else int(max(train_y.max(), test_y.max())) + 1
    digest = content_hash(train_x, train_y, test_x, test_y)
    train, test = Split(train_x, train_y), Split(test_x, test_y)
    task = "regression" if regression else "classification"
    if not isinstance(made, Dataset):
        return Dataset(name, train, test, task, outputs, digest, {"made by": name})
    if made.task == "language" and train_y.shape == train_x.shape and not regression:
        task = made.task
    if made.task != task or (not regression and made.classes < outputs):
        raise InputError(
            f"{name}: the Dataset says {made.task} with {made.classes} outputs, its targets say {task} with {outputs}. "
            "Make them agree."
        )
    return Dataset(made.name, train, test, task, made.classes, made.sha256 or digest, made.preprocessing)


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape[1:])}"


def _tensor(name: str, part: str, value: Any) -> Tensor:
    try:
        x = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {part} cannot be made a tensor ({error}). Return arrays or tensors.") from None
    if x.numel() == 0:
        raise InputError(f"{name}: {part} is empty (shape {tuple(x.shape)}). Return at least one example.")
    if x.dim() == 0 or x.is_complex() or x.dtype == torch.bool:
        raise InputError(
            f"{name}: {part} is {x.dtype} of shape {tuple(x.shape)}. Return examples along the first axis."
        )
    if x.is_floating_point():
        x = x.float()
        if not torch.isfinite(x).all():
            raise InputError(f"{name}: {part} holds NaN or infinity. Remove or fill these values.")
    return x.contiguous()


def _inputs(name: str, part: str, value: Any) -> Tensor:
    x = _tensor(name, part, value)
    if x.dim() < 2:
        raise InputError(f"{name}: {part} has the shape {tuple(x.shape)}. Make it (N, features) or (N, …).")
    if x.is_floating_point() or x.dtype in (torch.int32, torch.int64):
        return x if x.is_floating_point() else x.long()
    raise InputError(f"{name}: {part} is {x.dtype}. Scale images to floating point (x / 255); token numbers are int64.")


def _targets(name: str, part: str, value: Any) -> Tensor:
    y = _tensor(name, part, value)
    if y.is_floating_point():
        return y.reshape(len(y), -1)
    y = y.long()
    if y.dim() == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.min() < 0 and not set(y[y < 0].unique().tolist()) <= {-100}:
        raise InputError(f"{name}: {part} has negative classes. Classes are 0, 1, …; -100 is left out of the loss.")
    return y
