"""Where a data set's files may lie, and what to say when they do not."""

from collections.abc import Sequence
from pathlib import Path

from landscape.errors import InputError


def candidates(folder: Path | None, subfolders: Sequence[str], name: str, remedy: str) -> list[Path]:
    """The folders to look in for `name`: those of `subfolders` that exist under `folder`, then `folder` itself."""
    if folder is None:
        raise InputError(
            f"{name} needs a folder of data sets, and none is given. Set --data-folder or the environment variable "
            f"LANDSCAPE_DATA. {remedy}"
        )
    if not folder.is_dir():
        raise InputError(f"the data folder {folder} is not a folder. Set --data-folder or LANDSCAPE_DATA to one.")
    return [place for place in (*(folder / sub for sub in subfolders), folder) if place.is_dir()]


def missing(name: str, files: str, folder: Path, subfolders: Sequence[str], remedy: str) -> InputError:
    """One line: what was looked for, in which places, and how to get it."""
    tried = ", ".join([str(folder), *(f"{sub}/" for sub in subfolders)])
    return InputError(f"{name} not found: looked for {files} in {tried} (the latter inside the former). {remedy}")


def found_file(path: str, folder: Path | None, example: str) -> Path:
    """The file `path` in the current folder or else under `folder`; raises `InputError` when it is in neither."""
    places = [Path(path), *([folder / path] if folder is not None else [])]
    for place in places:
        if place.is_file():
            return place
    shown = " and ".join(str(p) for p in places)
    raise InputError(f"no such file: looked for {shown} (current folder: {Path.cwd()}). Give path={example}.")
