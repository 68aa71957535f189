"""What a set of Rademacher probes says of an operator: its trace, its diagonal, and the diagonal's sums by block.

All from the same products: z ⊙ Bz has the mean diag B (Bekas, Kokiopoulou & Saad 2007), its sum over a block of
coordinates the mean of that block's trace, its sum over all of them zᵀBz.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.aliases import Vector
from landscape.methods import leave_one_out
from landscape.methods.inner import inner, products
from landscape.methods.lanczos import require_finite

_COLUMNS = 1 << 14


@dataclass(frozen=True)
class Summary:
    """samples (m,) of tr B, the standard error of their mean, and the degrees of freedom it has.

    blocks, block_errors: (blocks,) traces of the diagonal blocks, which add up to the mean of the samples.
    diagonal, diagonal_errors: (n,), or (0,) when not asked for.
    """

    samples: np.ndarray
    standard_error: float
    degrees: int
    blocks: np.ndarray
    block_errors: np.ndarray
    diagonal: np.ndarray
    diagonal_errors: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.samples.mean())


class PlainProbes:
    """Hutchinson's estimator, a probe at a time; holds no vectors but, for the diagonal, two of sums."""

    def __init__(self, like: Vector, sizes: Sequence[int] = (), diagonal: bool = False):
        self.sizes = list(sizes)
        self.samples: list[Tensor] = []
        self.block_samples: list[Tensor] = []
        length = like.numel() if diagonal else 0
        self.sum, self.squares = (torch.zeros(length, dtype=torch.float64, device=like.device) for _ in range(2))

    def __len__(self) -> int:
        return len(self.samples)

    def add(self, z: Vector, y: Vector) -> None:
        """One probe z (n,) with its image y = B z."""
        self.samples.append(inner(z, y))
        if self.sizes:
            pairs = zip(z.split(self.sizes), y.split(self.sizes), strict=True)
            self.block_samples.append(torch.stack([inner(a, b) for a, b in pairs]))
        if len(self.sum):
            products_ = z.double() * y.double()
            self.sum += products_
            self.squares += products_.square()

    def summary(self, details: bool = True) -> Summary:
        """Of all probes so far; `details` asks for blocks and diagonal, too."""
        m, samples = len(self), torch.stack(self.samples).cpu().numpy()
        require_finite(samples)
        blocks = torch.stack(self.block_samples).cpu().numpy() if self.sizes else np.zeros((m, 0))
        mean = self.sum / m
        spread = (self.squares / m - mean.square()).clamp(min=0) / max(m - 1, 1)
        unknown = math.nan if m < 2 else 1.0
        return Summary(
            samples, float(_error(samples[:, None])[0]), m - 1, blocks.mean(0), _error(blocks),
            mean.cpu().numpy(), unknown * spread.sqrt().cpu().numpy(),
        )  # fmt: skip


class ControlledProbes:
    """Probes that are each other's control variates (`leave_one_out`): keeps `room` probes and their images.

    When `room` is full a new set begins; sets are independent, and their samples count alike.
    """

    def __init__(self, like: Vector, room: int, sizes: Sequence[int] = (), diagonal: bool = False):
        n = like.numel()
        self.sizes, self.diagonal = list(sizes), diagonal
        self.signs = torch.empty(room, n, dtype=torch.int8, device=like.device)
        self.images = like.new_empty(room, n)
        self.count = 0
        self.tables = torch.zeros(2, room, room, dtype=torch.float64, device=like.device)
        self.finished: list[Summary] = []

    def __len__(self) -> int:
        return self.count + sum(len(one.samples) for one in self.finished)

    def add(self, z: Vector, y: Vector) -> None:
        """One probe z (n,), entries ±1, with its image y = B z."""
        if self.count == len(self.images):
            self.finished.append(self._summary(True))
            self.count = 0
        m = self.count
        self.signs[m], self.images[m] = z.to(torch.int8), y
        self.count += 1
        images = self.images[: self.count]
        row = torch.stack([products(images, z), products(images, y)])
        self.tables[:, m, : m + 1] = row
        self.tables[:, : m + 1, m] = row

    def summary(self, details: bool = True) -> Summary:
        """Of all probes so far; `details` asks for blocks and diagonal, too."""
        return _merged([*self.finished, self._summary(details)])

    def _summary(self, details: bool) -> Summary:
        m = self.count
        G, W = self.tables[:, :m, :m].cpu().numpy()
        require_finite(G, W)
        control = leave_one_out.control(G)
        samples = leave_one_out.samples(control, G, W)
        error = leave_one_out.standard_error(control, G, W)
        blocks, block_errors = self._blocks(control) if details else (np.zeros(0), np.zeros(0))
        diagonal, errors = self._diagonal(control) if details and self.diagonal else (np.zeros(0), np.zeros(0))
        naive = _error(samples[:, None])[0]
        errors = errors * (error / naive if naive > 0 else 1.0)
        return Summary(samples, error, m - 1, blocks, block_errors, diagonal, errors)

    def _blocks(self, control: leave_one_out.Control) -> tuple[np.ndarray, np.ndarray]:
        if not self.sizes:
            return np.zeros(0), np.zeros(0)
        found, m = [], self.count
        parts = zip(self.signs[:m].split(self.sizes, 1), self.images[:m].split(self.sizes, 1), strict=True)
        for signs, images in parts:
            G, W = np.zeros((2, m, m))
            for columns in _slices(images.shape[1]):
                y, z = images[:, columns].double(), signs[:, columns].double()
                G, W = G + (z @ y.T).cpu().numpy(), W + (y @ y.T).cpu().numpy()
            found.append((leave_one_out.samples(control, G, W).mean(), leave_one_out.standard_error(control, G, W)))
        means, errors = np.array(found).T
        return means, errors

    def _diagonal(self, control: leave_one_out.Control) -> tuple[np.ndarray, np.ndarray]:
        m, pieces = self.count, []
        for columns in _slices(self.images.shape[1]):
            signs, images = (x[:m, columns].double().cpu().numpy() for x in (self.signs, self.images))
            samples = leave_one_out.coordinate_samples(control, signs, images)
            pieces.append(np.stack([samples.mean(0), _error(samples)]))
        mean, error = np.concatenate(pieces, 1)
        return mean, error


def _slices(length: int) -> list[slice]:
    return [slice(start, start + _COLUMNS) for start in range(0, length, _COLUMNS)]


def _error(samples: np.ndarray) -> np.ndarray:
    """s/√m down the columns of (m, k); NaN for m = 1."""
    m = len(samples)
    return samples.std(0, ddof=1) / m**0.5 if m > 1 else np.full(samples.shape[1], np.nan)


def _merged(sets: list[Summary]) -> Summary:
    """Sets of probes as one, each weighing as many as it has; a set of one borrows the other sets' spread."""
    if len(sets) == 1:
        return sets[0]
    counts = np.array([len(one.samples) for one in sets], dtype=float)
    shares = counts / counts.sum()

    def mean(name: str) -> np.ndarray:
        columns = [getattr(one, name) for one in sets]
        total = np.zeros_like(columns[0])
        for share, column in zip(shares, columns, strict=True):
            if len(column) == len(total):  # the last set may have been asked for its samples only
                total = total + share * column
        return total

    def error(name: str) -> np.ndarray:
        columns = [np.atleast_1d(getattr(one, name)) for one in sets]
        variances = np.array([c**2 * k for c, k in zip(columns, counts, strict=True) if len(c) == len(columns[0])])
        if len(variances) < len(counts) or variances.size == 0:
            return columns[0]
        known = np.where(np.isnan(variances), np.nanmean(variances, 0), variances)
        return np.sqrt((shares**2 / counts) @ known)

    return Summary(
        np.concatenate([one.samples for one in sets]), float(error("standard_error")[0]),
        int(sum(max(one.degrees, 0) for one in sets)), mean("blocks"), error("block_errors"),
        mean("diagonal"), error("diagonal_errors"),
    )  # fmt: skip


Probes = PlainProbes | ControlledProbes
"""Either kind: `add` probes with their images, then ask for the `summary`."""
