"""What `landscape animate` and `landscape page` do once they are parsed: load, draw, write."""

from pathlib import Path
from typing import Any

import click

from landscape.errors import InputError, illegal
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


def write_pages(paths: tuple[str, ...], output: str | None, title: str | None, overwrite: bool) -> None:
    """Write the interactive page of each result; every place is checked before the first is written."""
    targets = [check_free(target, overwrite) for target in _targets(paths, output)]
    results = [_surface(load(path), path) for path in paths]
    from landscape_figures import write_page  # pyright: ignore[reportMissingImports]

    for result, target in zip(results, targets, strict=True):
        _saved(write_page(result, target, title=title, overwrite=overwrite))


def _targets(paths: tuple[str, ...], output: str | None) -> list[Path]:
    if output is not None and len(paths) == 1 and not Path(output).is_dir():
        return [Path(output)]
    if output is not None and Path(output).suffix:
        raise illegal("--output", output, "a folder, for several results", "Leave out its ending.")
    folders = [Path(path).parent if output is None else Path(output) for path in paths]
    targets = [folder / f"{Path(path).stem}.html" for folder, path in zip(folders, paths, strict=True)]
    if len(set(targets)) < len(targets):
        raise illegal("results", list(paths), "files of different names", "Write them one by one.")
    return targets


def _surface(result: Result, path: str) -> SurfaceResult:
    if not isinstance(result, SurfaceResult):
        raise InputError(
            f"{path} is a result of kind {result.kind}, and one of a surface is needed (`landscape surface`)."
        )
    return result


def _saved(path: Path) -> None:
    click.echo(f"saved {path} ({path.stat().st_size / 1e6:.2g} MB)", err=True)
