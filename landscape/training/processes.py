"""The processes of torch.distributed that train one model together."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from landscape.errors import InputError, illegal

T = TypeVar("T")

_PATIENCE = timedelta(minutes=30)


@contextmanager
def joined(device: torch.device, parallel: bool) -> Iterator[torch.device]:
    """Inside, this process is one of those that torchrun started: by gloo on CPUs, by NCCL on GPUs, its own one each.

    Nothing happens unless `parallel`. Raises `InputError` when torchrun did not start it, or there are fewer GPUs than
    processes.
    """
    if not parallel:
        yield device
        return
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise InputError(
            "data_parallel needs the processes of torchrun. Start them: torchrun --nproc-per-node N --no-python "
            "landscape train …"
        )
    cuda = device.type == "cuda"
    if cuda:
        place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= there:
            raise illegal("--nproc-per-node", f"above {place}", f"at most the {there} GPUs", "Or use --device cpu.")
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def is_first(parallel: bool) -> bool:
    """Whether this process is the one that reads, writes and speaks for all."""
    return not parallel or dist.get_rank() == 0


class FirstRankError(InputError):
    """On every other process, the error that rank 0 raised and says."""


def from_first(make: Callable[[], T], parallel: bool) -> T:
    """What `make` returns on rank 0, which alone calls it; the `InputError` that it raises there is raised on all."""
    if not parallel:
        return make()
    told: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            told[0] = make()
        except InputError as error:
            dist.broadcast_object_list([None, str(error)], 0)
            raise
    dist.broadcast_object_list(told, 0)
    if told[1] is not None:
        raise FirstRankError(told[1])
    return told[0]


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
