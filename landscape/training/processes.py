"""The processes of torch.distributed that train one model together."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from landscape.errors import InputError, illegal


def check_group(sizes: Iterable[int], smallest: int) -> None:
    """Raise `InputError` without a process group, or when a batch leaves a process fewer examples than `smallest`."""
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError(
            "data_parallel needs a process group. Call torch.distributed.init_process_group with a timeout first, "
            "in processes started by torchrun."
        )
    count = dist.get_world_size()
    least = min(sizes)
    if least // count < smallest:
        remedy = "Choose a size whose last batch is large enough for every process."
        raise illegal("batch_size", least, f"at least {count * smallest} in every batch for {count} processes", remedy)


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Give every process the parameters and buffers of rank 0."""
    for tensor in (*module.parameters(), *module.buffers()):
        values = tensor.detach().contiguous()
        dist.broadcast(values, 0)
        tensor.copy_(values)


def share(*tensors: Tensor) -> tuple[Tensor, ...]:
    """This process's examples: the rank-th of as many nearly equal parts of each tensor's first axis."""
    rank, count = dist.get_rank(), dist.get_world_size()
    return tuple(t.tensor_split(count)[rank] for t in tensors)


@torch.no_grad()
def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace every gradient by its sum over the processes, in one message; one that is missing counts as zero.

    A parameter without a gradient on any process keeps none.
    """
    first = parameters[0]
    present = torch.tensor([float(p.grad is not None) for p in parameters], device=first.device)
    dist.all_reduce(present)
    moving = [p for p, there in zip(parameters, present.tolist(), strict=True) if there]
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for p in moving:
        by_dtype.setdefault(p.dtype, []).append(p)
    for group in by_dtype.values():
        parts = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in group]
        flat = torch.cat([part.reshape(-1) for part in parts])
        dist.all_reduce(flat)
        for p, part in zip(group, flat.split([p.numel() for p in group]), strict=True):
            p.grad = torch.empty_like(p).copy_(part.view(p.shape))


def sum_numbers(numbers: Tensor) -> Tensor:
    """The sum over the processes, entry by entry."""
    total = numbers.clone()
    dist.all_reduce(total)
    return total
