"""What `landscape table` does once it is parsed: load a result, write its table in the format asked for."""

from pathlib import Path

import click

from landscape.errors import illegal
from landscape.results import ComparisonResult, Result, load

from .outputs import check_free

_ENDINGS = {".txt": "text", ".csv": "csv", ".tex": "latex", ".json": "json"}


def write_table(path: str, form: str | None, output: str | None, overwrite: bool) -> None:
    """Print the table of a result file, or write it to a file atomically."""
    if output is None:
        result = load(path)
        if form in (None, "text"):
            from .tables import show

            return show(result)
        return click.echo(_encoded(result, form), nl=False)
    from landscape.files import write_atomically

    target = check_free(Path(output), overwrite)
    form = form or _ENDINGS.get(target.suffix.lower())
    if form is None:
        raise illegal("--output", output, f"a file that ends in {', '.join(_ENDINGS)}", "Or give its --format.")
    result = load(path)
    if target.exists() and target.samefile(path):
        raise illegal("--output", output, "another file than the result itself", "Choose another name.")
    write_atomically(target, _encoded(result, form))
    click.echo(f"saved {target}", err=True)


def _encoded(result: Result, form: str) -> bytes:
    """The table as the bytes of a file: UTF-8 on every machine, line ends as the format has them."""
    return _FORMATS[form](result).encode("utf-8", "backslashreplace")


def _text(result: Result) -> str:
    from .tables import to_text

    return to_text(result)


def _csv(result: Result) -> str:
    from .export import to_csv
    from .records import records

    return to_csv(records(result))


def _latex(result: Result) -> str:
    from .export import to_latex
    from .grids import grid
    from .grids_measures import comparison

    return to_latex(comparison(result, by_label=True) if type(result) is ComparisonResult else grid(result))


def _json(result: Result) -> str:
    from .tables import to_json

    return to_json(result) + "\n"


_FORMATS = {"text": _text, "csv": _csv, "latex": _latex, "json": _json}
