"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no schedule state."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from landscape.errors import illegal
from landscape.spec import TrainSpec


def schedule(spec: TrainSpec, steps_per_epoch: int | Sequence[int]) -> Callable[[int], float]:
    """t ↦ factor on the learning rate of optimiser step t = 0, 1, …, T−1; T = epochs·steps_per_epoch.

    steps_per_epoch: the same for all epochs, or of each where the batch grows; then T is their sum, and a number of
    epochs below stands for the steps in them. Epochs are those after regime adaptation.

    Warm-up over W = round(warmup_epochs·steps_per_epoch) steps: (t+1)/W while t < W. Then
    constant: 1; cosine: (1 + cos(π(t−W)/(T−W)))/2, which reaches 0 at T (Loshchilov & Hutter 2017,
    arXiv 1608.03983, equation 5), or with cosine_epochs so many epochs after W, and rises again for as long, as
    torch's CosineAnnealingLR with T_max does; step: step_factor to the number of milestones m with
    t ≥ m·steps_per_epoch. Milestones count through a warm-up.

    Raises `InputError` for a warm-up as long as the run, and for step without milestones.
    """
    spec = spec.adapted()
    after = _steps_after(spec.epochs, steps_per_epoch)
    total, warmup = round(after(spec.epochs)), round(after(spec.warmup_epochs))
    if warmup >= total:
        raise illegal(
            "warmup_epochs",
            spec.warmup_epochs,
            f"shorter than epochs = {spec.epochs}",
            "Warm up less, or train longer.",
        )
    if spec.schedule == "step" and not spec.milestones:
        raise illegal("milestones", spec.milestones, "at least one epoch for the step schedule", "Name one.")

    bottom = total if spec.cosine_epochs is None else round(after(spec.warmup_epochs + spec.cosine_epochs))
    drops = [after(m) for m in spec.milestones]

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if spec.schedule == "cosine":
            return rise if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (bottom - warmup))) / 2
        if spec.schedule == "step":
            return rise * spec.step_factor ** sum(step >= at for at in drops)
        return rise

    return factor


def _steps_after(epochs: int, steps: int | Sequence[int]) -> Callable[[float | int], float | int]:
    """Steps in the first so many epochs; beyond the last epoch they go on as in it."""
    if isinstance(steps, int):
        return lambda count: count * steps
    if len(set(steps)) == 1:
        return lambda count: count * steps[0]
    sums = [0, *accumulate(steps)]

    def after(count: float | int) -> float | int:
        whole = min(int(count), epochs - 1)
        return sums[whole] + (count - whole) * steps[whole]

    return after
