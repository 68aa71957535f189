"""A `key=value` text as a value of the kind that a factory's signature asks for."""

import ast
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def kind_of(default: Any) -> Any:
    """The annotation that a bare default stands for; a bare whole number may be meant as a real one."""
    if isinstance(default, bool | str):
        return type(default)
    if isinstance(default, int):
        return int | float
    if isinstance(default, float):
        return float
    if isinstance(default, tuple | list):
        kinds = {kind_of(entry) for entry in default}
        return types.GenericAlias(type(default), (kinds.pop(), ...)) if len(kinds) == 1 else type(default)
    return Any


def read(kind: Any, text: str) -> Any:
    """`text` as a value of type `kind`; raises ValueError(what it must be)."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return read(inner[0], text)
    if origin is typing.Literal:
        return _choice(inner, text)
    if origin in (typing.Union, types.UnionType):
        return _any_of(inner, text)
    if kind is bool:
        return _boolean(text)
    if kind in (None, type(None)):
        return _none(text)
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError:
            raise ValueError("a whole number" if kind is int else "a number") from None
    if kind is str or kind is Path:
        return kind(text)
    if (origin or kind) in (tuple, list, Sequence, Iterable):
        return _sequence(list if (origin or kind) is list else tuple, inner, text)
    return literal(text)


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("true or false")
    return word in _TRUE


def _none(text: str) -> None:
    if text.strip().lower() != "none":
        raise ValueError("none")


def _choice(legal: tuple[Any, ...], text: str) -> Any:
    for value in legal:
        if str(value) == text:
            return value
    raise ValueError("one of " + ", ".join(map(str, legal)))


def _any_of(kinds: tuple[Any, ...], text: str) -> Any:
    """The first kind that fits, the narrowest tried first: none, bool words, int, float, the rest, str."""
    order = [type(None), bool, int, float]
    wanted = []
    for kind in sorted(kinds, key=lambda k: order.index(k) if k in order else 8 + (k is str)):
        if kind is bool and text.strip() in ("0", "1") and {int, float} & set(kinds):
            continue
        try:
            return read(kind, text)
        except ValueError as error:
            wanted.append(str(error))
    raise ValueError(" or ".join(wanted))


def _sequence(kind: type, inner: tuple[Any, ...], text: str) -> Any:
    body = text.strip()
    if body[:1] + body[-1:] in ("()", "[]"):
        body = body[1:-1]
    entries = [entry.strip() for entry in body.split(",") if entry.strip()]
    inner = tuple(entry for entry in inner if entry is not Ellipsis)
    if len(inner) > 1 and len(inner) != len(entries):
        raise ValueError(f"{len(inner)} values, separated by commas")
    kinds = inner if len(inner) > 1 else (inner or (Any,)) * len(entries)
    try:
        return kind(read(k, entry) for k, entry in zip(kinds, entries, strict=True))
    except ValueError as error:
        raise ValueError(f"a comma list, each {error}") from None


def literal(text: str) -> Any:
    """A Python literal where it is one (none, true and false in any case), a tuple for a comma list, else the text."""
    word = text.strip()
    if word.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[word.lower()]
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return tuple(literal(part) for part in word.split(",")) if "," in word[1:-1] else text
