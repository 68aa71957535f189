"""What was found about sharpness: Keskar's, all other measures, and what moves them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.record import Result
from landscape.spec import MeasuresSpec, SharpnessSpec


@dataclass(frozen=True, kw_only=True)
class SharpnessResult(Result):
    """Keskar's ε-sharpness in percent. Arrays have axes (space, ε) or (space, ε, trial), in the spec's order.

    sharpness: mean over trials; deviation: sample standard deviation over trials (NaN for one trial).
    Certificates per maximisation: values = φ; maxima = best loss; active = share of coordinates at a bound;
    projected_gradient = ‖P(z + ∇f) − z‖∞ relative to the half-widths (0 at a stationary point of the box);
    spread = best minus worst over restarts, in loss; probe = best loss of the random-corner and
    sign-gradient-corner probes, which maxima never fall below.
    """

    kind: ClassVar[str] = "sharpness"
    spec: SharpnessSpec
    loss: float
    sharpness: np.ndarray
    deviation: np.ndarray
    values: np.ndarray
    maxima: np.ndarray
    active: np.ndarray
    projected_gradient: np.ndarray
    spread: np.ndarray
    probe: np.ndarray
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class MeasuresResult(Result):
    """Numbers about one minimum, from several measures: names, values and errors of equal length.

    names: the measure with its parameters, such as "worst-case l2 ρ=0.1". errors: one standard error, or the
    deviation over trials, NaN where a number has none. groups: the measure's name in `spec.MEASURES`.
    certificates: for each number what is needed to judge it (converged, evaluations, …), as its measure says.
    invariant: for each number the kinds of rescalings that leave it as it is by its definition.
    undefined: (measure, reason) of those asked for that have no meaning here.
    """

    kind: ClassVar[str] = "measures"
    spec: MeasuresSpec
    loss: float
    names: tuple[str, ...]
    groups: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    certificates: tuple[Mapping[str, Any], ...]
    invariant: tuple[tuple[str, ...], ...] = ()
    undefined: tuple[tuple[str, str], ...] = ()


VERDICTS = ("invariant", "within error", "moves", "BROKEN")
"""What an audit says of a number: not moved; moved by no more than its errors; moved; moved and must not."""


@dataclass(frozen=True, kw_only=True)
class AuditResult(Result):
    """Numbers about one minimum (as in `MeasuresResult`), before and after transformations that keep the function.

    kinds: of transformation. values, errors: (rows,) before; values_after, errors_after, changes: (rows, kinds),
    the latter |after/before − 1|. claims: (rows, kinds) whether the number must stay as it is. allowances:
    (rows, kinds) the change that is put down to errors and draws. verdicts: by row one of `VERDICTS` for each kind.
    spreads: (rows,) the largest relative change under other seeds, NaN where no verdict needed it.
    output_changes: (kinds,) what the transformation changed in the network's outputs, relative.
    groups: (kind, name, units) of the groups transformed; left_out: (kind, name, reason). undefined: (measure, reason)
    as in `MeasuresResult`.
    """

    kind: ClassVar[str] = "audit"
    spec: MeasuresSpec
    loss: float
    names: tuple[str, ...]
    measures: tuple[str, ...]
    kinds: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    values_after: np.ndarray
    errors_after: np.ndarray
    changes: np.ndarray
    claims: np.ndarray
    allowances: np.ndarray
    spreads: np.ndarray
    output_changes: np.ndarray
    verdicts: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, str, int], ...]
    left_out: tuple[tuple[str, str, str], ...]
    undefined: tuple[tuple[str, str], ...] = ()

    @property
    def broken(self) -> tuple[tuple[str, str], ...]:
        """(number, kind) of what moved and must not."""
        return tuple(
            (name, kind)
            for name, row in zip(self.names, self.verdicts, strict=True)
            for kind, verdict in zip(self.kinds, row, strict=True)
            if verdict == "BROKEN"
        )


@dataclass(frozen=True, kw_only=True)
class DependenceResult(Result):
    """Keskar's φ (percent) under settings that are changed one at a time, everything else as in `spec`.

    One row per network and setting. labels: of the network. factors: what is changed, a field of the spec or
    "dtype". settings: its value, in words. spaces: full or subspace. laws: of A, "" in the full space. searches:
    "whole" for `landscape.sharpness` as it is, "climb" for one L-BFGS-B climb from one jittered start and no more.
    values: (rows, trials); sharpness and deviation: (rows,) mean and sample standard deviation over trials;
    converged: (rows,) share of trials whose maximum had converged; evaluations: (rows,) of all trials together.
    """

    kind: ClassVar[str] = "dependence"
    spec: SharpnessSpec
    labels: tuple[str, ...]
    factors: tuple[str, ...]
    settings: tuple[str, ...]
    spaces: tuple[str, ...]
    laws: tuple[str, ...]
    searches: tuple[str, ...]
    values: np.ndarray
    sharpness: np.ndarray
    deviation: np.ndarray
    converged: np.ndarray
    evaluations: np.ndarray
