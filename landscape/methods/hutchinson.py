"""The trace of an operator from random probes (Hutchinson 1990; Avron & Toledo 2011 for the errors)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec
from landscape.methods.inner import inner
from landscape.methods.lanczos import require_finite


@dataclass(frozen=True)
class Estimate:
    """mean and standard error (NaN for one sample) of `samples` (probes,), the quadratic forms in float64."""

    mean: float
    standard_error: float
    samples: Float[Tensor, " probes"]


def hutchinson(matvec: Matvec, probes: Float[Tensor, "probes n"]) -> Estimate:
    """tr A ≈ mean of zᵀAz over the probes z, which have independent entries of mean 0 and variance 1.

    Unbiased; with ±1 entries the variance of a sample is 2 Σ_{i≠j} A_ij², nothing for a diagonal matrix.
    matvec: rows ↦ rows (`quadrature.by_rows`). Raises `InputError` for a product that is not finite.
    """
    return summarise(torch.stack([inner(z, y) for z, y in zip(probes, matvec(probes), strict=True)]).cpu())


def summarise(samples: Float[Tensor, " probes"]) -> Estimate:
    """Mean and standard error s/√probes of independent samples."""
    require_finite(samples.numpy())
    error = (samples.std() / len(samples) ** 0.5).item() if len(samples) > 1 else math.nan
    return Estimate(samples.mean().item(), error, samples)
