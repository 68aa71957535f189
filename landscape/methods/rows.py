"""Storage of basis rows: beside the arithmetic, or in another memory and brought over part by part.

A basis that does not fit beside the arithmetic lies in parts of columns, each contiguous, so that the first k
rows of a part are one transfer out of page-locked memory. Transfers are ordered with the arithmetic and nothing
waits for them; they take so much longer than what is done with a part that overlapping the two gains nothing.

Rows may be stored in half precision (`HALF`), which leaves the arithmetic in its own. What a row then lacks of
the vector that it was made from, 3e-4 of its length, is an error of equation (1) of `basis`, which one product
measures (`Basis.defect`); Ritz values, from products with the rows as they are stored, hardly suffer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Vector
from landscape.methods import inner

HALF = torch.float16
"""Rows of length n hold numbers near 1/√n, so that times √n they lie where float16 has eleven bits."""

_PART = 1 << 26
"""Entries of a part of another memory: 256 MiB in float32."""


@dataclass(frozen=True)
class Rows:
    """k rows of length n in `parts` of columns (k, width); arithmetic is done where `like` (0,) is, in its dtype."""

    parts: tuple[Tensor, ...]
    like: Vector
    resident: bool
    """One part, which lies where the arithmetic is done."""

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(part.shape[1] for part in self.parts)

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        return self.like.dtype

    @property
    def half(self) -> bool:
        """Whether the numbers are stored in half precision."""
        return self.parts[0].dtype == HALF

    @property
    def tensor(self) -> Float[Tensor, "k n"]:
        """All rows as one tensor, of those that lie where the arithmetic is done."""
        if not self.resident:
            raise ValueError("rows in parts are no tensor")
        return self.parts[0]

    def first(self, count: int) -> "Rows":
        """The first `count` rows, sharing their storage."""
        return Rows(tuple([part[:count] for part in self.parts]), self.like, self.resident)

    def over(self, other: Float[Tensor, "m n"]) -> "Rows":
        """Rows that are stored in `other`, in parts as wide as these."""
        return Rows(other.split(self._width, 1), self.like, self.resident)

    def __getitem__(self, i: int) -> Vector:
        """Row i where the arithmetic is done; shares its storage where that is the same place."""
        if self.resident:
            return self.parts[0][i]
        return torch.cat([self._here(part[i]) for part in self.parts])

    def __setitem__(self, i: int, v: Vector) -> None:
        for part, piece in self._along(v):
            self._store(piece, part[i])

    def products(self, v: Vector) -> Float[Tensor, " k"]:
        """⟨row_i, v⟩ for each row, in float64."""
        if self.resident:
            return inner.products(self.parts[0], v)
        found = [inner.products(self._here(part), piece) for part, piece in self._along(v)]
        return torch.stack(found).sum(0)

    def without(self, coefficients: Float[Tensor, " k"], w: Vector) -> Vector:
        """w − Σ c_i·row_i."""
        factors = coefficients.to(w.dtype)
        if self.resident:
            return w - factors @ self.parts[0]
        return torch.cat([piece - factors @ self._here(part) for part, piece in self._along(w)])

    def combine(self, coefficients: Float[Tensor, "m k"], out: Tensor) -> None:
        """out ← coefficients @ rows, rounded once; `out` (m, n) lies where it likes, in any dtype."""
        for part, target in zip(self.parts, out.split(self._width, 1), strict=True):
            self._combine(coefficients, part, target)

    def rotate(self, coefficients: Float[Tensor, "m k"], count: int) -> None:
        """The first m rows become coefficients @ (the first `count` rows)."""
        for part in self.parts:
            self._combine(coefficients, part[:count], part[: len(coefficients)])

    def _combine(self, coefficients: Float[Tensor, "m k"], part: Tensor, target: Tensor) -> None:
        if part.device == target.device == self.like.device and part.dtype == self.dtype:
            inner.combinations(coefficients, part, out=target)
            return
        here = self._here(part)
        found = here.new_empty(len(coefficients), part.shape[1])
        inner.combinations(coefficients, here, out=found)
        self._store(found, target)

    def _store(self, x: Tensor, target: Tensor) -> None:
        target.copy_(x * self._magnified if target.dtype == HALF else x, non_blocking=target.is_pinned())

    def _here(self, stored: Tensor) -> Tensor:
        here = stored.to(self.like, non_blocking=True)
        return here / self._magnified if stored.dtype == HALF else here

    @property
    def _magnified(self) -> float:
        """A power of two near √n; no entry of a unit vector times that overflows."""
        return 2.0 ** min(15, self.shape[1].bit_length() // 2)

    def _along(self, v: Vector) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.parts, v.split(self._width), strict=True)

    @property
    def _width(self) -> int:
        return self.parts[0].shape[1]


def rows_at(
    like: Vector,
    capacity: int,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    width: int | None = None,
) -> Rows:
    """Room for `capacity` rows like `like` (n,), uninitialised, on its own device or another one.

    dtype: of the stored numbers, by default that of the arithmetic. width: columns of a part; by default
    everything beside the arithmetic in its type, and what fits into `_PART` otherwise.
    """
    n, device, dtype = like.numel(), device or like.device, dtype or like.dtype
    if device == like.device and dtype == like.dtype and width is None:
        return Rows((like.new_empty(capacity, n),), like[:0], True)
    width = width or max(1, _PART // max(1, capacity))
    widths = [min(width, n - start) for start in range(0, n, width)]
    locked = device.type == "cpu" and like.device.type != "cpu"
    return Rows(tuple(_room(capacity, w, dtype, device, locked) for w in widths), like[:0], False)


def _room(capacity: int, width: int, dtype: torch.dtype, device: torch.device, locked: bool) -> Tensor:
    """locked: in page-locked memory, for a device to read it, where the system grants that."""
    if locked:
        try:
            return torch.empty(capacity, width, dtype=dtype, device=device, pin_memory=True)
        except RuntimeError:
            pass
    return torch.empty(capacity, width, dtype=dtype, device=device)
