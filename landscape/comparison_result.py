"""Several checkpoints in one table, and how its columns go with the generalisation gap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.record import Result
from landscape.spec import CorrelateSpec


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Result):
    """A table of checkpoints: rows are checkpoints, `label` groups repetitions (seeds) of one recipe.

    columns: names with units, e.g. "test accuracy (%)". values, errors: (rows, columns); errors are the
    measurement's own standard error or deviation (NaN where it has none). settings: how each row's run was trained,
    {} where it did not record that. undefined: (checkpoint, measure, reason) of what has no meaning there.
    """

    kind: ClassVar[str] = "comparison"
    labels: tuple[str, ...]
    checkpoints: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    settings: tuple[Mapping[str, Any], ...] = ()
    undefined: tuple[tuple[str, str, str], ...] = ()

    def groups(self) -> dict[str, np.ndarray]:
        """Row indices by label, in order of first appearance."""
        return {k: np.array([i for i, v in enumerate(self.labels) if v == k]) for k in dict.fromkeys(self.labels)}


@dataclass(frozen=True, kw_only=True)
class CorrelationResult(ComparisonResult):
    """A comparison, and how the order of its rows by each measure agrees with that by the generalisation gap.

    gaps: (rows,) train minus test accuracy in points, or test minus train loss, as `spec.gap` says. measures: the
    columns that were correlated; the other arrays have one entry for each. taus: Kendall's τ_b over `counts` rows;
    lows, highs: bootstrap interval. factors: hyper-parameters that differ between runs; psis (measures, factors): the
    mean τ_b over groups of runs that differ in that factor alone (NaN without such groups), and granulated: the
    mean over factors, Jiang's Ψ.
    """

    kind: ClassVar[str] = "correlation"
    spec: CorrelateSpec
    gaps: np.ndarray
    measures: tuple[str, ...]
    taus: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray
    factors: tuple[str, ...]
    psis: np.ndarray
    granulated: np.ndarray
