"""What tells the panels of a figure apart: their checkpoints, or what was asked of them."""

from collections.abc import Sequence
from typing import Any

from landscape.errors import InputError
from landscape.results import SurfaceResult

from .groups import result_names
from .scales import number


def titles(results: Sequence[SurfaceResult], names: Sequence[str] | None = None) -> list[str]:
    """A title for each scan: the names given; else its checkpoint and settings, as far as they differ; else its file.

    Raises `InputError` when there are not as many names as results.
    """
    if names:
        if len(names) != len(results):
            raise InputError(f"names: {len(names)} given for {len(results)} surfaces. Give one name for each.")
        return list(names)
    if len(results) == 1:
        return [results[0].labels[0]]
    told = [result.labels[0] for result in results]
    differing = differences(results)
    found = [
        ", ".join(([label] if len(set(told)) > 1 else []) + [f"{key} {_word(settings[key])}" for key in settings])
        for label, settings in zip(told, differing, strict=True)
    ]
    return found if len(set(found)) == len(found) else result_names(results, None)


def differences(results: Sequence[SurfaceResult]) -> list[dict[str, Any]]:
    """For each scan the settings of its spec in which not all are alike, by their names in words."""
    specs = [result.spec.to_dict() for result in results]
    keys = [key for key in specs[0] if any(spec.get(key) != specs[0][key] for spec in specs)]
    return [{key.replace("_", " "): spec[key] for key in keys if key in spec} for spec in specs]


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return " × ".join(map(_word, value))
    return number(value) if isinstance(value, float) else str(value)
