"""Extreme eigenvalues of the Hessian at each point of a scan, warm-started from the point before."""

import numpy as np
import torch

from landscape import hessian
from landscape.aliases import Vector
from landscape.errors import InputError
from landscape.problem import Buffers, Problem
from landscape.spec import GridSpec, HessianSpec
from landscape.units.states import problem_at, state_of

LARGEST, SMALLEST, RESIDUAL = "largest eigenvalue", "smallest eigenvalue", "eigenvalue residual"


def names(spec: GridSpec) -> tuple[str, ...]:
    """What is measured at each point; the residual is the larger one where there are two eigenvalues."""
    return {"none": (), "largest": (LARGEST, RESIDUAL), "both": (LARGEST, SMALLEST, RESIDUAL)}[spec.curvature]


class Curvature:
    """(w, buffers) ↦ the values of `names` at w; `vectors` (k, n) are the eigenvectors at the last point.

    The search goes on from these and is exhaustive: where eigenvalues have crossed since, they alone would still find
    the one that was the largest.
    """

    def __init__(self, problem: Problem, spec: GridSpec):
        self.problem, self.count = problem, len(names(spec))
        self.spec = HessianSpec(
            count=1, ends="both" if spec.curvature == "both" else "largest", tolerance=spec.curvature_tolerance,
            sampling_error=False, vectors=True,
        )  # fmt: skip
        self.vectors = np.zeros((0, 0), np.float32)

    def __call__(self, w: Vector, buffers: Buffers) -> list[float]:
        start = torch.from_numpy(self.vectors).to(w.device, w.dtype) if self.vectors.size else None
        try:
            here = problem_at(self.problem, {**state_of(self.problem, w), **buffers})
            found = hessian.measure(here, self.spec, start=start)
        except InputError:  # a loss or a product that is not finite there
            return [float("nan")] * self.count
        self.vectors = found.vectors
        values = found.eigenvalues
        ends = [values.max(), values.min()] if self.spec.ends == "both" else [values.max()]
        return [*map(float, ends), float(found.residuals.max())]
