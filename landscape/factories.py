"""User code by name: `package.module:factory` or `file.py:factory`, called with `key=value` texts.

The factory's own signature says how each text is read: annotations first, else the default's type.
"""

import hashlib
import importlib
import importlib.util
import inspect
import operator
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter
from pathlib import Path
from typing import Any

from landscape.arguments import kind_of, literal, read
from landscape.errors import InputError

_KEYWORDS = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def load_factory(text: str) -> Callable[..., Any]:
    """The callable that `package.module:factory` or `path/to/file.py:factory` names.

    Modules are looked for in the current folder first, a file's own imports beside the file first; both
    leave `sys.path` as it was. Raises `InputError`, one line, when there is no colon, no such module, file
    or attribute, when the attribute cannot be called, and when the import itself fails.
    """
    place, colon, attribute = text.rpartition(":")
    if not colon or not place or not attribute:
        raise InputError(f"{text!r} does not name a factory. Write package.module:factory or path/to/file.py:factory.")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    try:
        factory = operator.attrgetter(attribute)(module)
    except AttributeError:
        known = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise InputError(
            f"{place} has no {attribute!r}. It defines: {', '.join(sorted(known)) or 'nothing that can be called'}."
        ) from None
    if not callable(factory):
        raise InputError(f"{text} is a {type(factory).__name__}, not a function or class. Name one that builds it.")
    return factory


def call(
    factory: Callable[..., Any],
    arguments: tuple[tuple[str, str], ...],
    name: str | None = None,
    /,
    **offered: Any,
) -> Any:
    """factory(**arguments), every text read as the factory's signature says.

    A text becomes an int, float, bool, str, None or a tuple (comma list) by the parameter's annotation,
    else by its default, else as a Python literal where it is one. `offered` values are passed only where
    the signature has that name and `arguments` does not. `name` is what messages call the factory.

    Raises `InputError` for an unknown, repeated, missing or unreadable argument (with the legal ones), and
    for any exception inside the factory, naming its file and line.
    """
    title: str = name or getattr(factory, "__name__", type(factory).__name__)
    parameters = _parameters(factory)
    takes_any = parameters is None or any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    named = {k: p for k, p in (parameters or {}).items() if p.kind in _KEYWORDS}
    legal = ", ".join(_described(k, p) for k, p in named.items() if k not in offered or p.default is not p.empty)
    values: dict[str, Any] = {}
    for key, text in arguments:
        if key in values:
            raise InputError(f"argument {key} of {title} is given twice. Give it once.")
        if key in named:
            values[key] = _typed(title, named[key], text)
        elif takes_any:
            values[key] = literal(text)
        else:
            raise InputError(f"{title} has no argument {key!r}. Its arguments: {legal or 'none'}.")
    values |= {k: v for k, v in offered.items() if k in named and k not in values}
    missing = [k for k, p in named.items() if p.default is p.empty and k not in values]
    if missing:
        raise InputError(f"{title} needs {', '.join(missing)}. Give {missing[0]}=VALUE; its arguments: {legal}.")
    try:
        return factory(**values)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{title} failed: {_told(error)}") from error


def _load_module(name: str) -> types.ModuleType:
    with _first_on_path(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
                raise InputError(
                    f"cannot import {name}: no module named {error.name!r} (current folder: {Path.cwd()}). "
                    "Install it, or name a file as path/to/file.py:factory."
                ) from None
            raise InputError(f"module {name} cannot be imported: {_told(error)}") from error
        except (Exception, SystemExit) as error:
            raise InputError(f"module {name} cannot be imported: {_told(error)}") from error


def _load_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise InputError(f"{path} is not a file (current folder: {Path.cwd()}). Check the path before the colon.")
    path = path.resolve()
    # The module stays in sys.modules, where dataclasses and pickling look for the classes it defines.
    name = f"landscape_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported. It must be a Python source file.")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    with _first_on_path(path.parent):
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
            raise InputError(f"{path} cannot be imported: {_told(error)}") from error
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    importlib.invalidate_caches()
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _told(error: BaseException) -> str:
    """An exception as one line: its kind, its message, and the innermost line of the user's code it came from."""
    words = " ".join(str(error).split()) or "no message"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(("<", __file__))]
    theirs = [f for f in frames if "site-packages" not in f.filename] or frames
    where = f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs and not isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {words}{where}"


def _parameters(factory: Callable[..., Any]) -> dict[str, Parameter] | None:
    """The parameters by name, annotations resolved where possible; None when nothing tells them."""
    for resolve in (True, False):
        try:
            return dict(inspect.signature(factory, eval_str=resolve).parameters)
        except Exception:  # annotations are arbitrary code: any failure means unresolved
            continue
    return None


def _described(key: str, parameter: Parameter) -> str:
    if parameter.default is parameter.empty:
        return f"{key} (required)"
    default = parameter.default
    if isinstance(default, tuple | list):
        return f"{key}={','.join(map(str, default))}"
    return f"{key}={default}"


def _typed(name: str, parameter: Parameter, text: str) -> Any:
    annotation, default = parameter.annotation, parameter.default
    if annotation is parameter.empty:
        annotation = kind_of(default)
    try:
        return read(annotation, text)
    except ValueError as error:
        default = "" if parameter.default is parameter.empty else f" (default {parameter.default!r})"
        raise InputError(
            f"{parameter.name} = {text!r} is not legal for {name}: it must be {error}{default}. "
            f"Give {parameter.name}=VALUE of that kind."
        ) from None
