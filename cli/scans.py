"""What the commands on scans that are already there do once they are parsed; none of them needs torch."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.errors import InputError
from landscape.files import read_bytes
from landscape.results import SurfaceResult, load
from landscape.spec import BasinSpec

from .outputs import choose_output, store


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
