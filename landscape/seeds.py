"""Every random draw of the project.

A draw is named, not ordered: `stream(seed, "lanczos", 0)` is the same whatever was drawn before it,
on every machine and for every device (numbers are drawn on the CPU and moved).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from landscape.aliases import Vector


def derived_seed(seed: int, *name: object) -> int:
    """A 63-bit seed from a user's seed and the name of a draw: SHA-256 of both, cut short."""
    digest = hashlib.sha256(repr((int(seed), *map(str, name))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *name: object) -> Generator:
    """An independent CPU generator for the draw called `name` under `seed`.

    >>> first = torch.rand(3, generator=stream(0, "start", 1))
    >>> torch.equal(first, torch.rand(3, generator=stream(0, "start", 1)))
    True
    >>> torch.equal(first, torch.rand(3, generator=stream(0, "start", 2)))
    False
    """
    return Generator().manual_seed(derived_seed(seed, *name))


@contextmanager
def global_stream(seed: int, *name: object) -> Iterator[None]:
    """Run code that draws from torch's global state (initialisers, dropout) from a named stream.

    The caller's global state, on the CPU and on every CUDA device in use, is as before afterwards.
    """
    with torch.random.fork_rng(devices=_initialised_cuda_devices()):
        torch.manual_seed(derived_seed(seed, *name))
        yield


def _initialised_cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


_order: ContextVar[Tensor | None] = ContextVar("order", default=None)


@contextmanager
def reordered(order: Tensor) -> Iterator[None]:
    """Inside, vectors of as many entries as `order` (n,) are drawn in another order: entry i is what order[i] was.

    For a network whose weights were put into that order: every draw then meets the weight that it met before.
    """
    token = _order.set(order)
    try:
        yield
    finally:
        _order.reset(token)


def _in_order(draws: Tensor) -> Tensor:
    order = _order.get()
    return draws if order is None or len(order) != draws.shape[1] else draws[:, order]


def rademacher(rng: Generator, count: int, like: Vector) -> Float[Tensor, "count n"]:
    """`count` vectors of independent ±1 with the length, dtype and device of `like`."""
    bits = torch.randint(0, 2, (count, like.numel()), generator=rng, dtype=torch.int8)
    return _in_order(bits).to(like.device).to(like.dtype).mul_(2).sub_(1)


def gaussian(rng: Generator, count: int, like: Vector) -> Float[Tensor, "count n"]:
    """`count` vectors of independent N(0, 1) entries with the length, dtype and device of `like`."""
    draws = torch.randn(count, like.numel(), generator=rng, dtype=like.dtype)
    return _in_order(draws).to(like.device)


def uniform(rng: Generator, count: int, like: Vector) -> Float[Tensor, "count n"]:
    """`count` vectors of independent U(-1, 1) entries with the length, dtype and device of `like`."""
    draws = torch.rand(count, like.numel(), generator=rng, dtype=like.dtype)
    return _in_order(draws).to(like.device).mul_(2).sub_(1)


def orthonormal(rng: Generator, count: int, like: Vector) -> Float[Tensor, "count n"]:
    """`count` orthonormal rows, uniform over the Stiefel manifold (Gaussian rows, QR, signs fixed)."""
    if count > like.numel():
        raise ValueError(f"{count} orthonormal vectors do not fit in {like.numel()} dimensions")
    q, r = torch.linalg.qr(gaussian(rng, count, like).T)
    return (q * r.diagonal().sign()).T.contiguous()


def permutation(rng: Generator, count: int) -> Tensor:
    """A uniform permutation of 0 … count-1 (int64, on the CPU)."""
    return torch.randperm(count, generator=rng)


def integers(rng: Generator, below: int, shape: tuple[int, ...]) -> Tensor:
    """Whole numbers 0 … below − 1, equally likely, on the CPU."""
    return torch.randint(below, shape, generator=rng)


def position() -> float:
    """A number uniform in [0, 1), from torch's global state on the CPU (see `global_stream`)."""
    return torch.rand((), dtype=torch.float64).item()
