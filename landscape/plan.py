"""Where the Krylov basis of an eigenvalue search lies, and how many vectors it holds: decided before the run."""

from dataclasses import dataclass, replace
from itertools import product

import torch

from landscape.aliases import Vector
from landscape.devices import available_bytes
from landscape.errors import InputError
from landscape.methods.restart import smallest_basis
from landscape.methods.rows import HALF
from landscape.spec import HessianSpec

MOST_ROWS = 400
"""A basis longer than this costs more in reorthogonalisation than it saves in products."""

ENOUGH = 4
"""Times the smallest basis: on spectra of networks more rows saved no product, and fewer than half hardly any."""

SHARE = 0.5
"""Of the free memory, for the basis; the products have the rest."""

MODEST = 0.1
"""A basis of `MOST_ROWS` that takes less than this share of the free memory is granted."""

HALF_REACHES = 5e-4
"""Tolerance that rows in half precision can meet: they add about 2e-4·max|λ| to every residual bound."""

GRANTED = 0.9
"""Of the free memory, for a basis whose size the user has given."""


@dataclass(frozen=True)
class BasisPlan:
    """rows vectors of `row_bytes` on `device`, with numbers of `dtype`; fewest: below this there is no search."""

    rows: int
    fewest: int
    row_bytes: int
    device: torch.device
    dtype: torch.dtype

    def __str__(self) -> str:
        gib = self.rows * self.row_bytes / 2**30
        return f"{self.rows} rows on {self.device.type}, {str(self.dtype).removeprefix('torch.')}, {gib:.2g} GiB"


def plan_basis(spec: HessianSpec, w: Vector) -> BasisPlan:
    """The basis on w's device when the smallest one fits there, else in the host's memory; restarts do the rest.

    A basis may take `SHARE` of what is free, or `spec.basis_gib`. Thick restart makes the smallest basis need
    hardly more products than a large one, so that a small basis beside the arithmetic comes before a large one
    that every step has to bring over. Where float32 fits neither place, rows are stored in half precision if that
    can meet `spec.tolerance` (`HALF_REACHES`). Raises `InputError`, with what would fit, when nothing will do.
    """
    n = w.numel()
    fewest = smallest_basis(spec.count, spec.ends, n)
    budgets = {device: _budget(spec, device) for device in dict.fromkeys((w.device, torch.device("cpu")))}
    types = [w.dtype, HALF] if _half_will_do(spec, w) else [w.dtype]
    for dtype, (device, (budget, free)) in product(types, budgets.items()):
        row_bytes = n * dtype.itemsize
        if budget >= fewest * row_bytes:
            modest = MODEST * free >= MOST_ROWS * row_bytes or spec.basis_gib is not None
            wished = min(MOST_ROWS if modest else ENOUGH * fewest, MOST_ROWS, 2 * n)
            return BasisPlan(max(fewest, min(wished, int(budget // row_bytes))), fewest, row_bytes, device, dtype)
    raise InputError(_refusal(spec, w, fewest, n * types[-1].itemsize, budgets))


def _half_will_do(spec: HessianSpec, w: Vector) -> bool:
    return w.dtype == torch.float32 and not spec.progressive and spec.tolerance >= HALF_REACHES


def _budget(spec: HessianSpec, device: torch.device) -> tuple[float, int]:
    """Bytes for the basis on `device`, and bytes free there."""
    free = available_bytes(device)
    if spec.basis_gib is None:
        return SHARE * free, free
    return min(spec.basis_gib * 2**30, GRANTED * free), free


def _refusal(
    spec: HessianSpec, w: Vector, fewest: int, row_bytes: int, budgets: dict[torch.device, tuple[float, int]]
) -> str:
    needed, best = fewest * row_bytes / 2**30, max(budget for budget, _ in budgets.values())
    held = int(best // row_bytes)
    found = ", ".join(f"{device.type} has {free / 2**30:.3g} GiB free" for device, (_, free) in budgets.items())
    capped = spec.basis_gib is not None and spec.basis_gib * 2**30 <= best
    what = f"{spec.count} eigenvalues need {fewest} vectors of {w.numel()} parameters, {needed:.3g} GiB; "
    if spec.basis_gib is not None and capped:
        what += f"basis_gib = {spec.basis_gib:g} holds {held} of them ({found})"
    else:
        share = GRANTED if spec.basis_gib is not None else SHARE
        what += f"{found}, of which the basis may take {100 * share:.0f} %: {held} vectors"
    fits = next((c for c in range(spec.count, 0, -1) if smallest_basis(c, spec.ends, w.numel()) <= held), 0)
    remedies = [f"ask for {fits} eigenvalues" if fits > 1 else "ask for 1 eigenvalue" if fits else ""]
    enough = any(GRANTED * free >= fewest * row_bytes for _, free in budgets.values())
    remedies += [f"give basis_gib = {needed * 1.001:.4g}" if enough else "use a device with more memory"]
    remedies += ["use dtype float32, which takes half" if w.dtype == torch.float64 else ""]
    coarse = not _half_will_do(spec, w) and _half_will_do(replace(spec, tolerance=HALF_REACHES), w)
    coarse &= best >= fewest * w.numel() * HALF.itemsize
    remedies += [
        f"give a tolerance of at least {HALF_REACHES:g} (rows in half precision can meet it)" if coarse else ""
    ]
    remedies += ["measure some of the parameters (params)"]
    return what + ". Remedies: " + ", or ".join(filter(None, remedies)) + "."
