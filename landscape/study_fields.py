"""Single values of a study's file: which spec a key belongs to, and whether its value has the right form."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, NoReturn, TypeVar

from landscape.errors import InputError, illegal
from landscape.fields import Spec, option
from landscape.spec import SourceSpec, TrainSpec

ARGUMENTS = ("model_args", "data_args")
"""Tables of texts for a factory, whose own signature types them."""


@dataclass(frozen=True)
class StartSpec(Spec):
    """What a run says of the run of [start]."""

    start_epoch: int | None = option(None, "epoch of the run of [start] that a run starts from; default: the last",
                                     minimum=0)  # fmt: skip


_START = {item.name: item for item in fields(StartSpec)}
_TRAIN = {item.name: item for item in fields(TrainSpec)}
_SOURCE = {item.name: item for item in fields(SourceSpec)}

S = TypeVar("S", bound=Spec)


def known_as(key: str) -> Field | None:
    """The field that a key of [start], [grid], [[runs]] or [[when]] means; None for a key that is none."""
    first, dot, rest = key.partition(".")
    if dot:
        return _SOURCE[first] if first in ARGUMENTS and rest else None
    return None if key in ARGUMENTS else _TRAIN.get(key) or _SOURCE.get(key) or _START.get(key)


def flat(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The table with `model_args = {x = 1}` and `model_args.x = 1` both as `{"model_args.x": 1}`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in ARGUMENTS:
            found[key] = value
        elif isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            raise illegal(f"{where} {key}", value, "a table", f"For example {key} = {{ name = 1 }}.")
    return found


def fitting(key: str, value: Any, where: str) -> Any:
    """The value of a field of [train] or [source] as its spec takes it. Raises `InputError` for another form."""
    item = known_as(key)
    assert item is not None
    if item.name in ARGUMENTS:
        return _text(value, f"{where} {key}")
    return _fit(item, value, where)


def built(spec: type[S], values: Mapping[str, Any], where: str, also: Sequence[str] = ()) -> S:
    """The spec of a table's values; also: further keys of the table, for the message on an unknown one."""
    items = {item.name: item for item in fields(spec)}  # type: ignore[arg-type]
    for key in values:
        if key not in items:
            unknown(f"{where} key", key, (*also, *items))
    fitted = {key: value if key in ARGUMENTS else _fit(items[key], value, where) for key, value in values.items()}
    try:
        return spec.from_dict(fitted)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def parted(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Flat values as those of the source, of the training and of its start; arguments as pairs."""
    source: dict[str, Any] = {key: value for key, value in values.items() if key in _SOURCE}
    for name in ARGUMENTS:
        start = f"{name}."
        source[name] = tuple((k.removeprefix(start), v) for k, v in values.items() if k.startswith(start))
    train, start = ({key: value for key, value in values.items() if key in known} for known in (_TRAIN, _START))
    return source, train, start


def _fit(item: Field, value: Any, where: str) -> Any:
    """Lists only for lists, of the right kind; the spec itself checks ranges."""
    optional = isinstance(item.type, types.UnionType) and types.NoneType in typing.get_args(item.type)
    if optional and value == "none":
        return None
    listed = typing.get_origin(item.type) is tuple
    if isinstance(value, list | tuple) != listed:
        legal = "a list" if listed else "a single value"
        raise illegal(f"{where} {item.name}", value, legal, f"({item.metadata['help']})")
    if not listed:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return float(value) if whole and item.type in (float, float | None) else value
    kind = typing.get_args(item.type)[0]
    accepted = (int, float) if kind is float else kind
    for entry in value:
        if isinstance(entry, bool) or not isinstance(entry, accepted):
            name = {int: "whole numbers", float: "numbers", str: "strings"}[kind]
            raise illegal(f"{where} {item.name}", value, f"a list of {name}", f"({item.metadata['help']})")
    return tuple(value)


def _text(value: Any, what: str) -> str:
    """A factory's argument as `--model-arg KEY=VALUE` would give it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and not any(isinstance(entry, list | dict) for entry in value):
        return ",".join(_text(entry, what) for entry in value)
    raise illegal(what, value, "a string, a number, true or false, or a list of them", "The factory reads it as text.")


def unknown(what: str, name: str, known: Sequence[str], more: str = "") -> NoReturn:
    """Refuse a name with the known ones, and the one that was probably meant."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]}?" if near else more or "Remove it."
    raise illegal(what, name, f"one of {', '.join(known)}", hint)
