"""How every figure looks: print sizes, fonts, and colours that survive colour blindness and a black-and-white printer.

Widths are those of a journal column; all text is at least 7 pt at that size. Colours are Okabe and Ito's,
each tied to its own line style, marker and hatch. Maps are perceptually uniform, monotone in lightness.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib.style

WIDTHS = {"single": 3.4, "double": 6.9}
"""Column widths in inches."""

COLOUR_MAP = "viridis"
SIGNED_MAP = "PuOr_r"
INK = "#1a1a1a"
FAINT = "#8c8c8c"
VERMILLION = "#D55E00"

_PARAMETERS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that pictures do not depend on the machine
    "font.size": 7.5,
    "text.parse_math": False,  # a `$` in a checkpoint's name is a dollar
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "grid.linewidth": 0.4,
    "grid.color": "#dcdcdc",
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.4,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "errorbar.capsize": 2.0,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "landscape",
}


def style() -> AbstractContextManager[None]:
    """Inside: this project's style on top of matplotlib's defaults. Outside: the caller's settings, untouched."""
    return matplotlib.style.context(["default", _PARAMETERS])


@dataclass(frozen=True)
class Look:
    """One series: each of the four channels alone tells it from its neighbours."""

    colour: str
    line: Any
    marker: str
    hatch: str


_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_LINES = (
    "-",
    (0, (5, 1.6)),
    (0, (1, 1.2)),
    (0, (5, 1.4, 1, 1.4)),
    (0, (7, 2, 3, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 3)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "/////", ".....", "xxxx", "-----", "\\\\\\\\\\", "oo")

LOOKS = tuple(
    Look(_COLOURS[(i + shift) % 7], _LINES[i], _MARKERS[i], _HATCHES[i]) for shift, i in product(range(7), range(7))
)
"""Forty-nine distinct looks; the first seven differ in all four channels."""


def look(number: int) -> Look:
    """The look of the series with this number."""
    return LOOKS[number % len(LOOKS)]
