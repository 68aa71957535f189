"""Many small networks trained as one batched program: what a study of hundreds of them takes minutes for.

A small network keeps a processor busy with calling, not with computing. Here the members' weights are the rows of one
array, and each step is a few operations for all of them. Members may differ in initial weights, seed, learning rate,
weight decay, ρ, `clip_norm` and `until_loss` within a stack; those that differ in anything else (optimiser, schedule,
batch size, epochs, architecture, SAM or not) form stacks of their own.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.checkpoint_files import write_checkpoint
from landscape.errors import InputError, illegal
from landscape.spec import TrainSpec
from landscape.training.ensemble_groups import groups, why_alone, why_not_stacked, why_not_traced
from landscape.training.ensemble_stack import Progress, train_stack
from landscape.training.loop import Report
from landscape.training.outcome import DivergedError, Row
from landscape.training.prepare import Data, Training, prepare
from landscape.training.run import threads, write_finished

__all__ = ["Member", "TrainedMember", "save_checkpoint", "save_member", "train_together", "why_alone"]

STACK = 96
"""Members at most in one stack: enough to hide what calling an operation costs, few enough for the cache."""


@dataclass(frozen=True)
class Member:
    """A network to be trained (a copy is), and how."""

    model: nn.Module
    spec: TrainSpec


@dataclass(frozen=True)
class TrainedMember:
    """A trained model in eval mode, and the rows of its epochs, as `landscape.training.loop.epochs` describes them.

    A row's seconds are its share of the stack's. diverged: the error that the trainer would have raised, None where
    all went well; the rows are then those before it. `training` is what the run was prepared as.
    """

    model: nn.Module
    spec: TrainSpec
    history: tuple[Row, ...]
    diverged: DivergedError | None
    training: Training


def train_together(
    members: Sequence[Member],
    dataset: Data,
    loss: str | None = None,
    device: str | torch.device = "cpu",
    test_every_epoch: bool = True,
    workers: int = 1,
    progress: Report | None = None,
) -> list[TrainedMember]:
    """Train every member on `dataset` as `landscape.training.run.train` would alone, equal to float tolerance.

    The order of examples, the short last batch, SAM, clipping, optimiser and schedule are each member's own. A member
    that diverges says so in `diverged` and disturbs no other. test_every_epoch: False measures the test set after a
    member's last epoch alone, and the other rows have None. workers: threads that train stacks side by side, and share
    torch's own.
    progress(steps done, steps in all, note) counts the steps of all members, after each epoch of a stack.

    Raises `InputError` when a member, its data and spec do not fit together, and for one that cannot be batched
    (say so beforehand: `why_alone`).
    """
    if workers < 1:
        raise illegal("workers", workers, "at least 1", "One for each processor is best.")
    trainings = [_prepared(number, member, dataset, loss, device) for number, member in enumerate(members)]
    together = groups(trainings)
    for group in together:
        reason = why_not_traced(trainings[group[0]])
        if reason is not None:
            raise _alone(group[0], reason)
    states = [Progress(training) for training in trainings]
    total = sum(t.steps_per_epoch * t.spec.epochs for t in trainings)
    advance = _counter(total, progress)
    stacks = [[states[i] for i in part] for group in together for part in _shares(group, workers)]
    stacks.sort(key=_work, reverse=True)  # the longest first, so that no worker is left with one at the end
    if stacks:
        # Also with one worker: flushing denormal numbers is a setting of the thread, which ends with it.
        each = max(1, torch.get_num_threads() // workers)
        with threads(each), ThreadPoolExecutor(workers, initializer=_flush_denormals) as pool:
            for done in [pool.submit(train_stack, stack, test_every_epoch, advance) for stack in stacks]:
                done.result()
    return [TrainedMember(s.training.model.eval(), s.training.spec, tuple(s.rows), s.diverged, s.training)
            for s in states]  # fmt: skip


def save_member(
    member: TrainedMember, dataset: Data, folder: str | os.PathLike[str], record: Mapping[str, Any] | None = None
) -> None:
    """Write the run folder that `train` would have left: configuration, first and last checkpoint, rows, state.

    record: as in `landscape.training.run.train`. A folder that holds this run finished stays as it is. The state has
    no optimiser memory, since a finished run does not go on.

    Raises `DivergedError` for a member that diverged, `InputError` when the folder holds anything else.
    """
    _check_finished(member)
    write_finished(member.training, member.history, dataset, folder, record)


def save_checkpoint(
    member: TrainedMember, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None
) -> None:
    """Write the final weights alone, with the record that a run's last checkpoint has. Raises as `save_member`."""
    _check_finished(member)
    last = member.history[-1]
    made = {
        **(record or {}), "epoch": last["epoch"], "step": last["step"], "loss": member.training.loss.name,
        "train": member.spec.to_dict(), "metrics": {k: v for k, v in last.items() if k != "seconds"},
    }  # fmt: skip
    write_checkpoint(Path(path), made, member.model.state_dict())


def _check_finished(member: TrainedMember) -> None:
    if member.diverged is not None:
        raise member.diverged


def _prepared(number: int, member: Member, data: Data, loss: str | None, device: str | torch.device) -> Training:
    reason = why_not_stacked(member.model, member.spec)
    if reason is not None:
        raise _alone(number, reason)
    training = prepare(member.model, data, member.spec, loss, device)
    training.model.train()
    return training


def _alone(number: int, reason: str) -> InputError:
    return InputError(f"member {number} cannot be trained together with others: {reason}. Train it alone.")


def _shares(group: list[int], workers: int) -> list[list[int]]:
    """A group cut into stacks of nearly equal size, a number that the workers can share evenly when it is large."""
    count = -(-len(group) // STACK)
    if count > 1 or len(group) >= 2 * workers:
        count = -(-count // workers) * workers
    return [group[place::count] for place in range(count)]


def _work(stack: list[Progress]) -> int:
    training = stack[0].training
    passes = 2 if training.spec.rho > 0 else 1
    return len(stack) * passes * training.spec.epochs * training.steps_per_epoch


def _counter(total: int, progress: Report | None):
    """A function that adds to the steps done, and reports them; for any thread."""
    lock, done = threading.Lock(), 0

    def advance(steps: int) -> None:
        nonlocal done
        with lock:
            done += steps
            if progress is not None:
                progress(done, total, "")

    return advance


def _flush_denormals() -> None:
    # A momentum that decays towards zero passes numbers below 1e-38, which take a processor many times as long.
    torch.set_flush_denormal(True)
