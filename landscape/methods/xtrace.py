"""XTrace and Hutch++: a sketch of the range catches the large eigenvalues, probes the rest.

Meyer, Musco, Musco & Woodruff 2021, "Hutch++: optimal stochastic trace estimation" (algorithm 1).
Epperly, Tropp & Webber 2024, "XTrace: making the most of every sample in stochastic trace estimation" (section 2.2).
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Matvec
from landscape.errors import illegal
from landscape.methods.hutchinson import Estimate, hutchinson, summarise
from landscape.methods.inner import inner, products
from landscape.methods.lanczos import breakdown, orthogonalise, require_finite, unit_or_zero


def hutch_plus_plus(matvec: Matvec, probes: Float[Tensor, "probes n"]) -> Estimate:
    """tr A = tr QAQᵀ + tr PAP: Q spans the images of half of the probes, the other half estimates tr PAP.

    matvec: rows ↦ rows (`quadrature.by_rows`). Three products for two probes.
    Each sample includes tr QAQᵀ; the standard error is that given Q.
    Raises `InputError` for a product that is not finite, and for fewer than two probes.
    """
    _require_two(probes)
    half = len(probes) // 2
    basis = _range(matvec(probes[:half]))
    known = torch.stack([inner(q, y) for q, y in zip(basis, matvec(basis), strict=True)]).sum().cpu()
    rest = hutchinson(matvec, torch.stack([orthogonalise(basis, z)[1] for z in probes[half:]]))
    return summarise(rest.samples + known)


def xtrace(matvec: Matvec, probes: Float[Tensor, "probes n"]) -> Estimate:
    """For each probe ω, tr QᵢAQᵢᵀ + ωᵀPᵢAPᵢω, where Qᵢ spans the images of the other probes; two products each.

    matvec: rows ↦ rows. The samples are exchangeable, not independent; s/√probes is the paper's error estimate.
    Raises `InputError` for a product that is not finite, and for fewer than two probes.
    """
    _require_two(probes)
    images = matvec(probes)
    basis = _range(images)
    mapped = matvec(basis)

    def table(rows: Tensor, columns: Tensor) -> np.ndarray:
        return torch.stack([products(rows, v) for v in columns], 1).cpu().numpy()

    R, Z, V, H = table(basis, images), table(basis, probes), table(mapped, probes), table(basis, mapped)
    quadratics = torch.stack([inner(z, y) for z, y in zip(probes, images, strict=True)]).cpu().numpy()
    require_finite(R, Z, V, H, quadratics)
    inverse = np.linalg.pinv(R, rcond=1e-10)
    needed = np.diag(inverse @ R) > 1 - 1e-6  # the others' images do not span this one's
    S = np.where(needed, inverse.T, 0)  # column i is orthogonal to the images of all probes but i
    S = S / np.where(needed, np.linalg.norm(S, axis=0), 1)
    X = Z - S * (S * Z).sum(0)  # Qᵢω in the coordinates of Q
    known = np.trace(H) - (S * (H @ S)).sum(0)
    return summarise(torch.from_numpy(known + quadratics - 2 * (X * V).sum(0) + (X * (H @ X)).sum(0)))


def _range(images: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
    """Orthonormal rows, or zero ones, that span the images: an image within rounding of the others gives zero."""
    rows = torch.zeros_like(images)
    for k, y in enumerate(images):
        size = torch.linalg.vector_norm(y).double()
        _, rest, length = orthogonalise(rows[:k], y)
        rows[k] = unit_or_zero(rest, length, breakdown(y) * size)[1]
    return rows


def _require_two(probes: Tensor) -> None:
    if len(probes) < 2:
        raise illegal("probes", len(probes), "at least 2", "Raise the budget.")
