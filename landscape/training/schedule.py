"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no schedule state."""

import math
from collections.abc import Callable

from landscape.errors import illegal
from landscape.spec import TrainSpec


def schedule(spec: TrainSpec, steps_per_epoch: int) -> Callable[[int], float]:
    """t ↦ factor on the learning rate of optimiser step t = 0, 1, …, T−1; T = epochs·steps_per_epoch.

    Warm-up over W = round(warmup_epochs·steps_per_epoch) steps: (t+1)/W while t < W. Then
    constant: 1; cosine: (1 + cos(π(t−W)/(T−W)))/2, which reaches 0 at T (Loshchilov & Hutter 2017,
    arXiv 1608.03983, equation 5); step: step_factor to the number of milestones m with
    t ≥ m·steps_per_epoch. Milestones count through a warm-up.

    Raises `InputError` for a warm-up as long as the run, and for step without milestones.
    """
    total = spec.epochs * steps_per_epoch
    warmup = round(spec.warmup_epochs * steps_per_epoch)
    if warmup >= total:
        raise illegal(
            "warmup_epochs",
            spec.warmup_epochs,
            f"shorter than epochs = {spec.epochs}",
            "Warm up less, or train longer.",
        )
    if spec.schedule == "step" and not spec.milestones:
        raise illegal("milestones", spec.milestones, "at least one epoch for the step schedule", "Name one.")

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if spec.schedule == "cosine":
            return rise if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
        if spec.schedule == "step":
            return rise * spec.step_factor ** sum(step >= m * steps_per_epoch for m in spec.milestones)
        return rise

    return factor
