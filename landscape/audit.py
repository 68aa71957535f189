"""Does a measure of sharpness move when nothing about the network's function does?

Weights can be changed so that a network stays the same function: a unit's incoming weights times α and its outgoing
ones by α, a batch norm's input times α, units in another order. Dinh et al. 2017 (arXiv 1703.04933) showed that
sharpness can be made anything that way. `measure` finds such transformations in the network (`landscape.units`),
verifies that its outputs stay, and measures everything before and after, with the same seeds.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from landscape import seeds
from landscape.aliases import Vector
from landscape.errors import InputError
from landscape.measures import several
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.results import AuditResult, MeasuresResult
from landscape.spec import MeasuresSpec, SharpnessSpec
from landscape.units.transform import KINDS, transformed, units_of_problem

Progress = Callable[[int, int | None, str], object]

UNMOVED = 1e-5
"""Relative change that counts as none; a permutation must keep every number to that, or to `UNMOVED_FLOAT32`."""
UNMOVED_FLOAT32 = 1e-3
CLAIMED = 0.01
"""Relative change beyond which a number that is invariant by its definition is broken."""
STANDARD_ERRORS = 3.0
REDRAWS, SEED_SPREADS = 2, 3.0
"""Measurements with other seeds where a permutation moved a number, and the multiple of what they move it by."""
ROUNDING = 2.0**-52
"""Absolute change that counts as none, for numbers that are 0."""


@full_precision()
def measure(
    problem: Problem,
    spec: MeasuresSpec,
    initial: Vector | None = None,
    keskar: SharpnessSpec | None = None,
    alpha: float | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """The measures that `spec` names at the problem's weights, and at each transformed network.

    Kinds "relu-layer", "relu" and "batch-norm": a number whose measure claims to be invariant (`Row.invariant`) must
    not move by more than 1 %. Kind "permutation": no number may move, by 1e-5 in float64, or 1e-3 in float32, where
    maximisers and eigensolvers stop at other digits. Any number may move by three combined errors of its own,
    √(e² + e'²).

    Directions and noise are drawn for each weight, and move with it when units are permuted (`seeds.reordered`).
    Where a permutation still moves a number by more than its errors (a maximiser or a measure that draws for other
    coordinates than the weights), all is measured again with other seeds, and the number may move by three times as
    much as it does then.

    alpha: one factor for all units, default random ones. initial: w₀, which permutations take along. Raises
    `InputError` when nothing can be transformed, and as `landscape.measures.measure`.
    """
    began = time.perf_counter()
    keskar = keskar or SharpnessSpec()
    units = units_of_problem(problem)
    all_changed = [transformed(problem, units, kind, spec.measure_seed, alpha if kind != "permutation" else None)
                   for kind in KINDS]  # fmt: skip
    changed = [one for one in all_changed if one.groups]
    left_out = [*units.left_out, *((one.kind, *drop) for one in all_changed for drop in one.dropped)]
    if not changed:
        reasons = "; ".join(f"{name}: {reason}" for _, name, reason in left_out[:3])
        raise InputError(
            "the audit found no units in the network that can be rescaled or permuted"
            f"{f' ({reasons})' if reasons else ''}. It needs a hidden layer between linear ones or convolutions."
        )

    def watched(where: str) -> Progress:
        def tell(done: int, total: int | None, what: str) -> None:
            if progress is not None:
                progress(done, total, f"{where}: {what}")

        return tell

    before = several.measure(problem, spec, None, initial, keskar, watched("original"))
    after = []
    for one in changed:
        w0 = initial if initial is None or one.kind != "permutation" else one.carry(initial)
        with nullcontext() if one.order is None else seeds.reordered(one.order):
            after.append(several.measure(one.problem, spec, None, w0, keskar, watched(one.kind)))
        _same_rows(before, after[-1])
    kinds = tuple(one.kind for one in changed)
    cells = _compared(before, after, kinds, problem.weights.dtype)
    spreads = np.full(len(before.names), np.nan)
    if "permutation" in kinds and cells.beyond()[:, kinds.index("permutation")].any():
        again = [
            several.measure(
                problem, replace(spec, measure_seed=spec.measure_seed + k), None, initial,
                replace(keskar, seed=keskar.seed + k), watched(f"other seed {k}"),
            )
            for k in range(1, REDRAWS + 1)
        ]  # fmt: skip
        moved = np.max([difference(before.values, one.values) for one in again], 0)
        cells = cells.allowing(SEED_SPREADS * moved, kinds.index("permutation"))
        spreads = _relative(moved, before.values)
    return AuditResult(
        spec=spec, loss=before.loss, seconds=time.perf_counter() - began,
        conditions={**before.conditions, "keskar": keskar.to_dict(), "alpha": alpha},
        names=before.names, measures=before.groups, kinds=kinds, values=before.values, errors=before.errors,
        values_after=np.stack([one.values for one in after], 1),
        errors_after=np.stack([one.errors for one in after], 1),
        changes=_relative(cells.differences, before.values[:, None]), claims=cells.claims,
        allowances=_relative(cells.errors, before.values[:, None]), spreads=spreads,
        output_changes=np.array([one.change for one in changed]), verdicts=cells.verdicts(),
        groups=tuple((one.kind, group.name, group.size) for one in changed for group in one.groups),
        left_out=tuple(left_out), undefined=before.undefined,
    )  # fmt: skip


@dataclass(frozen=True)
class _Cells:
    """Absolute numbers with axes (row, kind): what moved, what counts as unmoved, what errors explain."""

    differences: np.ndarray
    limits: np.ndarray
    errors: np.ndarray
    claims: np.ndarray

    def beyond(self) -> np.ndarray:
        return ~(self.differences <= np.fmax(self.limits, self.errors))

    def allowing(self, error: np.ndarray, kind: int) -> "_Cells":
        errors = self.errors.copy()
        errors[:, kind] = np.fmax(errors[:, kind], error)
        return replace(self, errors=errors)

    def verdicts(self) -> tuple[tuple[str, ...], ...]:
        outcome = np.where(self.claims, "BROKEN", "moves")
        outcome = np.where(self.differences <= self.errors, "within error", outcome)
        outcome = np.where(self.differences <= self.limits, "invariant", outcome)
        return tuple(tuple(map(str, row)) for row in outcome)


def _compared(before: MeasuresResult, after: list[MeasuresResult], kinds: Sequence[str], dtype: torch.dtype) -> _Cells:
    permuted = np.array([kind == "permutation" for kind in kinds])
    claims = np.array([[_claimed(kind, row) for kind in kinds] for row in before.invariant], bool)
    strict = UNMOVED if dtype == torch.float64 else UNMOVED_FLOAT32
    limits = np.where(claims, np.where(permuted, strict, CLAIMED), UNMOVED) * np.abs(before.values)[:, None]
    errors = STANDARD_ERRORS * np.stack([np.hypot(before.errors, one.errors) for one in after], 1)
    differences = np.stack([difference(before.values, one.values) for one in after], 1)
    return _Cells(differences, np.fmax(limits, ROUNDING), np.nan_to_num(errors, posinf=0.0), claims)


def _claimed(kind: str, invariant: Sequence[str]) -> bool:
    """Whether a number has to stay: under any permutation, and under what its measure says."""
    return kind == "permutation" or kind in invariant or (kind == "relu-layer" and "relu" in invariant)


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """|after − before|, 0 where both are NaN or the same infinity, infinite where one alone is."""
    with np.errstate(invalid="ignore"):
        moved = np.where((after == before) | (np.isnan(after) & np.isnan(before)), 0.0, np.abs(after - before))
    return np.where(np.isnan(moved), np.inf, moved)


def _relative(change: np.ndarray, of: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(change == 0, 0.0, change / np.abs(of))


def _same_rows(before: MeasuresResult, after: MeasuresResult) -> None:
    if before.names != after.names:
        other = ", ".join(sorted(set(before.names) ^ set(after.names)))
        raise InputError(f"a measure names its numbers otherwise after a transformation ({other}). Leave it out.")
