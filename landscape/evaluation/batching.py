"""Guard for programs batched by `torch.func.vmap`."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def batching_alone() -> Iterator[None]:
    """Inside, an operation that `vmap` would run for one sample after the other is an error, where torch can say so."""
    switch = getattr(import_module("torch._C._functorch"), "_set_vmap_fallback_enabled", None)
    if switch is None:
        yield
        return
    switch(False)
    try:
        yield
    finally:
        switch(True)
