"""What the commands on scans that are already there do once they are parsed; none of them needs torch."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from landscape.errors import InputError, illegal
from landscape.files import read_bytes, write_atomically
from landscape.results import SurfaceResult, load
from landscape.spec import BasinSpec

from .outputs import check_free, choose_output, store


def load_surface(path: str) -> SurfaceResult:
    """A scan from its file. Raises `InputError` for another kind of result."""
    result = load(path)
    if not isinstance(result, SurfaceResult):
        raise InputError(
            f"{path} holds a {result.kind} result, and a surface is needed. `landscape surface` makes one."
        )
    return result


def measure_basins(path: str, spec: BasinSpec, saving: Mapping[str, Any]) -> None:
    """Measure the basins of a scan, save and show them."""
    from landscape import basin

    output = choose_output(saving["output"], f"{Path(path).stem}-basin", saving["overwrite"])
    result = basin.measure(load_surface(path), spec)
    source = {"surface": path, "surface_sha256": hashlib.sha256(read_bytes(path)).hexdigest()}
    store(result, output, source, saving["as_json"])


def import_surface(paths: Sequence[str], output: str | None, overwrite: bool) -> None:
    """Read a scan of another program, by its ending, and save it as a result."""
    from landscape.exchange import landscaper, loss_landscape

    first = paths[0]
    ending = Path(first).suffix.lower()
    if ending not in _IMPORTED:
        raise illegal("FILE", first, f"a file that ends in {', '.join(_IMPORTED)}", "Others are not known.")
    if ending == ".npz" and len(paths) > 1:
        raise illegal("FILE", list(paths), "one .npz file", "Import the others by themselves.")
    target = choose_output(output, Path(first).stem, overwrite)
    digests = [hashlib.sha256(read_bytes(path)).hexdigest() for path in paths]
    result = landscaper.read(first) if ending == ".npz" else loss_landscape.read(paths)
    store(result, target, {"files_sha256": digests}, as_json=False)


def export_result(path: str, output: str, quantity: str, logarithmic: bool | None, overwrite: bool) -> None:
    """Write a result as another program reads it, by the ending of the output."""
    target, ending = Path(output), Path(output).suffix.lower()
    if ending not in _EXPORTED:
        raise illegal("--output", output, f"a file that ends in {', '.join(_EXPORTED)}", "Choose one of these.")
    if ending == ".csv":
        from .table_command import write_table

        return write_table(path, "csv", output, overwrite)
    check_free(target, overwrite)
    surface = load_surface(path)
    if target.exists() and target.samefile(path):
        raise illegal("--output", output, "another file than the result itself", "Choose another name.")
    write_atomically(target, _encoded(surface, ending, quantity, logarithmic))
    click.echo(f"saved {target}", err=True)


def _encoded(surface: SurfaceResult, ending: str, quantity: str, logarithmic: bool | None) -> bytes:
    from landscape.exchange import loss_landscape, paraview

    if ending != ".h5":
        return (paraview.grid if ending == ".vts" else paraview.lines)(surface, quantity, logarithmic)
    if left := loss_landscape.left_out(surface):
        click.echo(f"note: the layout has no room for {', '.join(left)}", err=True)
    return loss_landscape.encode(surface)


_IMPORTED = (".h5", ".npz")
_EXPORTED = (".h5", ".vts", ".vtp", ".csv")
