"""Devices, for choices that depend on what fits and on what is fast: their names, free memory, and waiting for them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Outcome = TypeVar("Outcome")


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`: free on a GPU, available to this process on a CPU.

    On Linux the limits of the control group count as well (containers, batch systems). Where nothing can be
    read, 4 GiB are assumed.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    candidates = [found for found in (_meminfo(), _control_group()) if found is not None]
    return min(candidates) if candidates else _pages()


def device_name(device: torch.device) -> str:
    """The model of a GPU, or the kind of any other device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def release_cached(device: torch.device) -> None:
    """Give back what the device's allocator holds in reserve, before a smaller attempt after one that did not fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given; for timings only."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], Outcome], device: torch.device) -> tuple[float, Outcome]:
    """Seconds that a run takes on a device that is idle before it, and its outcome."""
    wait_for(device)
    begun = time.perf_counter()
    outcome = run()
    wait_for(device)
    return time.perf_counter() - begun, outcome


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _control_group() -> int | None:
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            text = Path(limit).read_text().strip()
            if text != "max" and int(text) < 1 << 60:
                return max(0, int(text) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return None


def _pages() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 4 << 30


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as the environment variable CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]
