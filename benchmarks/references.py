"""Eigenvalues in float64 that errors are measured against: small files, since some take minutes to compute."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import RESULTS, conditions, note
from landscape import hessian
from landscape.problem import Problem
from landscape.spec import HessianSpec

TOLERANCE = 1e-5

EXTRA = 2
"""Eigenvectors beyond those wanted: the distance to the next eigenvalue left out decides the error."""


@dataclass(frozen=True)
class Reference:
    """The `count` largest eigenvalues (descending) and those of largest magnitude (by magnitude)."""

    largest: np.ndarray
    magnitude: np.ndarray

    def error(self, values: np.ndarray, ends: str = "largest") -> float:
        """Largest distance from the wanted eigenvalues, in the order of size, relative to the largest."""
        if ends == "magnitude":
            truth, values = self.magnitude[np.argsort(-np.abs(self.magnitude))], values[np.argsort(-np.abs(values))]
            return float(np.abs(np.abs(values) - np.abs(truth)).max() / self.largest[0])
        return float(np.abs(np.sort(values)[::-1] - self.largest).max() / self.largest[0])


def fingerprint(problem: Problem) -> str:
    """SHA-256 of the weights and of all data."""
    digest = hashlib.sha256(problem.weights.cpu().numpy().tobytes())
    for inputs, targets in problem.passes(problem.weights):
        digest.update(inputs.cpu().contiguous().numpy().tobytes() + targets.cpu().numpy().tobytes())
    return digest.hexdigest()


def reference(name: str, problem: Problem, count: int, folder: Path = RESULTS) -> Reference:
    """The problem's eigenvalues in float64; from the file where that is of the same weights and data.

    Our solver finds `count` + EXTRA eigenvectors in float32, with proof that none is missed. Rayleigh-Ritz in
    their span with products in float64 that keep nothing (double backward) gives the values: each within the
    residual r, also in the file, of an exact eigenvalue, and mostly within r² / (distance to those left out).
    """
    file, key = folder / f"reference-{name}.json", fingerprint(problem)
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["sha256"] == key and kept["count"] == count:
            return Reference(np.array(kept["largest"]), np.array(kept["magnitude"]))
        note(f"{file.name} belongs to other weights or data: computing it anew")
    began = time.perf_counter()
    found, residuals = {}, {}
    for ends in ("magnitude", "largest"):
        if ends == "largest" and found["magnitude"].min() > 0:  # they are the largest, too
            found[ends], residuals[ends] = found["magnitude"], residuals["magnitude"]
        else:
            found[ends], residuals[ends] = _refined(problem, count, ends)
    record = {
        "name": name, "sha256": key, "count": count, "parameters": problem.weights.numel(), "terms": problem.size,
        **{ends: values.tolist() for ends, values in found.items()},
        "residuals": {ends: values.tolist() for ends, values in residuals.items()},
        "how": "eigenvectors in float32, Rayleigh-Ritz with double backward in float64",
        "seconds": round(time.perf_counter() - began, 1), "conditions": conditions(),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    return Reference(found["largest"], found["magnitude"])


def _refined(problem: Problem, count: int, ends: str) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, the most wanted first, and their residuals."""
    spec = HessianSpec(count=count + EXTRA, ends=ends, tolerance=TOLERANCE, sampling_error=False, vectors=True)
    rough = hessian.measure(problem, spec)
    if not rough.conditions["complete"]:
        raise RuntimeError(f"the eigenvalues were not found in {rough.matvecs} products")
    exact = problem.double()
    product = exact.hessian(exact.weights)
    V = np.linalg.qr(rough.vectors.astype(np.float64).T)[0]
    W = np.stack([product(torch.from_numpy(v.copy()).to(exact.weights)).cpu().numpy() for v in V.T], 1)
    values, rotation = np.linalg.eigh((V.T @ W + W.T @ V) / 2)
    residuals = np.linalg.norm(W @ rotation - V @ rotation * values, axis=0)
    best = np.argsort(-values if ends == "largest" else -np.abs(values))[:count]
    return values[best], residuals[best]


def exact_product(problem: Problem, v: torch.Tensor) -> torch.Tensor:
    """Hv in float64, nothing kept."""
    twin = problem.double()
    return twin.hessian(twin.weights)(v.double())
