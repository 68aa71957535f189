"""The order of images in memory: channels last where this device's convolutions are faster so."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from landscape.aliases import Batch, Vector
from landscape.batches import first_rows
from landscape.devices import timed

_TRIAL_ROWS = 32
_REPEATS = 3


def channels_last(batch: Batch) -> Batch:
    """The batch with its images (floating-point inputs with four axes) stored channels last; equal in value."""
    return tree_map(lambda x: x.contiguous(memory_format=torch.channels_last) if is_image(x) else x, batch[0]), batch[1]


def channels_last_is_faster(gradient: Callable[[Vector, Batch], Vector], w: Vector, batch: Batch) -> bool:
    """Whether the gradient of some rows takes less time with channels last: the median of interleaved trials."""
    if not any(is_image(x) for x in tree_leaves(batch[0])):
        return False
    plain = first_rows(batch, _TRIAL_ROWS)
    candidates = plain, channels_last(plain)
    seconds: tuple[list[float], list[float]] = [], []
    for repeat in range(_REPEATS + 1):
        for candidate, taken in zip(candidates, seconds, strict=True):
            elapsed, _ = timed(partial(gradient, w, candidate), w.device)
            if repeat:
                taken.append(elapsed)
    return statistics.median(seconds[1]) < statistics.median(seconds[0])


def is_image(x: Any) -> bool:
    """Whether a tensor may be stored channels last."""
    return isinstance(x, Tensor) and x.dim() == 4 and x.is_floating_point() and min(x.shape[1:]) > 1
