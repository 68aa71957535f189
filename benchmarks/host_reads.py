"""How often the host reads a number from the device: each time a GPU has to wait for Python, and Python for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.aliases import Matvec, Vector
from landscape.methods.basis import Basis

_READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__")
"""What a tensor's values leave torch by, whether or not that passes the dispatcher."""


class HostReads(TorchDispatchMode):
    """Counts such reads inside the block, on any device: `count`, and `names` of what made them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._patches = ExitStack()

    @property
    def count(self) -> int:
        return len(self.names)

    def __enter__(self) -> "HostReads":
        for name in _READS:
            self._patches.enter_context(patch.object(Tensor, name, self._watched(name, getattr(Tensor, name))))
        super().__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        self._patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.names.append("_local_scalar_dense")
        return func(*args, **(kwargs or {}))

    def _watched(self, name: str, method: Callable) -> Callable:
        def read(*args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            return method(*args, **kwargs)

        return read


@contextmanager
def no_host_reads(device: torch.device) -> Iterator[Callable[[], int]]:
    """Yields the count of reads; on CUDA torch itself raises `RuntimeError` at the first that waits for the device."""
    if device.type != "cuda":
        with HostReads() as reads:
            yield lambda: reads.count
        return
    torch.cuda.synchronize(device)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield lambda: 0
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def reads_of_lanczos(product: Matvec, start: Vector, steps: int) -> int:
    """Reads in `steps` steps of Lanczos between two looks at it; the product has been prepared before."""
    basis = Basis(start, steps + 1)
    basis.inject(start)
    row = basis.pending[0]
    row = basis.expand(product, row)  # libraries set up their workspaces at the first call
    with no_host_reads(start.device) as count:
        for _ in range(steps - 1):
            row = basis.expand(product, row)
        return count()
