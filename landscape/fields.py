"""Dataclass fields that know their help text and legal range: what `spec.py` is written in.

One declaration gives the Python argument, its validation and the command-line option.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields
from typing import Any, TypeVar

from landscape.errors import illegal


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | int | None = None,
    maximum: float | int | None = None,
    above: float | int | None = None,
    below: float | int | None = None,
    flag: str | None = None,
    hidden: bool = False,
    may_be_empty: bool = False,
) -> Any:
    """A dataclass field with its help and legal range: `minimum`/`maximum` are allowed, `above`/`below` not.

    `flag` renames the command-line option; `hidden` fields have none. A list may be empty
    where its default is or `may_be_empty` says so.
    """
    metadata = dict(
        help=help, choices=tuple(choices), minimum=minimum, maximum=maximum, above=above, below=below,
        flag=flag, hidden=hidden, may_be_empty=may_be_empty or default == (),
    )  # fmt: skip
    return field(default=default, metadata=metadata)


S = TypeVar("S", bound="Spec")

SPECS: dict[str, type["Spec"]] = {}
"""Every spec by its class's name, as files record it; and by former names."""


class Spec:
    """Base of all specs: validates every field against its declared range, reads and writes plain dicts."""

    def __init_subclass__(cls) -> None:
        SPECS[cls.__name__] = cls

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value, kind = _tuples(getattr(self, item.name)), _kind(item)
            _validate(item.name, value, item.metadata, kind)
            if kind is float and value is not None:
                value = float(value)
            object.__setattr__(self, item.name, value)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """The spec that `to_dict` described; lists become tuples, unknown names are refused."""
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
        for name in values:
            if name not in known:
                raise illegal(
                    f"{cls.__name__} field", name, f"one of {', '.join(sorted(known))}",
                    "Remove it, or upgrade landscape if a newer version wrote it.",
                )  # fmt: skip
        return cls(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _kind(item: Any) -> type | None:
    for kind in (bool, int, float, str):
        if item.type in (kind, kind | None):
            return kind
    return None


def _validate(name: str, value: Any, limits: Mapping[str, Any], kind: type | None) -> None:
    if isinstance(value, tuple):
        if not value and not limits["may_be_empty"]:
            raise illegal(name, value, "a list of at least one value", f"({limits['help']})")
        for entry in value:
            if not isinstance(entry, tuple):
                _validate(name, entry, limits, None)
        return
    if value is None:
        return
    legal, remedy = _legal_range(limits, kind), limits["help"]
    if limits["choices"] and value not in limits["choices"]:
        raise illegal(name, value, legal, f"({remedy})")
    bounds = [limits[key] for key in ("minimum", "maximum", "above", "below")]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and not isinstance(value, bool):
        raise illegal(name, value, "True or False", f"({remedy})")
    if kind is str and not isinstance(value, str):
        raise illegal(name, value, "a string", f"({remedy})")
    if (kind in (int, float) or any(b is not None for b in bounds)) and not number:
        raise illegal(name, value, legal, f"({remedy})")
    if kind is int and not isinstance(value, int):
        raise illegal(name, value, legal, f"({remedy})")
    if number:
        low, high, above, below = bounds
        inside = (
            abs(float(value)) < float("inf")
            and (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
            and (below is None or value < below)
        )
        if not inside:
            raise illegal(name, value, legal, f"({remedy})")


def _legal_range(limits: Mapping[str, Any], kind: type | None) -> str:
    if limits["choices"]:
        return "one of " + ", ".join(limits["choices"])
    parts = [
        f"{word} {limits[key]:g}"
        for key, word in (
            ("minimum", "at least"),
            ("above", "above"),
            ("maximum", "at most"),
            ("below", "below"),
        )
        if limits[key] is not None
    ]
    noun = "a whole number" if kind is int else "a finite number"
    return " ".join([noun, " and ".join(parts)]).strip()
