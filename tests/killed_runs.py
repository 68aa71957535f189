"""Trains in folders under a given one while processes are killed; run by test_run.py as a process of its own.

    python killed_runs.py FOLDER CASE

FOLDER/whole      a run nobody interrupts
FOLDER/random-0 … runs killed at 10 random moments in all, then resumed to their end
FOLDER/at-0 …     runs killed just before their n-th file operation, for every n, then resumed to their end

Every training is a fork of this process, so that torch is imported once.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.spec import TrainSpec
from landscape.training.run import train

CASES = {
    "batch norm, dropout, momentum, SAM": TrainSpec(
        epochs=12, batch_size=16, learning_rate=0.05, rho=0.05, schedule="cosine", save_every=4, clip_norm=1.0
    ),
    "adamw": TrainSpec(epochs=12, batch_size=16, optimiser="adamw", learning_rate=1e-2, weight_decay=0.1, save_every=5),
    "ghost batch norm, averages, growing batch": TrainSpec(
        epochs=12,
        batch_size=16,
        learning_rate=0.05,
        ghost_batch=8,
        ema=0.9,
        swa_from=2,
        save_every=4,
        batch_milestones=(3, 8),
        conservative=0.1,
        gradient_noise=1e-3,
    ),
}


def network() -> nn.Module:
    with seeds.global_stream(0, "initialisation"):
        return nn.Sequential(
            nn.Linear(6, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, 16),
            nn.Tanh(),
            nn.Linear(16, 3),
        )


def toy_data() -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 200, torch.empty(6))
    split = Split(x[:120], x[:120, :3].argmax(1)), Split(x[120:], x[120:, :3].argmax(1))
    return Dataset("toy", *split, "classification", 3, "", {})


def forked(folder: Path, spec: TrainSpec, kill_at: int | None = None) -> int:
    """Start a training in a process of its own, which kills itself before file operation `kill_at`."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        if kill_at is not None:
            kill_before_operation(kill_at, folder)
        train(network(), toy_data(), spec, folder, record={"model": "killed_runs:network"}, pause=0.0)
        status = 0
    finally:
        os._exit(status)


def kill_before_operation(number: int, folder: Path) -> None:
    seen = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in ("open", "os.mkdir", "os.rename", "os.chmod") and str(arguments[0]).startswith(str(folder)):
            seen += 1
            if seen > number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def ended(process: int) -> bool:
    """Wait: True when the training reached its end, False when it was killed."""
    status = os.waitpid(process, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a training failed; see above"
    return not os.WIFSIGNALED(status)


def kill_at_random(folder: Path, spec: TrainSpec, kills: int, duration: float) -> None:
    moment, number = random.Random(str(spec)), 0
    while kills:
        process = forked(folder / f"random-{number}", spec)
        time.sleep(moment.uniform(0, duration / 3))
        os.kill(process, signal.SIGKILL)
        if ended(process):
            number += 1
        else:
            kills -= 1
    ended(forked(folder / f"random-{number}", spec))


def main(folder: Path, spec: TrainSpec) -> None:
    torch.set_num_threads(1)
    train(network(), toy_data(), TrainSpec(epochs=1, batch_size=200))  # what torch loads late, load once
    begun = time.monotonic()
    ended(forked(folder / "whole", spec))
    kill_at_random(folder, spec, 10, time.monotonic() - begun)
    short = TrainSpec.from_dict({**spec.to_dict(), "epochs": 2, "save_every": 1})
    ended(forked(folder / "short", short))
    number = 0
    while not ended(forked(folder / f"at-{number}", short, kill_at=number)):
        ended(forked(folder / f"at-{number}", short))
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), CASES[sys.argv[2]])
