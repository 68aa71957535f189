"""Pearson correlations between the columns of two tables that come in pieces."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Correlations:
    """ρ_ij = cov(x_i, y_j)/(σ(x_i)·σ(y_j)) over all `count` rows added, from sums in float64.

    The sums are of deviations from the means of the first piece, so that columns far from zero lose no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shifts: tuple[Tensor, Tensor] | None = None
        self._sums: tuple[Tensor, ...] = ()

    def add(self, x: Float[Tensor, "rows n"], y: Float[Tensor, "rows m"]) -> None:
        """Take in paired rows."""
        x, y = x.double(), y.double()
        self._shifts = self._shifts or (x.mean(0), y.mean(0))
        x, y = x - self._shifts[0], y - self._shifts[1]
        new = x.sum(0), y.sum(0), x.square().sum(0), y.square().sum(0), x.T @ y
        self._sums = tuple(a + b for a, b in zip(self._sums, new, strict=True)) if self._sums else new
        self.count += len(x)

    def matrix(self) -> Float[np.ndarray, "n m"]:
        """The correlations; zero for a column that is constant to 1e-10 of its size."""
        assert self._shifts is not None
        x, y, xx, yy, xy = (total / self.count for total in self._sums)
        scales = []
        for mean, square, shift in ((x, xx, self._shifts[0]), (y, yy, self._shifts[1])):
            variance = square - mean.square()
            constant = variance <= 1e-20 * (shift + mean).square()
            scales.append(torch.where(constant, 0.0, variance.clamp_min(0).rsqrt()))
        return ((xy - torch.outer(x, y)) * torch.outer(*scales)).cpu().numpy()
