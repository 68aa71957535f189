"""Symmetric matrices with prescribed spectra, by name: repeated, clustered, tiny, zero and negative eigenvalues."""

import numpy as np
import torch
from torch import Tensor

from landscape import seeds

N = 60


def _bulk(count: int, width: float = 0.3) -> np.ndarray:
    return width * np.cos(np.arange(count) * 2.0 + 0.5)


SPECTRA: dict[str, np.ndarray] = {
    "outliers": np.r_[9.0, 6.0, 4.0, 2.5, -1.5, _bulk(N - 5)],
    "repeated": np.r_[3.0, 3.0, 3.0, 2.0, 2.0, -1.0, -1.0, _bulk(N - 7)],
    "repeated_bottom": np.r_[5.0, -2.0, -2.0, -2.0, -2.0, _bulk(N - 5)],
    "clustered": np.r_[1 + 1e-3 * np.arange(6), -1 - 1e-6 * np.arange(4), _bulk(N - 10)],
    "tiny": np.r_[1.0, 1e-3, 1e-5, 1e-7, -1e-7, np.full(N - 5, 1e-9)],
    "low_rank": np.r_[4.0, 4.0, 1.0, np.zeros(N - 3)],
    "all_negative": -np.linspace(1, 3, N),
    "opposite": np.r_[2.0, -2.0, 1.5, -1.5, _bulk(N - 4)],
    "integers": np.round(_bulk(N, 3.4)),
    "identity": np.ones(N),
    "zero": np.zeros(N),
    "huge": 1e15 * np.r_[3.0, 3.0, 1.0, _bulk(N - 3)],
    "minute": 1e-15 * np.r_[3.0, 3.0, 1.0, _bulk(N - 3)],
    "one": np.array([-4.0]),
    "three": np.array([2.0, 2.0, -1.0]),
}


def symmetric(spectrum: np.ndarray, seed: int = 0) -> Tensor:
    """Q diag(spectrum) Qᵀ in float64, with Q uniform over the orthogonal matrices."""
    n = len(spectrum)
    Q = seeds.orthonormal(seeds.stream(seed, "matrix"), n, torch.empty(n, dtype=torch.float64))
    A = (Q.T * torch.from_numpy(spectrum)) @ Q
    return (A + A.T) / 2


def fresh(like: Tensor, seed: int = 0):
    """The callable of Gaussian starts that the eigenvalue solver takes."""
    return lambda i: seeds.gaussian(seeds.stream(seed, "fresh", i), 1, like)[0]


def wanted(values: np.ndarray, count: int, ends: str) -> np.ndarray:
    """What a solver asked for `count` of `values` at `ends` has to return, in its order."""
    ranked = np.sort(values)[::-1]
    if ends == "largest":
        return ranked[:count]
    if ends == "smallest":
        return ranked[::-1][:count]
    if ends == "magnitude":
        return values[np.argsort(-np.abs(values), kind="stable")][:count]
    return ranked if len(values) <= 2 * count else np.r_[ranked[:count], ranked[-count:]]
