"""The search for eigenvectors in reduced precision, their certificate in full.

A Lanczos process whose products are off by 1e-3 finds the eigenspace to about as much; Rayleigh-Ritz with full
products brings it to any tolerance in a few more than one product a vector (`methods.refine`). Where a GPU
multiplies several times as fast in TF32, most products of the search then cost a fraction.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from landscape.aliases import Matvec, Vector
from landscape.devices import timed
from landscape.errors import InputError, illegal
from landscape.methods.inner import norm
from landscape.methods.refine import refine
from landscape.methods.restart import Eigenpairs, extreme_eigenpairs
from landscape.plan import BasisPlan
from landscape.products.product import Product
from landscape.spec import HessianSpec

_WORTH = 0.6
"""Reduced products are used when they take at most this fraction of the time: the refinement takes some more."""

_TRIALS = 3

_LOOSEST = 1e-3
"""Tolerance of the search, or the asked one where that is looser: what TF32 reaches."""


def wanted(spec: HessianSpec, w: Vector, plan: BasisPlan, matvec: Product, v: Vector) -> bool:
    """Whether to search in reduced precision; `auto` only on a GPU, and where a trial with v says that it pays.

    Raises `InputError` where it was asked for and cannot be.
    """
    if spec.search == "full" or (spec.search == "auto" and (w.device.type != "cuda" or spec.progressive)):
        return False
    possible = w.dtype == torch.float32 and plan.dtype == w.dtype and not spec.progressive
    if spec.search == "auto":
        return possible and _pays(matvec, v)
    if spec.progressive:
        raise InputError("search = reduced does not go with progressive, whose search is on a sample. Drop either.")
    if not possible:
        kept = "" if w.dtype == plan.dtype else f", whose basis would be kept in {plan.dtype}"
        raise illegal("search", "reduced", f"full or auto for {w.dtype}{kept}", "Use float32, or drop it.")
    return True


def _pays(matvec: Product, v: Vector) -> bool:
    """Whether reduced products take at most `_WORTH` of the time of full ones: medians of interleaved trials."""
    for _ in range(2):
        matvec(v)  # prepares what the engine keeps
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(_TRIALS):
        for run, taken in zip((matvec, matvec.rough), seconds, strict=True):
            taken.append(timed(partial(run, v), v.device)[0])
    full, reduced = map(statistics.median, seconds)
    return reduced <= _WORTH * full


def measure_pairs(
    matvec: Product,
    spec: HessianSpec,
    w: Vector,
    plan: BasisPlan,
    fresh: Callable[[int], Vector],
    exact: Matvec,
    watch: Callable[[int, int], object],
    start: torch.Tensor | None = None,
) -> tuple[Eigenpairs, int]:
    """Eigenpairs of `matvec`, found by its reduced products and certified by full ones; and the count of the former.

    The residuals are explicit, with the rounding of the full products measured against `exact`. That no wanted
    eigenvalue is missing is shown with reduced products, among eigenvalues further apart than their error.
    """
    loose = max(spec.tolerance, _LOOSEST)
    found = extreme_eigenpairs(
        matvec.rough, fresh, spec.count, spec.ends, loose, spec.max_matvecs, plan.rows, watch,
        start=start, store=plan.device, exhaustive=spec.exhaustive,
    )  # fmt: skip
    before, mixture = found.matvecs, found.vectors.sum(0).to(w)
    noise = norm(exact(mixture.double()) - matvec(mixture).double()).item()
    pairs = refine(
        matvec, w, found.vectors, spec.ends, len(found.values), spec.tolerance, spec.max_matvecs, plan.rows,
        plan.device, noise / max(found.scale, torch.finfo(torch.float64).tiny), lambda m, c: watch(before + m, c),
    )  # fmt: skip
    whole = found.complete or not spec.exhaustive
    return replace(
        pairs, complete=found.complete, converged=pairs.converged & whole, matvecs=before + pairs.matvecs + 1,
        restarts=found.restarts + pairs.restarts,
    ), before  # fmt: skip
