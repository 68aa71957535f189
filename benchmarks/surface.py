"""The loss over a random plane: ours against loss-landscapes, Landscaper, loss-landscape's loop and plain loops.

    python -m benchmarks.surface [mlp] [resnet] [--repeats N] [--json]

mlp: 25×25 points of a digits perceptron, 1,437 examples. resnet: 11×11 points of a public ResNet-20 with 512 images
of CIFAR-10. All in float32, on one plane w + a·D₁ + b·D₂ with a, b in [−1, 1]; every peer gets the data in the batches
that are fastest for a plain loop. error: largest |value − direct evaluation in float64| at nine of the contender's own
points, as a share of the range of the loss. The peers keep loss alone; ours takes the accuracy along. Variants of
ours: in bfloat16, and an adaptive scan of 51×51 points to 1 % of the range (its `evaluations` are of 2,601).
"""

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Achieved, Contender, attempt, available_problems, installed, options, race, report
from benchmarks.models import digits_problem, resnet20_problem
from landscape import surface
from landscape.problem import Problem
from landscape.spec import AxesSpec

SETTINGS = {"mlp": digits_problem, "resnet": resnet20_problem}
POINTS = {"mlp": 25, "resnet": 11}
BATCHES = (32, 128, 512, 10**6)
"""Examples at a time that plain loops try."""


@dataclass
class Plane:
    """One plane of one problem: directions (2, n) as long, tensor by tensor, as Landscaper makes them."""

    problem: Problem
    points: int
    directions: Tensor
    inputs: Tensor
    targets: Tensor

    @classmethod
    def of(cls, problem: Problem, points: int) -> "Plane":
        rng = torch.Generator().manual_seed(0)
        draws = torch.randn(2, len(problem.weights), generator=rng)
        for row in draws:
            for piece in problem.named(row).values():
                piece.mul_(piece.numel() ** 0.5 / piece.norm())
        draws *= 0.5 * problem.weights.norm() / draws.norm(dim=1, keepdim=True)
        x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
        return cls(problem, points, draws, x, y)

    def weights(self, a: float, b: float) -> Tensor:
        return self.problem.weights + a * self.directions[0] + b * self.directions[1]

    def model(self, a: float = 0.0, b: float = 0.0) -> nn.Module:
        return self.problem.model_at(self.weights(a, b)).eval()

    def pieces(self, row: Tensor) -> list[Tensor]:
        named = self.problem.named(row)
        return [named[name].clone() for name, _ in self.problem.model.named_parameters()]

    def achieved(
        self, values: np.ndarray, place: Callable[[int, int], tuple[float, float]], **counts: float
    ) -> Callable[[], Achieved]:
        """Finds the error at nine points; place(i, j): where the contender's values[i, j] are."""
        return lambda: {"error": self._error(values, place), **counts}

    def _error(self, values: np.ndarray, place: Callable[[int, int], tuple[float, float]]) -> float:
        double, worst = self.problem.double(), 0.0
        for i in np.linspace(0, len(values) - 1, 3).astype(int):
            for j in np.linspace(0, values.shape[1] - 1, 3).astype(int):
                a, b = place(int(i), int(j))
                worst = max(worst, abs(values[i, j] - double.value(self.weights(a, b).double())))
        return worst / float(np.ptp(values))

    def symmetric(self, i: int, j: int) -> tuple[float, float]:
        half = (self.points - 1) / 2
        return (i - half) / half, (j - half) / half


# -- contenders -------------------------------------------------------------------------------------


def ours(plane: Plane, **settings) -> Callable[[], Achieved]:
    radius = plane.directions.norm(dim=1)
    spec = AxesSpec(
        axes=("eigenvector:1", "eigenvector:2"), radius=tuple(map(float, radius)),
        **{"points": (plane.points,), **settings},
    )  # fmt: skip
    point = surface.Point("w", plane.problem.weights, plane.problem.buffers())
    found = surface.measure(plane.problem, spec, [point], eigenvectors=plane.directions / radius[:, None])
    x, y = found.x / radius[0].item(), found.y / radius[1].item()
    return plane.achieved(
        found.train_loss, lambda i, j: (float(x[i]), float(y[j])), evaluations=found.evaluations
    )  # fmt: skip


@torch.no_grad()
def mean_loss(model: nn.Module, plane: Plane, batch: int) -> float:
    total = 0.0
    for x, y in zip(plane.inputs.split(batch), plane.targets.split(batch), strict=True):
        total += F.cross_entropy(model(x), y, reduction="sum").item()
    return total / len(plane.targets)


def plain_loop(plane: Plane, batch: int) -> Callable[[], Achieved]:
    """A state dict for each point, loaded and evaluated."""
    model, start = plane.model(), plane.problem.model.state_dict()
    steps = [plane.problem.named(row) for row in plane.directions]
    values = np.empty((plane.points, plane.points))
    for i, j in np.ndindex(values.shape):
        a, b = plane.symmetric(i, j)
        state = {k: v + a * steps[0][k] + b * steps[1][k] if k in steps[0] else v for k, v in start.items()}
        model.load_state_dict(state)
        values[i, j] = mean_loss(model, plane, batch)
    return plane.achieved(values, plane.symmetric)


def parameter_loop(plane: Plane, batch: int) -> Callable[[], Achieved]:
    """The way of tomgoldstein/loss-landscape: lists of tensors, each parameter's data replaced."""
    model = plane.model()
    weights = [p.data.clone() for p in model.parameters()]
    first, second = (plane.pieces(row) for row in plane.directions)
    values = np.empty((plane.points, plane.points))
    for i, j in np.ndindex(values.shape):
        a, b = plane.symmetric(i, j)
        changes = [u * a + v * b for u, v in zip(first, second, strict=True)]
        for p, w, d in zip(model.parameters(), weights, changes, strict=True):
            p.data = w + d
        values[i, j] = mean_loss(model, plane, batch)
    return plane.achieved(values, plane.symmetric)


def by_loss_landscapes(plane: Plane, batch: int) -> Callable[[], Achieved]:
    from loss_landscapes import planar_interpolation
    from loss_landscapes.metrics import Metric

    class Loss(Metric):
        def __call__(self, wrapper) -> float:
            return mean_loss(wrapper.forward, plane, batch)

    corners = [plane.model(-1, -1), plane.model(1, -1), plane.model(-1, 1)]
    values = planar_interpolation(*corners, Loss(), steps=plane.points)

    def place(i: int, j: int) -> tuple[float, float]:  # rows go there and back, half of them one step late
        return -1 + 2 * i / plane.points, -1 + 2 * (j + (i % 2 == 0)) / plane.points

    return plane.achieved(values, place)


def by_landscaper(plane: Plane, batch: int) -> Callable[[], Achieved]:
    from landscaper.compute import compute_loss_landscape

    directions = [plane.pieces(row) for row in plane.directions]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        values, _ = compute_loss_landscape(
            plane.model(), None, directions, lambda model, _: mean_loss(model, plane, batch),
            steps=plane.points, distance=0.5, dim=2, device="cpu",
        )  # fmt: skip
    half = plane.points / 2

    def place(i: int, j: int) -> tuple[float, float]:
        return (i - plane.points // 2) / half, (j - plane.points // 2) / half

    return plane.achieved(values, place)


# -- the race ---------------------------------------------------------------------------------------


def best_batch(plane: Plane) -> int:
    """Examples at a time that a plain evaluation takes least time with."""
    model = plane.model()
    tried = {
        batch: min(attempt(lambda b=batch: {"error": mean_loss(model, plane, b)})[0] for _ in range(3))
        for batch in BATCHES
    }
    return min(tried, key=lambda batch: tried[batch])


def run(name: str, problem: Problem, repeats: int) -> dict:
    plane = Plane.of(problem, POINTS[name])
    batch = best_batch(plane)
    peers: dict[str, Contender] = {
        "plain loop": partial(plain_loop, plane, batch),
        "tomgoldstein's loop": partial(parameter_loop, plane, batch),
    }
    if installed("loss_landscapes"):
        peers["loss-landscapes"] = partial(by_loss_landscapes, plane, batch)
    if installed("landscaper"):
        peers["Landscaper"] = partial(by_landscaper, plane, batch)
    variants = {
        "bfloat16": partial(ours, plane, half=True), "adaptive 51×51": partial(ours, plane, points=(51,), adaptive=0.01)
    }  # fmt: skip
    shape = f"{name}, {plane.points}×{plane.points} points, n = {len(problem.weights)}, {problem.size} examples"
    result = race("surface", shape, partial(ours, plane), peers, repeats, variants)
    result["conditions"]["batch of the peers"] = min(batch, problem.size)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__, list(SETTINGS), argv)
    torch.set_num_threads(1)
    for name, problem in available_problems(SETTINGS, chosen.settings):
        report([run(name, problem, chosen.repeats)], chosen.json)


if __name__ == "__main__":
    main(sys.argv[1:])
