"""A run on disk: what it is, what it measured, what it can resume from.

    config.json                         full configuration and environment, written first
    checkpoints/epoch_0000.safetensors  initial weights; then every `save_every` epochs and the last
    checkpoints/ema.safetensors         averages of the weights, when asked for, as of the last checkpoint;
    checkpoints/swa.safetensors         see `landscape.training.averages`
    state.safetensors                   weights, buffers, optimiser, counters and all metrics so far
    metrics.jsonl                       one line per finished epoch
    tensorboard/                        event files, when asked for

Replacing the state is what makes epochs done: after each, or for short ones once a second. Its checkpoint
is written before, the lines of metrics after: a kill between any two writes either repeats whole epochs,
with the same bits, or finds their lines in the state and writes them again.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checkpoint_files import FORMAT, arrays, write_checkpoint
from landscape.errors import InputError
from landscape.files import read_bytes, seal, unseal, write_atomically
from landscape.training.loop import is_last
from landscape.training.optimisers import restore_state, state_tensors
from landscape.training.outcome import Row
from landscape.training.prepare import Training

METRICS, STATE = "metrics.jsonl", "state.safetensors"


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where a run keeps its weights after `epoch` epochs; 0 is the initial ones."""
    return folder / "checkpoints" / f"epoch_{epoch:04d}.safetensors"


def read_history(folder: Path) -> list[Row]:
    """The rows of a run's finished epochs; a last line that a kill tore is left out."""
    whole = read_bytes(folder / METRICS).decode().split("\n")[:-1] if (folder / METRICS).exists() else []
    return [json.loads(text) for text in whole]


@dataclass(frozen=True)
class Stopped:
    """Where a run stopped: its initial state dict, its state (empty for a new run), the rows of its finished epochs."""

    initial: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    rows: list[Row]

    def resume(self, training: Training) -> None:
        """Put `training` there, and its initial weights where the run began, bit for bit."""
        training.model.load_state_dict(self.initial)
        for copy, parameter in zip(training.initial, training.parameters, strict=True):
            copy.copy_(parameter.detach())
        if self.tensors:
            training.model.load_state_dict(_under("model.", self.tensors))
            restore_state(training.optimiser, _under("optimiser.", self.tensors))
            training.averages.restore(_under("averages.", self.tensors))
            training.state.restore(_under("step.", self.tensors), training.parameters)


@dataclass
class RunFolder:
    """A run's folder, claimed. `record` (JSON) goes into every checkpoint: how its model and data are made.

    pause: seconds between two writes of the state. committed: epochs that are done on disk.
    """

    path: Path
    record: Mapping[str, Any]
    pause: float = 1.0
    committed: int = 0
    _written: float = field(default_factory=time.monotonic)

    def begin(self, training: Training) -> Stopped:
        """Where the run stopped. A new one writes its initial checkpoint.

        Raises `InputError` when the caller's model does not start where the run did, or when the folder is damaged.
        """
        first, state, metrics = checkpoint_path(self.path, 0), self.path / STATE, self.path / METRICS
        if not first.exists() and not state.exists():
            self.write_checkpoint(training, {})
        initial = _read(first, "checkpoint")[1]
        _check_start(training, initial, first)
        if not state.exists():
            if metrics.exists():
                raise InputError(f"{self.path} has lost its {STATE}. Restore it, or choose another folder.")
            return Stopped(initial, {}, [])
        record, tensors = _read(state, "state")
        lines = record["metrics"]
        if not metrics.exists() or metrics.read_bytes() != lines.encode():  # a kill tore the last, or prevented it
            write_atomically(metrics, lines.encode())
        self.committed = record["epoch"]
        return Stopped(initial, tensors, [json.loads(line) for line in lines.splitlines()])

    def commit(self, training: Training, history: list[Row]) -> int:
        """Write down epochs that are done: a checkpoint when due, then the state, then their lines of metrics.

        Nothing is written when the last state is younger than `pause` and no checkpoint is due. Returns how many
        epochs are done on disk.
        """
        row, spec = history[-1], training.spec
        due = row["epoch"] % spec.save_every == 0 or is_last(row, spec)
        if not due and time.monotonic() - self._written < self.pause:
            return self.committed
        if due:
            self.write_checkpoint(training, row)
        record = {
            "kind": "state", "format": FORMAT, "epoch": row["epoch"], "step": row["step"],
            "metrics": "".join(map(_line, history)),
        }  # fmt: skip
        model, optimiser = training.model.state_dict(), state_tensors(training.optimiser)
        tensors = {**_prefixed("model.", model), **_prefixed("optimiser.", optimiser)}
        tensors |= _prefixed("averages.", training.averages.state())
        tensors |= _prefixed("step.", training.state.tensors())
        write_atomically(self.path / STATE, seal(record, arrays(tensors)))
        _append(self.path / METRICS, "".join(map(_line, history[self.committed :])))
        self.committed, self._written = row["epoch"], time.monotonic()
        return self.committed

    def write_checkpoint(self, training: Training, row: Row) -> None:
        """Seal the state dict under its own names; the same run always gives the same bytes."""
        record = {
            **self.record, "epoch": row.get("epoch", 0), "step": row.get("step", 0), "loss": training.loss.name,
            "train": training.spec.to_dict(), "metrics": {k: v for k, v in row.items() if k != "seconds"},
        }  # fmt: skip
        write_checkpoint(checkpoint_path(self.path, record["epoch"]), record, training.model.state_dict())
        for name, model in training.averages.models.items():
            path = self.path / "checkpoints" / f"{name}.safetensors"
            own = {k.removeprefix(f"{name}_"): v for k, v in row.items() if k.startswith(f"{name}_")}
            own |= {"epoch": record["epoch"], "step": record["step"]}
            write_checkpoint(path, {**record, "average": name, "metrics": own}, model.state_dict())


def _check_start(training: Training, theirs: dict[str, Tensor], path: Path) -> None:
    """Check that the caller's weights are the run's initial ones."""
    mine = training.model.state_dict()
    fits = mine.keys() == theirs.keys() and all(mine[k].shape == theirs[k].shape for k in mine)
    # Not bit for bit: another processor's initialiser may differ in the last digit.
    if not fits or not all(
        torch.allclose(mine[k].double(), theirs[k].to(mine[k].device).double(), rtol=1e-4, atol=1e-6, equal_nan=True)
        for k in mine
    ):
        raise InputError(
            f"the model does not start from the initial weights of the run, {path}. "
            "Pass the model that the run began with, or choose another folder."
        )


def _read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    sealed = unseal(read_bytes(path), path)
    if sealed is None or sealed.record.get("kind") != kind:
        raise InputError(f"{path} is not the {kind} of a run. Restore it, or choose another folder.")
    return sealed.record, {name: torch.from_numpy(array.copy()) for name, array in sealed.arrays.items()}


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Free space, then resume the run.") from None
