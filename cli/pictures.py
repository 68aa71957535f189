"""What `landscape animate` and `landscape page` do once they are parsed: load, draw, write."""

from pathlib import Path
from typing import Any

import click

from landscape.errors import InputError
from landscape.results import Result, SurfaceResult, load

from .outputs import check_free


def animate_result(path: str, output: str | None, overwrite: bool, **asked: Any) -> None:
    """Write the film of a training; `asked` are options of `animate`, None where its own default holds."""
    target = check_free(Path(output or Path(path).with_suffix(".gif")), overwrite)
    result = _surface(load(path), path)
    from landscape_figures import animate  # pyright: ignore[reportMissingImports]

    given = {name: value for name, value in asked.items() if value is not None}
    animate(result, target, overwrite=overwrite, **given)
    _saved(target)


def _surface(result: Result, path: str) -> SurfaceResult:
    if not isinstance(result, SurfaceResult):
        raise InputError(f"{path} holds a {result.kind}, and a surface is needed (`landscape surface`).")
    return result


def _saved(path: Path) -> None:
    click.echo(f"saved {path} ({path.stat().st_size / 1e6:.2g} MB)", err=True)
