"""Ghost batch norm: a large batch normalised as the small ones that it is made of (Hoffer et al. 2017)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.batch_norms import batch_norms


@contextmanager
def ghost_batches(model: nn.Module, size: int | None) -> Iterator[None]:
    """Inside, batch-norm layers in train mode normalise every `size` examples of a batch by their own statistics.

    A batch is cut in its order into chunks of `size`, the last one shorter; a single last example joins the chunk
    before it, since it has no variance. Running statistics move once for each chunk, as if the small batches had
    come one after the other: with momentum η and k chunks of statistics μ_i

        μ_run ← (1 − η)^k·μ_run + Σ_i (1 − η)^(k−i)·η·μ_i,  i = 1 … k

    (arXiv 1705.08741, algorithm 1). In eval mode, for batches of at most `size`, and with None nothing changes. The
    layers keep their class, their names in the state dict and, afterwards, their own forward.
    """
    if size is None:
        yield
        return
    norms = batch_norms(model)
    for norm in norms:
        setattr(norm, "forward", partial(_forward, norm, size))  # noqa: B010, it hides the method of the class
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, size: int, inputs: Tensor) -> Tensor:
    whole = partial(type(norm).forward, norm)
    if not norm.training or len(inputs) <= size:
        return whole(inputs)
    return torch.cat([whole(chunk) for chunk in inputs.split(chunk_sizes(len(inputs), size))])


def chunk_sizes(examples: int, size: int) -> list[int]:
    """Sizes of the chunks of a batch: all `size`, the last has the rest; a rest of one joins the chunk before."""
    sizes = [size] * (examples // size)
    rest = examples % size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes
