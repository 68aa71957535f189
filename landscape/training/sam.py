"""Sharpness-aware minimisation as a place, not an optimiser: the gradient taken at the ascended point.

loss(model(x), y).backward()
with ascended(parameters, rho=0.05), frozen_statistics(model):
    optimiser.zero_grad()
    loss(model(x), y).backward()
optimiser.step()  # any torch optimiser: it sees the gradient at w + ε̂, and steps from w
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from landscape.errors import illegal
from landscape.training import foreach

_ROW = 1024
"""Numbers in a row of `norm`."""


@contextmanager
def ascended(
    parameters: Iterable[Tensor], rho: float | int, adaptive: bool = False, eta: float | int = 0.01
) -> Iterator[None]:
    """Inside, the parameters stand at w + ε̂ along their `.grad` g; afterwards at w again, bit for bit.

    SAM: ε̂ = ρ·g/(‖g‖₂ + 1e-12) (Foret et al. 2021, arXiv 2010.01412, equation 2, p = 2). ASAM
    (`adaptive`): ε̂ = ρ·T²g/(‖T g‖₂ + 1e-12) with T = |w| + η for weights and 1 for parameters with at
    most one axis, which are biases and norms (Kwon et al. 2021, arXiv 2102.11600, section 4). The norm is
    over all parameters together. Those without a gradient stay, ρ = 0 does nothing at all, and a zero
    gradient moves nothing. Gradients are read at entry and left to the caller.

    Raises `InputError` when ρ or η is negative or not finite.

    >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> (w @ w / 2).backward()
    >>> with ascended([w], rho=0.5):
    ...     print(w.tolist())
    [3.299999952316284, 4.400000095367432]
    >>> w.tolist()
    [3.0, 4.0]
    """
    for name, value in (("rho", rho), ("eta", eta)):
        if not 0 <= value < float("inf"):
            raise illegal(name, value, "a finite number, at least 0", "0 switches the ascent off, 0.05 is usual.")
    moving = [p for p in {id(p): p for p in parameters}.values() if p.grad is not None] if rho else []
    if not moving:
        yield
        return
    swapped = [foreach.owns_memory(p) for p in moving]
    there = _ascent(moving, float(rho), adaptive, float(eta))
    here = [p.data if own else p.detach().clone() for p, own in zip(moving, swapped, strict=True)]
    try:
        _put(moving, there, swapped)
        yield
    finally:
        _put(moving, here, swapped)


@torch.no_grad()
def _put(parameters: list[Tensor], values: list[Tensor], swapped: list[bool]) -> None:
    """Give each parameter its value: as its memory where it is `swapped`, which costs nothing, else into its memory."""
    for p, value, swap in zip(parameters, values, swapped, strict=True):
        if swap:
            p.data = value
        else:
            p.copy_(value)


@torch.no_grad()
def _ascent(parameters: list[Tensor], rho: float, adaptive: bool, eta: float) -> list[Tensor]:
    """w + ε̂ in memory of its own."""
    gradients = [dense_gradient(p) for p in parameters]
    scales = [p.abs().add_(eta) if adaptive and p.dim() > 1 else None for p in parameters]
    scaled = [g if t is None else g * t for g, t in zip(gradients, scales, strict=True)]
    factor = rho / (norm(scaled) + 1e-12)
    return [
        torch.addcmul(p, d if t is None else d.mul_(t), factor.to(p))  # one pass through memory, where ·, + are three
        for p, d, t in zip(parameters, scaled, scales, strict=True)
    ]


def dense_gradient(p: Tensor) -> Tensor:
    """`p.grad`, which must be there, with all its zeros."""
    assert p.grad is not None
    return p.grad.to_dense() if p.grad.is_sparse else p.grad


def norm(tensors: list[Tensor]) -> Tensor:
    """ℓ2 norm of all entries together, in float64 and on the device of the first."""
    squares = [_square(t).to(tensors[0].device) for t in tensors]
    return torch.stack(squares).sum().sqrt()


def _square(t: Tensor) -> Tensor:
    """‖t‖₂² in float64: rows in t's own precision, short enough for 1e-7, their squares in float64.

    torch's norm of 10⁷ float32 numbers on the CPU is off by 1e-3, and its norm in float64 takes twice as long.
    """
    flat, whole = t.reshape(-1), t.numel() // _ROW * _ROW
    rest = torch.linalg.vector_norm(flat[whole:], dtype=torch.float64).square()
    if whole == 0:
        return rest
    rows = torch.linalg.vector_norm(flat[:whole].view(-1, _ROW), dim=1).double()
    return torch.dot(rows, rows) if whole == len(flat) else rest + torch.dot(rows, rows)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, `model` may run in train mode; afterwards every buffer is what it was, bit for bit.

    So batch-norm statistics (and their counters, and any other running buffer) move only on the first of
    SAM's two passes. The second pass still normalises by its own batch.
    """
    saved = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            if saved:
                foreach.copy_([buffer for _, _, buffer, _ in saved], [values for *_, values in saved])
            for module, name, buffer, _ in saved:
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)


def random_state(device: torch.device) -> Callable[[], None]:
    """Remember torch's global random state (CPU and `device`); the callable returned goes back to it.

    SAM's second pass goes back to the first's state, so that dropout draws the same masks and both passes
    see the same function.
    """
    cuda = device.type == "cuda"
    host, accelerator = torch.get_rng_state(), torch.cuda.get_rng_state(device) if cuda else None

    def rewind() -> None:
        torch.set_rng_state(host)
        if accelerator is not None:
            torch.cuda.set_rng_state(accelerator, device)

    return rewind
