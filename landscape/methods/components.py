"""Principal components of a trajectory, and coordinates of points along given directions."""

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.methods.inner import combinations

_BLOCK = 1 << 20


def principal_components(
    displacements: Float[Tensor, "T n"], count: int
) -> tuple[Float[Tensor, "count n"], Float[Tensor, " T"]]:
    """The first `count` principal axes of T points, and the share of their variance along each of all axes.

    displacements: of the points from any origin; their mean is subtracted, as PCA does (Li et al. 2018, section 7).
    By the eigenvectors of the (T, T) Gram matrix in float64, n being large. Axes are orthonormal rows in the dtype of
    the displacements; each points to where the last point lies. Raises `ValueError` when the points span fewer.
    """
    centred = gram(displacements, displacements)
    centred = centred - centred.mean(0, keepdim=True)
    centred = centred - centred.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh((centred + centred.T) / 2)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    if count > len(values) or not values[count - 1] > 1e-12 * values[0]:
        raise ValueError(f"{len(displacements)} points with fewer than {count} directions of variance")
    mixing = vectors[:, :count].T / values[:count, None].sqrt()
    mixing = mixing - mixing.mean(1, keepdim=True)
    axes = displacements.new_empty(count, displacements.shape[1])
    combinations(mixing, displacements, axes)
    towards = gram(axes, displacements[-1:] - displacements.mean(0, keepdim=True))[:, 0]
    axes = axes * torch.where(towards < 0, -1.0, 1.0).to(axes.dtype)[:, None]
    return axes, values / values.sum()


def gram(a: Float[Tensor, "k n"], b: Float[Tensor, "m n"]) -> Float[Tensor, "k m"]:
    """All inner products of rows, in float64, by blocks of coordinates."""
    total = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    for part, other in zip(a.split(_BLOCK, 1), b.split(_BLOCK, 1), strict=True):
        total += part.double() @ other.double().T
    return total


def coordinates_along(
    displacements: Float[Tensor, "T n"], directions: Float[Tensor, "axes n"]
) -> Float[Tensor, "T axes"]:
    """c with Σ_k c_k·d_k nearest to each displacement, in float64; orthonormal directions give inner products."""
    return torch.linalg.solve(gram(directions, directions), gram(directions, displacements)).T


def orthogonalised(directions: Float[Tensor, "axes n"]) -> Float[Tensor, "axes n"]:
    """The directions made orthogonal in their order, each with the length that it had; the first stays.

    Raises `ValueError` when one lies in the span of those before it.
    """
    rows = directions.double()
    for k in range(1, len(rows)):
        length = torch.linalg.vector_norm(rows[k])
        for _ in range(2):  # once leaves what cancellation has lost
            for j in range(k):
                rows[k] -= (rows[k] @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        left = torch.linalg.vector_norm(rows[k])
        if not left > 1e-6 * length:
            raise ValueError(f"direction {k + 1} lies in the span of those before it")
        rows[k] *= length / left
    return rows.to(directions.dtype)
