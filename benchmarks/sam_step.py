"""What a step of each variant of SAM costs against a plain step: Keskar's F1 on MNIST, batches of 256, SGD, one thread.

A contender takes ten steps of the trainer, two whole cycles of SAM every 5 steps. cost: its seconds against those of
ten plain steps, the median of such ratios within rounds, so that a machine with other work slows both sides.
error: relative ℓ2 difference of the first gradient from that of the same variant in float64. Needs `mnist` in the
folder LANDSCAPE_DATA.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.harness import Contender, attempt, conditions, note, options, report
from landscape.checkpoints import prepare as build
from landscape.errors import InputError
from landscape.spec import ProblemSpec, TrainSpec
from landscape.training.gradients import take_gradient
from landscape.training.outcome import Average
from landscape.training.prepare import Data, Training, prepare

STEPS, BATCH = 10, 256
LIMITS = {"sam": 2.1, "gsam": 2.2, "every 5": 1.3}
"""What the variants may cost."""

VARIANTS: dict[str, dict[str, Any]] = {
    "sam": {},
    "gsam": {"sam_variant": "gsam"},
    "every 5": {"sam_every": 5},
    "asam": {"adaptive": True},
    "friendly": {"sam_variant": "friendly"},
    "norms only": {"sam_norms_only": True},
    "m-sam, 4 shards": {"sam_shard": BATCH // 4},
}


def f1() -> tuple[torch.nn.Module, Data]:
    return build(ProblemSpec(model="f1", data="mnist"), seed=0)


def steps(training: Training, count: int) -> None:
    """So many steps of the trainer on the data's first batches."""
    average = Average(training.loss, training.device)
    training.model.train()
    inputs, targets = training.train
    size = training.spec.batch_size
    for step in range(count):
        part = slice(step * size, (step + 1) * size)
        take_gradient(training, inputs[part], targets[part], size, average, step)
        training.state.step(training.optimiser)


def first_gradient(model: torch.nn.Module, data: Data, spec: TrainSpec) -> torch.Tensor:
    """What the optimiser is given in the first step."""
    training = prepare(model, data, spec)
    training.model.train()
    inputs, targets = (x[: spec.batch_size] for x in training.train)
    take_gradient(training, inputs, targets, spec.batch_size, Average(training.loss, training.device))
    return torch.cat([p.grad.flatten() for p in training.parameters if p.grad is not None]).double()


def error(model: torch.nn.Module, data: Data, spec: TrainSpec) -> float:
    exact = first_gradient(model.double(), data, spec)
    return float((first_gradient(model.float(), data, spec) - exact).norm() / exact.norm())


def compare(model: torch.nn.Module, data: Data, repeats: int, batch_size: int = BATCH) -> dict[str, Any]:
    """The record of all variants; `ours` is SAM, and `plain` among the variants the step without it."""
    specs = {"plain": TrainSpec(batch_size=batch_size)}
    specs |= {k: TrainSpec(batch_size=batch_size, rho=0.05, **changes) for k, changes in VARIANTS.items()}
    errors = {key: error(model, data, spec) for key, spec in specs.items()}
    model.float()

    def contender(key: str) -> Contender:
        training = prepare(model, data, specs[key])

        def run() -> Mapping[str, float]:
            steps(training, STEPS)
            return {"error": errors[key]}

        return run

    contenders = {key: contender(key) for key in specs}
    first = {key: attempt(run)[1] for key, run in contenders.items()}
    seconds: dict[str, list[float]] = {key: [] for key in specs}
    for _ in range(repeats):
        for key, run in contenders.items():
            seconds[key].append(attempt(run)[0])
    rows = {
        key: {
            "seconds": statistics.median(taken), **first[key], "runs": repeats,
            "cost": statistics.median([a / b for a, b in zip(taken, seconds["plain"], strict=True)]),
        }
        for key, taken in seconds.items()
    }  # fmt: skip
    weights = sum(p.numel() for p in model.parameters())
    return {
        "name": "sam_step",
        "problem": f"{STEPS} steps of {batch_size} examples, n = {weights}, float32, SGD with momentum",
        "ours": rows.pop("sam"), "variants": rows, "peers": {}, "ratio": None,
        "conditions": {**conditions(), "repeats": repeats},
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__, [], argv)
    torch.set_num_threads(1)
    try:
        record = compare(*f1(), chosen.repeats)
    except InputError as reason:
        note(f"sam_step is skipped: {reason}")
        return
    report([record], chosen.json)
    for key, limit in LIMITS.items():
        cost = (record["ours"] if key == "sam" else record["variants"][key])["cost"]
        note(f"{key} costs {cost:.3f} plain steps; the limit is {limit:g}{'' if cost <= limit else ': exceeded'}")


if __name__ == "__main__":
    sys.exit(main())
