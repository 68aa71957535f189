"""The 576 networks of the tabular study as one batched program, against the trainer one after the other.

192 cells by 3 seeds; all take the same number of gradients, since SAM's train for half as many epochs. The trainer's
time is measured on 12 networks, three of each of {sgd, adam} by {plain, SAM}, and extrapolated to the grid by kind.
error: of the sampled networks' final test losses, the largest relative difference between the two. Thousands of steps
amplify rounding, so that this is no number of a method's accuracy; tests/test_ensemble.py compares short runs. close:
how many of the sampled networks end within 1e-3 of the trainer's. same: how many have the very same test losses after
every epoch when they train in a batch of one.
"""

import os
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import nn

from benchmarks.harness import attempt, conditions, note, options, report
from landscape import seeds
from landscape.data import Dataset, load_dataset
from landscape.errors import InputError
from landscape.models.mlp import mlp
from landscape.spec import TrainSpec
from landscape.training.ensemble import Member, TrainedMember, train_together
from landscape.training.outcome import DivergedError
from landscape.training.run import train

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 2e-2)
DECAYS = (0.0, 1e-4, 1e-3, 1e-2)
RADII = (0.0, 0.02, 0.05, 0.1)
SAMPLED = 3
"""Networks of each kind that the trainer trains alone."""
CLOSE = 1e-3
"""Relative difference of final test losses below which two trainings count as one."""


def network(data: Dataset, seed: int) -> nn.Module:
    """Four hidden layers of 18 ReLU units."""
    with seeds.global_stream(seed, "tabular network"):
        return mlp(data.input_shape, data.classes, (18, 18, 18, 18))


def grid(data: Dataset, epochs: int, repetitions: int = 3) -> list[Member]:
    """All cells of the study, `repetitions` seeds each; SAM's train for half the epochs."""
    return [
        Member(
            network(data, seed),
            TrainSpec(
                epochs=epochs // 2 if rho else epochs, batch_size=32, optimiser=optimiser, learning_rate=rate,
                momentum=0.0, l2=decay, rho=rho, schedule="cosine", cosine_epochs=epochs / 2, seed=seed,
            ),
        )
        for optimiser, rate, decay, rho, seed in product(("sgd", "adam"), RATES, DECAYS, RADII, range(repetitions))
    ]  # fmt: skip


def kind(member: Member) -> str:
    """What the time of a training depends on."""
    return f"{member.spec.optimiser}{' with SAM' if member.spec.rho else ''}"


def sample(members: Sequence[Member]) -> list[int]:
    """SAMPLED numbers of each kind, spread over its cells."""
    chosen = []
    for name in dict.fromkeys(map(kind, members)):
        alike = [i for i, member in enumerate(members) if kind(member) == name]
        # a stride that is no multiple of a row of the grid, so that decay and radius vary too
        chosen += [alike[((2 * k + 1) * len(alike) // (2 * SAMPLED) + 5 * k) % len(alike)] for k in range(SAMPLED)]
    return chosen


def alone(member: Member, data: Dataset) -> tuple[float, float | None]:
    """Seconds of the trainer, and the test loss at the end; None where it diverges."""
    begun = time.perf_counter()
    try:
        loss = train(member.model, data, member.spec).history[-1]["test_loss"]
    except DivergedError:
        loss = None
    return time.perf_counter() - begun, loss


def same(member: Member, data: Dataset, ours: TrainedMember) -> bool:
    """Whether the member alone in its batch has the same test loss, to the bit, after every epoch."""
    (one,) = train_together([member], data)
    losses = [[row["test_loss"] for row in trained.history] for trained in (one, ours)]
    return losses[0] == losses[1] and (one.diverged is None) == (ours.diverged is None)


def difference(theirs: float | None, ours: TrainedMember) -> float:
    """Relative difference of the final test losses; 0 where both diverge, infinite where one does."""
    if theirs is None or ours.diverged is not None:
        return 0.0 if (theirs is None) == (ours.diverged is not None) else float("inf")
    return abs(ours.history[-1]["test_loss"] - theirs) / theirs


def compare(data: Dataset, epochs: int, workers: int) -> dict[str, Any]:
    """The benchmark's record."""
    members = grid(data, epochs)
    found: list[TrainedMember] = []

    def together() -> dict[str, float]:
        found[:] = train_together(members, data, workers=workers)
        return {"members": len(found), "diverged": sum(f.diverged is not None for f in found)}

    seconds, achieved = attempt(together)
    note(f"{len(members)} networks together: {seconds:.1f} s")
    chosen = sample(members)
    runs = {i: alone(members[i], data) for i in chosen}
    total, names = 0.0, list(map(kind, members))
    for name in dict.fromkeys(names):
        total += names.count(name) * statistics.mean(runs[i][0] for i in chosen if names[i] == name)
    differences = [difference(runs[i][1], found[i]) for i in chosen]
    achieved |= {
        "sample": len(chosen), "close": sum(x < CLOSE for x in differences),
        "same": sum(same(members[i], data, found[i]) for i in chosen),
    }  # fmt: skip
    peer = {"seconds": total, "error": 0.0, "measured": sum(s for s, _ in runs.values()), "sample": len(chosen)}
    return {
        "name": "ensemble",
        "problem": f"tabular study, {len(members)} networks, {epochs} epochs ({epochs // 2} with SAM), float32, tested "
        "after every epoch",
        "ours": {"seconds": seconds, "error": max(differences), **achieved},
        "peers": {"one after the other, extrapolated": peer},
        "ratio": total / seconds,
        "conditions": {**conditions(), "workers": workers, "repeats": 1},
    }


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(
        __doc__, (), argv,
        epochs={"type": int, "default": 200, "help": "of the plain networks"},
        workers={"type": int, "default": os.cpu_count() or 1, "help": "threads that train side by side"},
    )  # fmt: skip
    try:
        data = load_dataset("obesity")
    except InputError as reason:
        note(f"ensemble is skipped: {reason}")
        return
    report([compare(data, chosen.epochs, chosen.workers)], chosen.json)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
