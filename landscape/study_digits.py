"""Which measures predict generalisation? Thirty-six trainings of one network on the digits, measured and ranked.

Batch size × learning rate × SAM's ρ × seed, each trained until the epoch's mean training loss is `LOSS`: at unequal
loss every measure of curvature mostly measures the loss. `make study-digits` runs it.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from landscape import compare, correlate
from landscape.checkpoints import Opened, open_checkpoint, prepare
from landscape.errors import InputError
from landscape.results import CorrelationResult, save
from landscape.spec import MEASURES, CompareSpec, CorrelateSpec, MeasuresSpec, ProblemSpec, SharpnessSpec, TrainSpec
from landscape.training.run import train

PROBLEM = ProblemSpec(model="mlp", model_args=(("widths", "64,64"),), data="digits", batch_size=2000)
LOSS = 0.01
GRID = {"batch_size": (16, 64, 256), "learning_rate": (0.01, 0.04), "rho": (0.0, 0.05, 0.15), "seed": (0, 1)}
BASE = TrainSpec(epochs=1000, until_loss=LOSS, save_every=1000)
MEASURED = MeasuresSpec(measures=tuple(name for name in MEASURES if name not in ("keskar", "distance", "eigenvalues")))
KESKAR = SharpnessSpec(trials=2, restarts=1)

Report = Callable[..., None]


def recipes(grid: dict[str, tuple] = GRID) -> Iterator[tuple[str, TrainSpec]]:
    """A name and the spec of each training."""
    for values in product(*grid.values()):
        setting = dict(zip(grid, values, strict=True))
        yield "-".join(f"{name}={value:g}" for name, value in setting.items()), replace(BASE, **setting)


def run(
    folder: Path, result: Path, grid: dict[str, tuple] = GRID, measured: MeasuresSpec = MEASURED,
    report: Report | None = None,
) -> CorrelationResult:  # fmt: skip
    """Train (or find trained) every recipe below `folder`, measure, correlate, and save to `result`.

    One thread: a network this small loses time to a second, and the numbers do not depend on the machine's cores.
    Raises `InputError` when a training ends without reaching the loss.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = compare.measure(
            _trained(folder, grid), CompareSpec(eigenvalues=5), KESKAR, report, measured
        )  # fmt: skip
        found = correlate.measure(table, CorrelateSpec(gap="loss"))
    finally:
        torch.set_num_threads(threads)
    save(found, result)
    return found


def _trained(folder: Path, grid: dict[str, tuple]) -> Iterator[tuple[str, Opened]]:
    record = {"model": PROBLEM.model, "model_args": PROBLEM.model_args, "data": PROBLEM.data}
    for name, spec in recipes(grid):
        model, dataset = prepare(PROBLEM, spec.seed)
        last = train(model, dataset, spec, folder / name, record).history[-1]
        if not last["train_loss"] <= LOSS:
            raise InputError(f"{name} ended at a training loss of {last['train_loss']:.3g}, not {LOSS:g}: more epochs.")
        yield name, open_checkpoint(folder / name, PROBLEM)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), report=lambda done, total, what: print(done, what, file=sys.stderr))
