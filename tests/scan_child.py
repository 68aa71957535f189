"""A small plane scan to be killed: `python scan_child.py WHOLE KILLED SEED CASE`, used by test_surface.py.

The scan runs once undisturbed (WHOLE), then as ten processes in a row that each die by SIGKILL at a random
moment and leave KILLED behind, then as one that finishes KILLED. Prints the cells stored after every kill.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.results import SurfaceResult, load, save
from landscape.spec import PlaneSpec
from landscape.surface import Point, measure

SPECS = {
    "plane": PlaneSpec(x_points=9, y_points=7),
    "adaptive": PlaneSpec(x_points=23, y_points=19, adaptive=0.02),
}


def tiny_scan(
    spec: PlaneSpec, partial: str | None, progress: Callable[[int, int], None] | None = None
) -> SurfaceResult:
    rng = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    inputs, targets = torch.randn(20, 4, generator=rng), torch.randint(0, 3, (20,), generator=rng)
    batches = [(inputs[:12], targets[:12]), (inputs[12:], targets[12:])]
    problem = Problem(model, loss_by_name("cross_entropy"), batches)
    corners = [torch.randn(len(problem.weights), generator=rng) for _ in range(3)]
    points = [Point(name, w, problem.buffers()) for name, w in zip("abc", corners, strict=True)]
    return measure(problem, spec, points, problem, partial=partial, save_every=0.0, progress=progress)


def killed(spec: PlaneSpec, partial: str, cells: int, later: float) -> int:
    """Fork a scan, kill it `later` seconds after `cells` − 1 new cells, and return how many the file then holds.

    The child may not pass cell `cells` + 1, so that a slow parent never finds the scan finished.
    """
    (told, tell), (allowed, allow) = os.pipe(), os.pipe()
    os.write(allow, bytes(cells))
    child = os.fork()
    if child == 0:
        tiny_scan(spec, partial, lambda done, total: [os.write(tell, b"."), os.read(allowed, 1)])
    for _ in range(cells - 1):
        os.read(told, 1)
    time.sleep(later)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for end in (told, tell, allowed, allow):
        os.close(end)
    return int(load(partial).done.sum())


if __name__ == "__main__":
    torch.set_num_threads(1)  # a process that has started threads cannot be forked safely
    whole, partial, seed, spec = sys.argv[1], sys.argv[2], int(sys.argv[3]), SPECS[sys.argv[4]]
    moments = random.Random(seed)
    counts = [killed(spec, partial, moments.randint(3, 6), moments.uniform(0, 0.006)) for _ in range(10)]
    save(tiny_scan(spec, None), whole)
    tiny_scan(spec, partial)
    print(*counts)
