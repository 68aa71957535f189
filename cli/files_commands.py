"""The commands on result files: pictures, tables, other formats."""

from pathlib import Path
from typing import Any

import click

from .options import pairs


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option("--recipe", help="Figure recipe (default: by the kind of result).")
@click.option(
    "-o", "--output", type=click.Path(), help="Path of the pictures without ending (default: the first result's)."
)
@click.option("--name", "names", multiple=True, help="Name of each result (or point) in the picture; repeat.")
@click.option(
    "--set", "settings", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Option of the recipe; repeat."
)
@click.option("--overwrite", is_flag=True, help="Replace existing pictures.")
def figure(
    results: tuple[str, ...],
    recipe: str | None,
    output: str | None,
    overwrite: bool,
    names: tuple[str, ...],
    settings: Any,
) -> None:
    """Draw result files: writes a PDF and a PNG."""
    from .actions import draw_figure

    draw_figure(results, recipe, output, overwrite, names, dict(settings))


@click.command()
@click.argument("result", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False),
    help="File to write, .gif, or .mp4 where ffmpeg is installed (default: the result's name with .gif).",
)  # fmt: skip
@click.option("--quantity", help="What the contours show (default: train loss).")
@click.option("--fps", type=float, help="Checkpoints shown in a second (default: 6).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def animate(result: str, output: str | None, quantity: str | None, fps: float | None, overwrite: bool) -> None:
    """Film a training that moves over its plane, with its loss beside it; RESULT is a scan along its components."""
    from .pictures import animate_result

    animate_result(result, output, overwrite, quantity=quantity, fps=fps)


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(),
    help="HTML file to write, or a folder for several results (default: each result's name with .html).",
)  # fmt: skip
@click.option("--title", help="Title of the page (default: the checkpoints' labels).")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def page(results: tuple[str, ...], output: str | None, title: str | None, overwrite: bool) -> None:
    """One interactive HTML page for each line or plane in RESULTS: turn, zoom, read values; needs no network."""
    from .pictures import write_pages

    write_pages(results, output, title, overwrite)


@click.command()
@click.argument("path", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(path: str, as_json: bool) -> None:
    """What is in this checkpoint or result file?"""
    from .actions import inspect_file

    inspect_file(Path(path), as_json)


@click.command()
@click.argument("result", type=click.Path())
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "latex", "json"]),
    help="How it is written (default: by the ending .txt, .csv, .tex or .json of --output; else text).",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="File to write (default: standard output).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def table(result: str, form: str | None, output: str | None, overwrite: bool) -> None:
    """The table of a RESULT file: as text, as CSV with every digit, as LaTeX for a paper, or as JSON."""
    from .table_command import write_table

    write_table(result, form, output, overwrite)


@click.command("export")
@click.argument("result", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="File: .h5, .vts, .vtp or .csv.")
@click.option("--quantity", default="train loss", show_default=True, help=".vts, .vtp: the height of the surface.")
@click.option(
    "--log/--linear", "logarithmic", default=None, help=".vts, .vtp: log10 heights (default: where all are positive)."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def export_command(result: str, output: str, quantity: str, logarithmic: bool | None, overwrite: bool) -> None:
    """Write a RESULT for other programs: .h5 as loss-landscape reads it, .vts and .vtp for ParaView, or .csv.

    .vts holds the surface, .vtp the trajectory and the checkpoints on it; .csv every digit of any result.
    """
    from .scans import export_result

    export_result(result, output, quantity, logarithmic, overwrite)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Result file (default: named by the first FILE).")
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
def import_command(files: tuple[str, ...], output: str | None, overwrite: bool) -> None:
    """Read a surface of other programs: .h5 of loss-landscape or .npz of Landscaper.

    Eigenvalues, projected trajectory and principal directions of loss-landscape may follow in files of their own.
    """
    from .scans import import_surface

    import_surface(files, output, overwrite)
