"""The project's own figures: which results each is drawn from. `make figures` and `landscape demo` run this.

python -m landscape_figures.gallery RESULTS_FOLDER OUTPUT_FOLDER
"""

import sys
from pathlib import Path
from typing import Any

from landscape.results import load

from . import draw, save_figure

GALLERY: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "eigenvalues": ("eigenvalues", ("comparison",), {}),
    "sharpness": ("sharpness_bars", ("comparison",), {}),
    "parametric": ("parametric", ("line",), {}),
    "parametric_arc": ("parametric", ("arc",), {}),
    "plane": ("plane", ("plane",), {}),
    "sharp_and_flat": ("surface_pair", ("random-large-batch", "random-sam"), {}),
    "keskar_dependence": ("dependence", ("keskar-dependence",), {}),
}
"""Picture -> recipe, result files (without ending), options of the recipe."""


def render(results: Path, output: Path) -> list[Path]:
    """Draw the figures of the gallery whose results are in the folder; returns the files written."""
    written: list[Path] = []
    for name, (recipe, sources, options) in GALLERY.items():
        paths = [results / f"{source}.safetensors" for source in sources]
        if all(path.exists() for path in paths):
            written += save_figure(draw([load(path) for path in paths], recipe, **options), output / name)
    return written


if __name__ == "__main__":
    for path in render(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)
