"""Where a result goes: the file asked for, or a fresh name; never over an existing file unasked."""

from pathlib import Path

from landscape.errors import illegal

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


def check_free(path: Path, overwrite: bool) -> Path:
    """The path itself, unless a file is there that nobody asked to replace."""
    if path.exists() and not overwrite:
        raise illegal(
            "--output", str(path), "a file that does not exist yet", "Choose another name, or add --overwrite."
        )
    return path
