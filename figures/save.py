"""A figure on disk: PDF and PNG (SVG on request), whole or absent, the same bytes whenever it is drawn again."""

import os
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from landscape.files import write_atomically

from .style import style

_METADATA = {
    "pdf": {"Creator": "landscape", "Producer": "landscape", "CreationDate": None},
    "png": {"Software": "landscape"},
    "svg": {"Creator": "landscape", "Date": None},
}


def save_figure(figure: Figure, stem: str | os.PathLike[str], *, svg: bool = False) -> tuple[Path, ...]:
    """Write `stem`.pdf and `stem`.png (300 dpi), and `stem`.svg if asked; returns the paths.

    Nothing in the files depends on the time, the process or the user. An ending .pdf, .png or .svg of `stem`
    is dropped, any other is part of the name. Raises `InputError` when the folder cannot be written.
    """
    stem = Path(stem)
    if stem.suffix.lower() in (".pdf", ".png", ".svg"):
        stem = stem.with_suffix("")
    formats = ("pdf", "png", "svg") if svg else ("pdf", "png")
    rendered = [(stem.with_name(f"{stem.name}.{kind}"), _render(figure, kind)) for kind in formats]
    for path, content in rendered:
        write_atomically(path, content)
    return tuple(path for path, _ in rendered)


def _render(figure: Figure, kind: str) -> bytes:
    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()
