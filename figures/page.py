"""One self-contained interactive page for a scan: turn it, zoom, read every value; no network, nothing to install."""

import json
import os
import shlex
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from landscape.errors import InputError, illegal
from landscape.files import write_atomically
from landscape.results import SurfaceResult

from .quantities import interpolation_note

_TITLES = {1: "Loss along a line", 2: "Loss over a plane"}
_HERE = Path(__file__).parent


def write_page(
    result: SurfaceResult, path: str | os.PathLike[str], *, title: str | None = None, overwrite: bool = False
) -> Path:
    """Write the page of a line or a plane to one HTML file; returns its path.

    The page turns, zooms and tells all values under the pointer; it chooses train or test, the quantity, a linear or
    logarithmic scale, and surface or contours. Points without a number are holes. Its foot says the conditions and
    the command. title: default the checkpoints' labels. Text from the result is shown literally, never run.

    Raises `InputError`: a scan of three axes, no plotly, a file that exists, a folder that cannot be written.
    """
    path = Path(path)
    if len(result.shape) not in _TITLES:
        raise InputError("a page shows a scan of one or two axes, and this one has three. Scan a plane of them.")
    if path.exists() and not overwrite:
        raise illegal("output", str(path), "a file that does not exist yet", "Choose another, or say overwrite.")
    write_atomically(path, render(result, title).encode("utf-8", "replace"))
    return path


def render(result: SurfaceResult, title: str | None = None) -> str:
    """The page as HTML."""
    library = _plotly()
    from .page_data import line_figure, plane_figure, quantities

    title = title or f"{_TITLES[len(result.shape)]}: {', '.join(result.labels)}"
    found = quantities(result)
    told = {
        "dimensions": len(result.shape), "labels": result.labels, "trajectory": result.trajectory_labels,
        "quantities": found,
        "figure": line_figure(result, found) if len(result.shape) == 1 else plane_figure(result),
    }  # fmt: skip
    texts = {
        "title": escape(title), "controls": _controls(told), "about": escape(_about(result)),
        "conditions": _conditions(result), "command": escape(_command(result)), "data": _embedded(told),
        "plotly": library, "script": (_HERE / "page.js").read_text("utf-8"),
        "library": f"{len(library) / 1e6:.1f}",
    }  # fmt: skip
    template = Template((_HERE / "page.html").read_text("utf-8"))
    weight = len(template.substitute(texts, weight="0.0").encode("utf-8", "replace"))
    return template.substitute(texts, weight=f"{weight / 1e6:.1f}")


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError(
            "a page needs plotly, which is not installed. Run: pip install 'landscape-sharpness[html]'."
        ) from None
    return get_plotlyjs()


def _embedded(told: dict[str, Any]) -> str:
    """JSON that no text inside it can end or turn into markup."""
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _controls(told: dict[str, Any]) -> str:
    measures = list(dict.fromkeys(entry["measure"] for entry in told["quantities"]))
    splits = list(dict.fromkeys(entry["split"] for entry in told["quantities"] if entry["split"]))
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in measures)
    plane = told["dimensions"] == 2
    return "".join([
        f'<label>quantity <select name="measure">{options}</select></label>',
        _radios("split", splits) if plane and len(splits) > 1 else "",
        _radios("scale", ["log", "linear"]),
        _radios("view", ["surface", "contour"]) if plane else "",
    ])  # fmt: skip


def _radios(name: str, values: list[str]) -> str:
    buttons = (
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" if value == values[0] else ""}> '
        f"{value}</label>"
        for value in values
    )
    return f'<fieldset aria-label="{name}">{"".join(buttons)}</fieldset>'


def _about(result: SurfaceResult) -> str:
    points = " × ".join(map(str, result.shape))
    notes = [f"{points} points", "" if result.complete else "incomplete", interpolation_note(result)]
    return "; ".join(filter(None, notes)) + "."


def _conditions(result: SurfaceResult) -> str:
    shown = {k: v for k, v in result.conditions.items() if isinstance(v, str | int | float)}
    return "".join(f"<dt>{escape(k.replace('_', ' '))}</dt><dd>{escape(str(v))}</dd>" for k, v in shown.items())


def _command(result: SurfaceResult) -> str:
    told = result.provenance.get("command")
    return shlex.join(map(str, told)) if isinstance(told, list | tuple) else str(told or "a script")
