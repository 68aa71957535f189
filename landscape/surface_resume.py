"""The cells of a scan under way: kept in a result file, taken up again, refused when the scan is another one."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from landscape.errors import InputError
from landscape.results import SurfaceResult, load, save

COLUMNS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass
class Cells:
    """values: (*grid, columns), first those of COLUMNS, then the template's extra ones; done: (*grid).

    template is the result without its grids; kept names the columns of COLUMNS that are measured at all.
    seconds: spent in earlier sittings. vectors: the eigenvectors at the last point (k, n), from which a scan with
    curvature goes on. more: fields of the result that are known at the end.
    """

    template: SurfaceResult
    kept: Sequence[str]
    values: np.ndarray
    done: np.ndarray
    seconds: float = 0.0
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    more: dict[str, Any] = field(default_factory=dict)

    def result(self, seconds: float) -> SurfaceResult:
        """The record of what is done after `seconds` in this sitting."""
        grids = {name: self.values[..., k].copy() for k, name in enumerate(COLUMNS) if name in self.kept}
        sets = sum(name in self.kept for name in ("train_loss", "test_loss"))
        complete = bool(self.done.all())
        found = replace(
            self.template, **grids, done=self.done.copy(), complete=complete,
            evaluations=int(self.done.sum()) * sets, seconds=self.seconds + seconds,
            extra=self.values[..., len(COLUMNS):].copy() if self.template.extra_names else np.zeros(0),
            vectors=self.vectors[:0, :0] if complete else self.vectors,
            directions=self.template.directions[:0, :0] if complete else self.template.directions,
        )  # fmt: skip
        return replace(found, **self.more)

    def restore(self, found: SurfaceResult) -> None:
        """Go on from another result of the same scan."""
        for k, name in enumerate(COLUMNS):
            if name in self.kept:
                self.values[..., k] = getattr(found, name)
        if found.extra_names:
            self.values[..., len(COLUMNS) :] = found.extra
        self.done[...] = found.done
        self.seconds, self.vectors = float(found.seconds), found.vectors
        self.more = {"evaluation": found.evaluation}
        if found.interpolated.size or found.half_error == found.half_error:  # known at the end of a scan alone
            names = ("interpolated", "interpolation_error", "held_out", "half_error", "evaluations")
            self.more |= {name: getattr(found, name) for name in names}

    def store(self, path: str | os.PathLike[str], seconds: float) -> None:
        save(self.result(seconds), path)


def resumed(
    template: SurfaceResult,
    grid: tuple[int, ...],
    kept: Sequence[str],
    path: str | os.PathLike[str] | None,
    fresh: bool,
) -> Cells:
    """The cells to start from: those in the file at `path` if there is one and it is not to be replaced.

    Raises `InputError` when that file is not a partial result of exactly this scan.
    """
    columns = len(COLUMNS) + len(template.extra_names)
    cells = Cells(template, kept, np.full((*grid, columns), np.nan), np.zeros(grid, dtype=bool))
    if path is None or fresh or not Path(path).exists():
        return cells
    found = load(path)
    if not isinstance(found, SurfaceResult):
        raise InputError(f"{path} holds a {found.kind} result, not a scan to continue. Choose another file.")
    if different := differences(found, template):
        raise InputError(
            f"{path} holds another scan ({'; '.join(different[:3])}). "
            "Repeat the settings it was made with, choose another file, or overwrite it."
        )
    cells.restore(found)
    return cells


def kept_directions(path: str | os.PathLike[str] | None, fresh: bool) -> np.ndarray:
    """The eigenvectors (k, n) that an unfinished scan at `path` measured for its axes; (0, 0) without one."""
    found = None if path is None or fresh or not Path(path).exists() else load(path)
    return found.directions if isinstance(found, SurfaceResult) else np.zeros((0, 0), np.float32)


def differences(found: SurfaceResult, wanted: SurfaceResult) -> list[str]:
    """In words, how two scans differ in what was asked, of which points, on which data and machine."""
    old, new = _described(found), _described(wanted)
    return [
        f"{name}: {_brief(old.get(name))} in the file, {_brief(new.get(name))} now"
        for name in dict.fromkeys([*old, *new])
        if not _agree(old.get(name), new.get(name), loosely=name.startswith("first_"))
    ]


def _described(result: SurfaceResult) -> dict[str, Any]:
    spec = {"spec": type(result.spec).__name__, **result.spec.to_dict()}
    arrays = {name: getattr(result, name).tolist() for name in ("x", "y", "z", "marks", "trajectory")}
    told = {**spec, "labels": result.labels, "extra_names": result.extra_names, **result.conditions, **arrays, **spec}
    return json.loads(json.dumps(told))


def _agree(a: Any, b: Any, loosely: bool) -> bool:
    """Equal, NaN included; loosely: up to what rounding in another run on the same device can do to a loss."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b) or (loosely and math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9))
    return a == b


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def digest(weights: Tensor, buffers: Mapping[str, Tensor]) -> str:
    """SHA-256 of a checkpoint's flat weights and of its buffers by name."""
    total = hashlib.sha256()
    for name, tensor in (("", weights), *sorted(buffers.items())):
        total.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        total.update(tensor.detach().reshape(-1).cpu().numpy().data)
    return total.hexdigest()
