"""The order of checkpoints: their steps from a run's records or from their names, and how the optimiser stepped."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, nan
from pathlib import Path
from typing import Any

from landscape.errors import InputError, illegal
from landscape.spec import TrainSpec
from landscape.track_resume import Step
from landscape.training.schedule import schedule

RUN_FILE = re.compile(r"epoch_\d+\.safetensors")
_NUMBER = re.compile(r"\d+")
_NAMED = {
    "step": re.compile(r"(?:^|[^a-z])(?:global_?)?(?:steps?|iterations?|iters?|it)[=_.\- ]?(\d+)", re.IGNORECASE),
    "epoch": re.compile(r"(?:^|[^a-z])(?:epochs?|ep)[=_.\- ]?(\d+)", re.IGNORECASE),
}


@dataclass
class Member:
    """A file of the series: its weights' record without the weights, or why they cannot be used."""

    path: Path
    digest: str = ""
    record: Mapping[str, Any] | None = None
    trouble: str = ""
    step: float = nan
    epoch: float = nan


def place(members: Sequence[Member], steps: Sequence[float] | None) -> str:
    """Give each member its step or its epoch; returns a note on where they come from, "" for a run's records."""
    if steps is not None:
        if len(steps) != len(members):
            raise illegal("steps", tuple(steps), f"{len(members)} numbers, one for each checkpoint", "See --steps.")
        for member, step in zip(members, steps, strict=True):
            member.step, member.epoch = float(step), float((member.record or {}).get("epoch", nan))
        return ""
    if all(m.record or (m.trouble and RUN_FILE.fullmatch(m.path.name)) for m in members):
        _place_run(members)
        return ""
    texts = [member.path.resolve().as_posix() for member in members]
    told = []
    for name, pattern in _NAMED.items():
        found = [pattern.findall(text) for text in texts]
        if all(found) and len({hits[-1] for hits in found}) == len(members):
            told.append(name)
            for member, hits in zip(members, found, strict=True):
                setattr(member, name, float(hits[-1]))
    if told:
        return f"{' and '.join(told)} of each checkpoint: the number after that word in its name"
    for member, number in zip(members, _one_varying_number(texts, members), strict=True):
        member.step = number
    return "step of each checkpoint: the number in its name"


def _one_varying_number(texts: Sequence[str], members: Sequence[Member]) -> list[float]:
    numbers = [list(map(int, _NUMBER.findall(text))) for text in texts]
    alike = len({tuple(_NUMBER.split(text)) for text in texts}) == 1
    columns = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1] if alike else []
    if len(columns) == 1 and len(set(columns[0])) == len(members):
        return [float(number) for number in columns[0]]
    names = ", ".join(member.path.name for member in members[:3])
    why = "differ in more than one number" if len(columns) > 1 else "do not differ in just one number"
    raise InputError(f"the order of the checkpoints is not clear: their names ({names}, …) {why}. Give --steps.")


def _place_run(members: Sequence[Member]) -> None:
    """Steps and epochs as our trainer recorded them; of an unreadable file from its name and the others' records."""
    records = [member.record for member in members if member.record]
    recipes = {str({k: v for k, v in (r.get("train") or {}).items() if k != "tensorboard"}) for r in records}
    if len(recipes) > 1:
        raise InputError(
            "the checkpoints come from runs of different settings, so that their steps are not those of one "
            "training. Name the checkpoints of one run, or give --steps."
        )
    per_epoch = next((r["step"] / r["epoch"] for r in records if r.get("epoch")), nan)
    for member in members:
        if member.record:
            member.step, member.epoch = float(member.record["step"]), float(member.record["epoch"])
        else:
            member.epoch = float(_NUMBER.findall(member.path.name)[-1])
            member.step = member.epoch * per_epoch


def check_order(members: Sequence[Member]) -> None:
    """Raise `InputError` when two members, sorted, have one place."""
    name = "step" if isfinite(members[0].step) else "epoch"
    for before, after in pairwise(members):
        if getattr(before, name) == getattr(after, name):
            raise InputError(
                f"{before.path} and {after.path} are both of {name} {getattr(after, name):g}. "
                "Name the checkpoints of one run, or give --steps."
            )


def steps_taken(members: Sequence[Member]) -> list[Step]:
    """How the optimiser stepped, from each checkpoint's own record; without one the learning rate is unknown."""
    per_epoch = next((m.record["step"] / m.record["epoch"] for m in members if m.record and m.record.get("epoch")), nan)
    return [_step_taken(member, per_epoch) for member in members]


def _step_taken(member: Member, per_epoch: float) -> Step:
    if not member.record or "train" not in member.record:
        return Step()
    spec = TrainSpec.from_dict(member.record["train"])
    rate = (member.record.get("metrics") or {}).get("lr", nan)
    if member.record.get("epoch") == 0 and isfinite(per_epoch):
        rate = spec.scaled_rate * schedule(spec, round(per_epoch))(0)
    obstacle = ""
    if spec.optimiser != "sgd":
        obstacle = f"{spec.optimiser}'s edge of stability belongs to its preconditioned Hessian"
    elif spec.adaptive and spec.rho:
        obstacle = "ASAM's edge of stability is not known"
    elif spec.rho_min is not None and spec.rho:
        obstacle = "the edge of stability of a changing ρ is not known"
    elif spec.weight_decay and (spec.momentum or spec.rho):
        obstacle = "the edge of stability under decoupled weight decay with momentum or SAM is not known"
    elif spec.conservative:
        obstacle = "the edge of stability of conservative training is not known"
    # Without momentum w − lr·λ·w − lr·g is the step along the gradient with the L2 penalty λ.
    return Step(float(rate), spec.momentum, spec.nesterov, spec.l2 + spec.weight_decay, spec.rho, obstacle)
