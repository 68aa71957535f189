"""Batches of a data source: their size, their parts, and whether two passes give the same data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from landscape.aliases import Batch
from landscape.errors import InputError

_LABELS = ("labels", "label", "label_ids")
IGNORED = -100
"""Targets with this value are left out of the cross-entropies and of their counts (torch's convention)."""


def as_pair(batch: Any, number: int = 0, encoder_decoder: bool = False) -> Batch:
    """What a data source gives as (inputs, targets): a pair as it is, one mapping by its entry `labels`.

    Any mapping of inputs becomes a plain dict. Labels of the shape of the inputs' `attention_mask` are
    taken as one per token, and those of padding (mask 0) become -100, unless the model is an
    `encoder_decoder`, whose mask belongs to its other sequence. Raises `InputError` for anything else.
    """
    if isinstance(batch, Mapping):
        name = next((key for key in _LABELS if isinstance(batch.get(key), Tensor)), None)
        if name is None:
            raise InputError(
                f"batch {number} is a mapping of {', '.join(map(str, batch))} without a tensor `labels`. Add it; "
                "for causal language models labels = input_ids."
            )
        inputs, targets = {key: value for key, value in batch.items() if key != name}, batch[name]
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, targets = batch
        inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs
    else:
        raise InputError(
            f"batch {number} is not a pair (inputs, targets), nor a mapping with `labels`. "
            "Wrap the data source to give pairs."
        )
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) and not encoder_decoder else None
    if isinstance(mask, Tensor) and isinstance(targets, Tensor) and mask.dim() == 2 and mask.shape == targets.shape:
        targets = targets.masked_fill(mask.to(targets.device) == 0, IGNORED)
    return inputs, targets


def rows_of(tree: Any) -> int:
    """Examples in a tree of tensors: the length of the first."""
    return next(len(leaf) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def first_rows(batch: Batch, rows: int) -> Batch:
    return next(split(batch, max(rows, 1)))


def split(batch: Batch, rows: int) -> Iterator[Batch]:
    """Consecutive parts of a batch with at most `rows` examples each; 0 keeps it whole."""
    total = rows_of(batch[1])
    rows = rows or total

    def sliced(x: Any, start: int) -> Any:
        return x[start : start + rows] if isinstance(x, Tensor) and x.dim() and len(x) == total else x

    for start in range(0, total, rows):
        yield tree_map(lambda x, s=start: sliced(x, s), batch)


def chosen_rows(batch: Batch, rows: Tensor) -> Batch:
    """The examples with these numbers (int64, on the CPU)."""
    total = rows_of(batch[1])
    return tree_map(
        lambda x: x[rows.to(x.device)] if isinstance(x, Tensor) and x.dim() and len(x) == total else x, batch
    )


def joined(batches: Iterable[Batch], rows: int) -> Iterator[tuple[Batch, int]]:
    """Consecutive batches put together while they have at most `rows` examples, each with how many it was made of.

    Batches whose tensors do not fit together (sequences of other lengths) stay apart, and so does all that is
    not one row per example.
    """
    held: list[Batch] = []
    for batch in batches:
        if held and (sum(rows_of(b[1]) for b in held) + rows_of(batch[1]) > rows or not _fits(held[0], batch)):
            yield _together(held), len(held)
            held = []
        held.append(batch)
    if held:
        yield _together(held), len(held)


def _fits(a: Batch, b: Batch) -> bool:
    """Whether the tensors of two batches can be put together row by row."""
    (mine, form), (other, same_form) = tree_flatten(a), tree_flatten(b)
    rows = rows_of(a[1]), rows_of(b[1])
    return form == same_form and all(
        isinstance(x, Tensor) and isinstance(y, Tensor) and x.dim() and y.dim()
        and x.shape[1:] == y.shape[1:] and (len(x), len(y)) == rows
        for x, y in zip(mine, other, strict=True)
    )  # fmt: skip


def _together(batches: list[Batch]) -> Batch:
    return batches[0] if len(batches) == 1 else tree_map(lambda *leaves: torch.cat(leaves), *batches)


def count_twice(
    batches: Iterable[Any], terms: Callable[[Batch], int], pair: Callable[[Any, int], Batch] = as_pair
) -> tuple[int, int]:
    """(N, number of examples), after comparing two passes over the data (a list in memory cannot change)."""
    fixed = isinstance(batches, list | tuple)
    size, rows, first = 0, 0, []
    for number, batch in enumerate(batches):
        batch = pair(batch, number)
        size += terms(batch)
        rows += rows_of(batch[1])
        first.append([] if fixed else [_fingerprint(leaf) for leaf in tree_leaves(batch)])
    if size == 0:
        raise InputError("the data source gives no examples. Check the data set and its filters.")
    if fixed:
        return size, rows
    second = -1
    for second, batch in enumerate(batches):
        now = [_fingerprint(leaf) for leaf in tree_leaves(pair(batch, second))]
        if second >= len(first) or len(now) != len(first[second]) or not all(map(_same, now, first[second])):
            raise InputError(
                f"the data source gives different data at two passes (batch {second}). "
                "Switch off shuffling and augmentation: every evaluation must see the same examples."
            )
    if second + 1 != len(first):
        raise InputError(
            f"the data source gave {len(first)} batches at the first pass and {second + 1} at the second. "
            "Pass a list or a DataLoader, not a generator."
        )
    return size, rows


def _fingerprint(leaf: Any) -> Any:
    """A tensor's contents in brief: its shape, and two sums, one of which every change of order moves."""
    if not isinstance(leaf, Tensor):
        return leaf
    flat = leaf.detach().reshape(-1).double()
    ramp = torch.arange(1, flat.numel() + 1, device=flat.device, dtype=torch.float64)
    return leaf.shape, flat.sum().item(), (flat * ramp.remainder(8191)).sum().item()


def _same(a: Any, b: Any) -> bool:
    same = a == b
    return bool(same) or (a != a and b != b) or (isinstance(a, tuple) and str(a) == str(b))
