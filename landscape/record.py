"""What every result is: one frozen record, saved to and loaded from one sealed file, without torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from landscape.errors import InputError
from landscape.fields import SPECS, Spec
from landscape.files import read_bytes, seal, unseal, write_atomically

FORMAT = 1
_KINDS: dict[str, type["Result"]] = {}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base of all results.

    conditions: where it was measured — examples N, parameters n, dtype, device, threads, batch-norm policy,
    loss and accuracy at the weights. provenance: what `save` was told — checkpoint and its hash, data and
    its hash, versions, command, time.
    """

    kind: ClassVar[str] = ""
    seconds: float = 0.0
    conditions: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __init_subclass__(cls) -> None:
        if cls.kind:
            _KINDS[cls.kind] = cls

    def to_record(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The record as JSON-able values and named arrays."""
        record: dict[str, Any] = {"kind": self.kind, "format": FORMAT}
        arrays: dict[str, np.ndarray] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                arrays[item.name] = value
            elif isinstance(value, Spec):
                record[item.name] = {"spec": type(value).__name__, **value.to_dict()}
            else:
                record[item.name] = value
        return record, arrays

    @classmethod
    def from_record(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Result":
        names = {item.name for item in fields(cls)}
        values = {k: v for k, v in record.items() if k in names} | {k: v for k, v in arrays.items() if k in names}
        if isinstance(spec := values.get("spec"), Mapping):
            spec = dict(spec)
            values["spec"] = SPECS[spec.pop("spec")].from_dict(spec)
        return cls(**{k: _tuples(v) for k, v in values.items()})  # type: ignore[arg-type]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def save(result: Result, path: str | os.PathLike[str], **provenance: Any) -> None:
    """Write a result to one sealed file, atomically; provenance is kept beside what the result already has."""
    stamp = {"written": datetime.now(UTC).isoformat(timespec="seconds")}
    result = replace(result, provenance={**result.provenance, **stamp, **provenance})
    write_atomically(path, seal(*result.to_record()))


def load(path: str | os.PathLike[str]) -> Result:
    """Read a result file. Raises `InputError` for anything else, and for a file in which one bit changed."""
    content = read_bytes(path)
    sealed = unseal(content, path)
    if sealed is None or sealed.record.get("kind") not in _KINDS:
        raise InputError(
            f"{Path(path)} is not a landscape result. `landscape inspect {Path(path)}` says what it holds."
        )
    if sealed.record["format"] > FORMAT:
        raise InputError(f"{Path(path)} was written by a newer landscape (format {sealed.record['format']}). Upgrade.")
    return _KINDS[sealed.record["kind"]].from_record(sealed.record, sealed.arrays)
