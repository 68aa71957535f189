"""Blocks of a model's parameters, chosen by patterns on their names."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from landscape.errors import InputError


def chosen_names(model: nn.Module, free: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those of the `free` parameters that a pattern matches, in the model's order.

    A pattern is a shell glob over the whole dotted name (`layer3.*`, `*.bias`, `head.weight`); a tied
    parameter answers to each of its names. Raises `InputError` for a pattern that matches nothing, with the
    names nearest to it, and for one that matches frozen parameters only.
    """
    free = list(free)
    first = {id(p): name for name, p in model.named_parameters()}
    own = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matched = {own[name] for name in own if fnmatchcase(name, pattern)}
        if not matched:
            raise InputError(f"params = {pattern!r} matches none of the model's parameters. {_nearest(pattern, free)}")
        if not matched & set(free):
            raise InputError(f"params = {pattern!r} matches only frozen parameters. Call requires_grad_(True) on them.")
        chosen |= matched
    if not chosen:
        raise InputError("params is empty: give at least one pattern, for example 'layer3.*'.")
    return [name for name in free if name in chosen]


def _nearest(pattern: str, names: list[str]) -> str:
    plain = pattern.replace("*", "").strip(".")
    close = [name for name in names if plain.lower() in name.lower()] if plain else []
    close = close or difflib.get_close_matches(plain, names, 5, 0.4) or names
    more = f" and {len(close) - 5} more" if len(close) > 5 else ""
    return f"Did you mean {', '.join(close[:5])}{more}? A whole layer is 'NAME.*'."


def tied_names(model: nn.Module) -> dict[str, str]:
    """Further names of parameters that several modules share, each with its first name.

    A module that is registered under two names has its parameters' first names alone: to replace a parameter under
    each of them, as `torch.func.functional_call` does unless told not to, leaves the replacement in the module.
    """
    first: dict[int, str] = {}
    found = {}
    for place, module in model.named_modules():
        for key, parameter in module.named_parameters(place, recurse=False, remove_duplicate=False):
            if first.setdefault(id(parameter), key) != key:
                found[key] = first[id(parameter)]
    return found


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that belong to normalisation layers: modules whose own parameters are `weight` or
    `bias` with one axis, and whose class is a norm of torch or is called one ("…Norm")."""
    found = set()
    for place, module in model.named_modules():
        own = dict(module.named_parameters(place, recurse=False))
        if "norm" in type(module).__name__.lower() and all(p.dim() < 2 for p in own.values()):
            found |= set(own)
    return found
