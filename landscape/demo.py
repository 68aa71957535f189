"""The main job on built-in data: small-batch SGD, large-batch SGD and SAM minima of one network, measured.

A perceptron (64-64-64-10, 8,970 weights) learns the real 8×8 digits. The recipes are set so that all three
end at nearly the same training loss: the Hessian of the cross-entropy shrinks with the loss, so that minima
of different loss would differ in sharpness for that reason alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from landscape import compare, surface
from landscape.checkpoints import Opened, open_checkpoint, prepare
from landscape.results import Result, save
from landscape.spec import AxesSpec, CompareSpec, LineSpec, PlaneSpec, ProblemSpec, TrainSpec
from landscape.training.run import train

PROBLEM = ProblemSpec(model="mlp", model_args=(("widths", "64,64"),), data="digits", batch_size=2000)
_SMALL = TrainSpec(learning_rate=0.05, schedule="cosine", batch_size=32, epochs=42, save_every=1000)
RECIPES = {
    "small batch": _SMALL,
    "large batch": replace(_SMALL, batch_size=144, epochs=360),
    "SAM": replace(_SMALL, rho=0.1, epochs=24),
}
"""Batch 32; batch 144, a tenth of the training set, as Keskar et al. have it; batch 32 with SAM."""

Report = Callable[..., None]


def train_all(folder: Path, seeds: int, report: Report | None = None) -> list[tuple[str, Path]]:
    """Train every recipe with seeds 0 … seeds−1 (or find it trained); returns (label, run folder) pairs."""
    runs = []
    for label in RECIPES:
        for seed in range(seeds):
            runs.append((label, train_one(folder, label, seed)))
            if report is not None:
                report(len(runs), seeds * len(RECIPES), f"{label}, seed {seed}")
    return runs


def train_one(folder: Path, label: str, seed: int) -> Path:
    """Train one recipe with one seed (or find it trained); returns the run folder."""
    run = folder / "runs" / f"{label.replace(' ', '-').lower()}-{seed}"
    model, dataset = prepare(PROBLEM, seed)
    record = {"model": PROBLEM.model, "model_args": PROBLEM.model_args, "data": PROBLEM.data}
    train(model, dataset, replace(RECIPES[label], seed=seed), run, record)
    return run


def measure_all(runs: list[tuple[str, Path]], report: Report | None = None) -> Iterator[tuple[str, Result]]:
    """The named results of the demo: a comparison of all runs, and surfaces of each recipe's first seed."""

    def opened() -> Iterator[tuple[str, Opened]]:
        for label, run in runs:
            yield label, open_checkpoint(run, PROBLEM)

    yield "comparison", compare.measure(opened(), CompareSpec(eigenvalues=5), progress=report)
    first = {label: open_checkpoint(run, PROBLEM) for label, run in reversed(runs)}
    small, large, sam = (first[label] for label in RECIPES)
    points = {
        label: surface.Point(label, first[label].train.weights, first[label].train.buffers()) for label in RECIPES
    }
    pair = [points["small batch"], points["large batch"]]
    for name, spec in (("line", LineSpec()), ("arc", LineSpec(path="arc"))):
        yield name, surface.measure(small.train, spec, pair, test=small.test, progress=report)
    yield "plane", surface.measure(small.train, PlaneSpec(), list(points.values()), test=small.test, progress=report)
    for name, minimum in (("random-large-batch", large), ("random-sam", sam)):
        label = next(k for k, v in first.items() if v is minimum)
        yield name, surface.measure(minimum.train, AxesSpec(), [points[label]], progress=report)


def run(folder: Path, seeds: int, report: Report | None = None) -> dict[str, Result]:
    """Train, measure and save everything below `folder`; trained runs are kept and used again."""
    results = {}
    with one_thread():
        for name, result in measure_all(train_all(folder, seeds, report), report):
            save(result, folder / "results" / f"{name}.safetensors")
            results[name] = result
    return results


@contextmanager
def one_thread() -> Iterator[None]:
    """A network this small loses time to a second thread, and the numbers do not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
