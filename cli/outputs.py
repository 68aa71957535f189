"""Where a result goes: the file asked for, or a fresh name; never over an existing file unasked; and to the screen."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from landscape.errors import InputError, illegal
from landscape.results import Result, load, save

from . import tables

SUFFIX = ".safetensors"


def choose_output(asked: str | None, stem: str, overwrite: bool) -> Path:
    """The file a result goes to: the one asked for (never over an existing one unasked), or a fresh name."""
    if asked is not None:
        return check_free(Path(asked), overwrite)
    path, number = Path(stem + SUFFIX), 1
    while path.exists() and not overwrite:
        number += 1
        path = Path(f"{stem}-{number}{SUFFIX}")
    return path


def output_to_continue(stem: str, saving: Mapping[str, Any], kind: type[Result]) -> Path:
    """The file of a measurement that can be resumed: an unfinished one of that name and kind, or a free one.

    A complete one that was asked for by its name counts too; it is shown again.
    """
    asked = Path(saving["output"] or stem + SUFFIX)
    if not saving["overwrite"] and _holds(asked, kind, complete=saving["output"] is not None):
        return asked
    return choose_output(saving["output"], stem, saving["overwrite"])


def _holds(path: Path, kind: type[Result], complete: bool) -> bool:
    try:
        found = load(path) if path.is_file() else None
    except InputError:
        return False
    return isinstance(found, kind) and (complete or not getattr(found, "complete", True))


def check_free(path: Path, overwrite: bool) -> Path:
    """The path itself, unless a file is there that nobody asked to replace."""
    if path.exists() and not overwrite:
        raise illegal(
            "--output", str(path), "a file that does not exist yet", "Choose another name, or add --overwrite."
        )
    return path


def store(result: Result, output: Path, provenance: Mapping[str, Any], as_json: bool) -> Result:
    """Save a result with what made it, then show it."""
    save(result, output, **provenance, command=[Path(sys.argv[0]).name, *sys.argv[1:]])
    if as_json:
        click.echo(tables.to_json(replace(result, provenance={**result.provenance, **provenance})))
    else:
        tables.show(result)
    click.echo(f"saved {output}", err=True)
    return result
