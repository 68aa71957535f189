"""An estimated spectrum: some eigenvalues one by one, the others as a quadrature, and what follows with which error."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

Function = Callable[[np.ndarray], np.ndarray]
Estimate = tuple[np.ndarray, np.ndarray]
"""A value and its standard error, of equal shapes."""


@dataclass(frozen=True)
class Spectrum:
    """The distribution of n = size eigenvalues λ of a symmetric matrix.

    eigenvalues (k,): those known one by one, of weight 1/n each. The other n − k as quadratures: nodes (m,)
    ascending, weights (probes, m) with rows of sum 1. spreads (m,): standard deviation of what a node stands
    for, which for a Ritz value is its residual; unknown by default.

    A node's weight lies half on each side of it, evenly up to the middle between it and the next of the same
    probe (with p probes the p-th, as their nodes come in groups of p), but not farther than √3·spread.

    Standard errors are those of the random probes. A Gaussian probe's squared components on n − k
    eigenvectors, divided by their sum, have a Dirichlet(½, …, ½) law, so that the mean of f over them has
    the variance 2 Var(f)/(n − k + 2), Var over the eigenvalues; p probes divide it by p. It is taken from
    the estimated spectrum itself and needs no second probe. Errors of the eigenvalues are not in it.
    """

    size: int
    eigenvalues: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    spreads: np.ndarray | None = None

    @property
    def unresolved(self) -> int:
        """n − k, the eigenvalues that the nodes stand for."""
        return self.size - len(self.eigenvalues)

    @property
    def range(self) -> tuple[float, float]:
        """(λmin, λmax)."""
        points = np.concatenate([self.eigenvalues, self.nodes])
        return float(points.min()), float(points.max())

    def mean(self, function: Function) -> Estimate:
        """(1/n) Σ_i f(λ_i) with its standard error; f maps (m,) to (…, m), the values to (…,)."""
        at_nodes, share = function(self.nodes), self.weights.mean(0)
        average = at_nodes @ share
        variance = np.maximum(np.square(at_nodes) @ share - np.square(average), 0)
        return self._whole(function(self.eigenvalues), average, variance)

    def _whole(self, known: np.ndarray, average: Any, variance: Any) -> Estimate:
        """Known terms, and the mean and the variance over the others, as a mean over all with its error."""
        rest = self.unresolved
        value = (known.sum(-1) + rest * average) / self.size
        error = rest / self.size * np.sqrt(2 * variance / (len(self.weights) * (rest + 2)))
        return np.asarray(value), np.asarray(error)

    def _cells(self, change: Function) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower ends, middles and upper ends of the nodes' cells, in the coordinate `change`."""
        nodes, reach = change(self.nodes), len(self.weights)
        places, last = np.arange(len(nodes)), max(len(nodes) - 1, 0)
        low = (nodes + nodes[np.maximum(places - reach, 0)]) / 2
        high = (nodes + nodes[np.minimum(places + reach, last)]) / 2
        if self.spreads is None:
            return low, nodes, high
        far = 3**0.5 * self.spreads
        return np.maximum(low, change(self.nodes - far)), nodes, np.minimum(high, change(self.nodes + far))

    def moment(self, order: int) -> Estimate:
        """tr Aᵏ/n with its standard error."""
        return self.mean(lambda x: x**order)

    def density(self, grid: np.ndarray, width: float, coordinate: Function | None = None) -> Estimate:
        """(1/n) Σ_i g(x − λ_i) at x = grid (G,), g Gaussian with standard deviation `width`: integral 1.

        A width below the nodes' distance does not make peaks of them. coordinate: increasing u(λ); then the
        density is one over u, and grid and width are in units of u.
        """
        change = coordinate or (lambda x: x)
        known, share, cells = change(self.eigenvalues), self.weights.mean(0), self._cells(change)
        average = _smoothed(grid, *cells, width) @ share
        squares = _smoothed(grid, *cells, width / 2**0.5) @ share / (2 * width * np.pi**0.5)
        variance = np.maximum(squares - np.square(average), 0)
        return self._whole(_smoothed(grid, known, known, known, width), average, variance)

    def count_above(self, level: float) -> tuple[float, float]:
        """Number of eigenvalues above `level`, and its standard error.

        The error adds what the nodes leave open, half the weight of
        those whose cells hold the level, to that of the probes.
        """
        below, nodes, above = self._cells(lambda x: x)
        parts = (_part_above(level, below, nodes) + _part_above(level, nodes, above)) / 2
        share = self.weights.mean(0)
        average = parts @ share
        known = (1 + np.sign(self.eigenvalues - level)) / 2
        value, error = self._whole(known, average, average * (1 - average))
        open_ = self.unresolved / self.size * share[(below < level) & (level < above)].sum() / 2
        return self.size * float(value), self.size * float(np.hypot(error, open_))

    def negative_mass(self) -> tuple[float, float]:
        """Share of eigenvalues below zero (an exact zero counts half), and its standard error as in `count_above`."""
        count, error = self.count_above(0.0)
        return 1 - count / self.size, error / self.size


def _smoothed(grid: np.ndarray, low: np.ndarray, middle: np.ndarray, high: np.ndarray, width: float) -> np.ndarray:
    """(G, m) Gaussian densities at the grid, averaged over [low, middle] and [middle, high] with weight ½ each."""
    x = grid[:, None]
    halves = [_averaged(x - b, x - a, width) for a, b in ((low, middle), (middle, high))]
    return (halves[0] + halves[1]) / 2


def _averaged(start: np.ndarray, stop: np.ndarray, width: float) -> np.ndarray:
    """The mean of the Gaussian density over [start, stop], its value in the middle where that is short."""
    length, middle = stop - start, (start + stop) / 2
    point = np.exp(-0.5 * (middle / width) ** 2) / (width * (2 * np.pi) ** 0.5)
    # from the upper tail on either side, where the difference keeps its digits
    a, b = (np.where(middle > 0, -stop, start), np.where(middle > 0, -start, stop))
    mass = ndtr(b / width) - ndtr(a / width)
    return np.where(length > 1e-3 * width, mass / np.where(length > 0, length, 1), point)


def _part_above(level: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Part of each interval [low, high] that is above the level; an empty one is above, below or half."""
    length = high - low
    inside = np.divide(high - level, length, out=0.5 + 0.5 * np.sign(high - level), where=length > 0)
    return np.clip(inside, 0, 1)
