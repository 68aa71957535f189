"""What was found about the basins of a scan: widths, volumes, form, merge tree and passes."""

from dataclasses import dataclass
from math import gamma, pi
from typing import ClassVar

import numpy as np

from landscape.record import Result
from landscape.spec import BasinSpec


@dataclass(frozen=True, kw_only=True)
class BasinResult(Result):
    """Basins around m grid points of a scan with d axes, at L heights each.

    f is interpolated linearly on the triangulation of `methods.triangulation`; with it all areas, volumes and
    crossings are exact. All lengths are in the units of the scan's coordinates.

    labels, points (m, d): of the marks' nearest grid points, from which everything is measured, and of the lowest grid
    point where no mark has it. bases: (m,) f there. levels: (m, L) heights, as `spec.rises` says in words (NaN for a
    factor of a negative base). offsets: (m,) distance from the mark to its grid point.
    reach: (m, L, d, 2) distances from the point down and up each axis to the first crossing of the level;
    reach_open: whether scan or values end before, so that the distance is a lower bound.
    volumes: (m, L) length, area or volume of the component of {f ≤ level} that holds the point; open: whether it
    reaches the end of the scan or a point not evaluated, so that it is a lower bound. deviations: (m, L, d) standard
    deviations of a uniform point of the component along its principal axes, largest first.
    shares: (m, L) the part of the scanned domain where f ≤ level. components: (m, L) of {f ≤ level} in all.

    births, deaths (k,), minima, saddles (k, d), parents (k,): the merge tree, as `methods.merge_tree.MergeTree`
    says, in coordinates (NaN where there is no saddle). branches: (m,) that whose minimum steepest descent from
    each point ends in. passes: (m, m) the least height that a path between two points must climb to.
    walls: cells where f is not finite; they are higher than every level. unknown: cells not evaluated; they are
    left out, so that passes are upper bounds when there are any. cells: of the scan, in all.
    """

    kind: ClassVar[str] = "basin"
    spec: BasinSpec
    labels: tuple[str, ...]
    points: np.ndarray
    offsets: np.ndarray
    bases: np.ndarray
    levels: np.ndarray
    reach: np.ndarray
    reach_open: np.ndarray
    volumes: np.ndarray
    open: np.ndarray
    deviations: np.ndarray
    shares: np.ndarray
    components: np.ndarray
    births: np.ndarray
    deaths: np.ndarray
    minima: np.ndarray
    saddles: np.ndarray
    parents: np.ndarray
    branches: np.ndarray
    passes: np.ndarray
    walls: int
    unknown: int
    cells: int
    outside: tuple[str, ...] = ()

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return self.points.shape[1]

    @property
    def widths(self) -> np.ndarray:
        """(m, L, d) extent along each axis through the point; a lower bound where `reach_open` on either side."""
        return self.reach.sum(axis=-1)

    @property
    def asymmetry(self) -> np.ndarray:
        """(m, L, d) (up − down)/(up + down) of the reach, in [−1, 1]; NaN where either side is open.

        0: symmetric; 1: the level is crossed at once downwards. The number says which way an asymmetric valley
        (He, Huang & Yuan 2019, arXiv 1902.00744) is flat: towards growing coordinates where it is positive.
        """
        total = np.where(self.reach_open.any(axis=-1) | (self.widths == 0), np.nan, self.widths)
        return (self.reach[..., 1] - self.reach[..., 0]) / total

    @property
    def radii(self) -> np.ndarray:
        """(m, L) radius of the ball with the component's volume: V = π^(d/2)/Γ(d/2 + 1)·r^d."""
        d = self.dimension
        return (self.volumes * gamma(d / 2 + 1) / pi ** (d / 2)) ** (1 / d)

    @property
    def anisotropy(self) -> np.ndarray:
        """(m, L) largest over smallest of `deviations`; 1 for a ball, NaN for an empty or flat component."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.deviations[..., 0] / self.deviations[..., -1]
        return np.where(np.isfinite(ratio), ratio, np.nan)

    @property
    def persistence(self) -> np.ndarray:
        """(k,) height from each minimum to the saddle where its branch ends; +∞ for the lowest."""
        return self.deaths - self.births
