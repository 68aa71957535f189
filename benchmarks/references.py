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

TOLERANCE = 1e-7


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
    """The problem's eigenvalues by our solver on float64 products that keep nothing; from its file where it fits.

    Every eigenvalue is within TOLERANCE·max|λ| of an exact one, and no wanted one is missing.
    """
    file, key = folder / f"reference-{name}.json", fingerprint(problem)
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["sha256"] == key and kept["count"] == count:
            return Reference(np.array(kept["largest"]), np.array(kept["magnitude"]))
        note(f"{file.name} belongs to other weights or data: computing it anew")
    began, exact, matvecs = time.perf_counter(), problem.double(), 0
    found: dict[str, list[float]] = {}
    for ends in ("magnitude", "largest"):
        if ends == "largest" and min(found["magnitude"]) > 0:
            found[ends] = found["magnitude"]  # all of one sign: they are the largest, too
            continue
        result = hessian.measure(
            exact, HessianSpec(count=count, ends=ends, tolerance=TOLERANCE, sampling_error=False, max_matvecs=5000)
        )
        if not result.converged.all():
            raise RuntimeError(f"the reference of {name} did not converge in {result.matvecs} products")
        found[ends], matvecs = result.eigenvalues.tolist(), matvecs + result.matvecs
    record = {
        "name": name, "sha256": key, "count": count, "parameters": problem.weights.numel(), "terms": problem.size,
        **found, "how": f"landscape, float64, engine recompute, tolerance {TOLERANCE:g}", "products": matvecs,
        "seconds": round(time.perf_counter() - began, 1), "conditions": conditions(),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    return Reference(np.array(found["largest"]), np.array(found["magnitude"]))


def exact_product(problem: Problem, v: torch.Tensor) -> torch.Tensor:
    """Hv in float64, nothing kept."""
    twin = problem.double()
    return twin.hessian(twin.weights)(v.double())
