"""Which checkpoints make a series, in which order, at which steps, and how the optimiser stepped there."""

import copy
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor

from landscape.checkpoints import Opened, checkpoint_file, load_into, open_checkpoint, read_weights
from landscape.errors import InputError
from landscape.problem import Problem
from landscape.reading.weights import Weights
from landscape.series_order import RUN_FILE, Member, check_order, place, steps_taken
from landscape.spec import ProblemSpec
from landscape.track import Snapshot

_FIRST = "epoch_0000.safetensors"


@dataclass(frozen=True)
class Series:
    """Checkpoints in the order of their steps; opened: the first usable one; initial: w_0 where it is known.

    The problem to measure is `opened.main`. notes: how steps were told, and what is unusual.
    """

    opened: Opened
    snapshots: tuple[Snapshot, ...]
    initial: Snapshot | None
    notes: tuple[str, ...]

    @property
    def problem(self) -> Problem:
        return self.opened.main


def open_series(
    paths: Sequence[str | os.PathLike[str]],
    spec: ProblemSpec | None = None,
    steps: Sequence[float] | None = None,
    initial: str | os.PathLike[str] | None = None,
) -> Series:
    """The checkpoints that `paths` mean — a run folder is all of its own, a pattern all that match — as one series.

    steps: of the checkpoints, in the order of `paths`; default: as the run recorded them, otherwise from the numbers
    in the names (`epoch=3-step=860.ckpt`, `epoch07`, or the one number that differs). initial: the file of w_0;
    default the run's own initial weights, where it has them. Model and data as in `open_checkpoint`.

    Raises `InputError`: nothing found, one checkpoint alone, an order that is not clear, checkpoints of different
    models, and whatever `open_checkpoint` refuses. A file that cannot be read, or whose weights are not finite, is
    no error but a snapshot with `trouble`.
    """
    members = [Member(path) for path in _files(paths)]
    opened: Opened | None = None
    for member in members:
        weights = _peek(member)
        if weights is None:
            continue
        if opened is None:
            opened = open_checkpoint(member.path, spec)
        _same_model(opened, member, weights)
    if opened is None:
        raise InputError(f"no checkpoint of the series can be read; the first: {members[0].trouble}")
    note = place(members, steps)
    members.sort(key=lambda member: member.step if isfinite(member.step) else member.epoch)
    check_order(members)
    rates = steps_taken(members)
    snapshots = tuple(
        Snapshot(_label(m, members), m.digest, _reader(opened, m.path), m.step, m.epoch, taken, m.trouble)
        for m, taken in zip(members, rates, strict=True)
    )
    start = _initial(opened, members, initial)
    return Series(opened, snapshots, start, tuple(n for n in (note, *opened.notes, *_trained_on(opened)) if n))


def _trained_on(opened: Opened) -> list[str]:
    """Notes on what makes the steps of a run other than those of gradient descent on the loss measured here."""
    recipe, notes = opened.weights.record.get("train") or {}, []
    smoothing = recipe.get("label_smoothing", 0.0)
    if smoothing != opened.spec.label_smoothing:
        notes.append(
            f"the run descended on the loss with label smoothing {smoothing:g}, and the one measured has "
            f"{opened.spec.label_smoothing:g}: --label-smoothing {smoothing:g} gives the run's"
        )
    if recipe.get("clip_norm") is not None:
        notes.append(f"steps whose gradient was clipped to {recipe['clip_norm']:g} were shorter than the edges assume")
    return notes


# -- the files -----------------------------------------------------------------------------------------


def _files(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    found = [file for path in paths for file in _expanded(Path(path).expanduser())]
    if len(found) < 2:
        raise InputError(
            f"a series needs at least two checkpoints, and {', '.join(map(str, paths)) or 'nothing'} is "
            f"{len(found)}. Name more, or a run folder (train with --save-every 1 to keep every epoch)."
        )
    resolved = [file.resolve() for file in found]
    for file in found:
        if resolved.count(file.resolve()) > 1:
            raise InputError(f"{file} is named twice. Leave one out.")
    return found


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        checkpoint_file(path)  # refuses a folder that is no run
        inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        return sorted(file for file in inside.iterdir() if RUN_FILE.fullmatch(file.name))
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob(str(path), recursive=True) if Path(match).is_file())
    if matches:
        return matches
    if re.search(r"[*?\[]", str(path)):
        raise InputError(f"nothing matches {path}. Check the pattern (current folder: {Path.cwd()}).")
    file = checkpoint_file(path)  # run@epoch
    if not file.exists():
        raise InputError(f"{file} does not exist. Check the path (current folder: {Path.cwd()}).")
    return [file]


def _peek(member: Member) -> Weights | None:
    """Note what the file holds; its weights, or None when they cannot be used."""
    try:
        weights = read_weights(member.path)
    except InputError as error:
        member.trouble = str(error)
        member.digest = hashlib.sha256(member.path.read_bytes()).hexdigest() if member.path.is_file() else ""
        return None
    member.digest, member.record = weights.sha256, weights.record
    return weights


def _same_model(opened: Opened, member: Member, weights: Weights) -> None:
    """Raise `InputError` unless the weights fit the model of the series."""
    record, first = member.record or {}, opened.weights.record
    for name in ("model", "model_args"):
        if record and first and record.get(name) != first.get(name):
            raise InputError(
                f"{member.path} holds another model than {opened.path}: {name} is {record.get(name)!r}, not "
                f"{first.get(name)!r}. A series is of one model; leave the others out."
            )
    try:
        load_into(copy.deepcopy(opened.model), weights)
    except InputError as error:
        raise InputError(f"not the model of {opened.path}, the first of the series: {error}") from None


def _reader(opened: Opened, path: Path) -> Any:
    def state() -> Mapping[str, Tensor]:
        model = copy.deepcopy(opened.model)
        load_into(model, read_weights(path))
        return model.state_dict()

    return state


def _initial(opened: Opened, members: Sequence[Member], asked: str | os.PathLike[str] | None) -> Snapshot | None:
    """w_0: the file asked for, or the initial weights of the run that the first checkpoint comes from."""
    if asked is None:
        beside = opened.path.with_name(_FIRST)
        if not opened.weights.record or not beside.exists():
            return None
        asked = beside
    weights = read_weights(asked)
    _same_model(opened, Member(weights.path, record=weights.record), weights)
    return Snapshot(weights.path.name, weights.sha256, _reader(opened, weights.path))


def _label(member: Member, members: Sequence[Member]) -> str:
    """The file's name; with its folder where names repeat."""
    names = [other.path.name for other in members]
    return member.path.name if names.count(member.path.name) == 1 else f"{member.path.parent.name}/{member.path.name}"
