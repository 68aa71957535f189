"""Scans with everything that a result may hold, made without a network."""

import numpy as np

from landscape.results import SurfaceResult
from landscape.spec import AxesSpec

NONE = np.zeros(0)


def trained_plane(steps: int = 12, broken: bool = False) -> SurfaceResult:
    """An 13×9 plane of two components: quadratic loss, test loss, accuracies, curvature, a training towards 0.

    broken: with points that are NaN, infinite and not evaluated.
    """
    x, y = np.linspace(-2, 4, 13), np.linspace(-1, 3, 9)
    X, Y = np.meshgrid(x, y, indexing="ij")
    loss, done = 1e-3 + X**2 + 2 * Y**2, np.ones((13, 9), bool)
    if broken:
        loss[3, 2], loss[10, 6], done[11:, 0] = np.nan, np.inf, False
        loss[~done] = np.nan
    t = np.linspace(1, 0, steps)[:, None]
    return SurfaceResult(
        spec=AxesSpec(axes=("component:1", "component:2"), points=(13, 9)), x=x, y=y, train_loss=loss,
        train_accuracy=1 / (1 + loss), test_loss=1.5 * loss + 0.1, test_accuracy=0.9 / (1 + loss),
        labels=(f"epoch {steps}",), marks=np.zeros((1, 2)), complete=not broken, done=done, evaluations=234,
        axes=("PC 1", "PC 2"), explained=np.array([0.7, 0.2]), trajectory=np.hstack([3.5 * t, 2.5 * t**2]),
        trajectory_labels=tuple(f"epoch {k + 1}" for k in range(steps)),
        extra_names=("smallest eigenvalue",), extra=(0.5 * X - 0.4)[..., None],
        conditions={"examples": 1437, "parameters": 8970, "dtype": "float32", "device": "cpu"},
        provenance={"command": ["landscape", "surface", "random", "runs/sam"]},
    )  # fmt: skip
