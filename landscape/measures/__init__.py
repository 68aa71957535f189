"""Measures of sharpness, one file for each: `measure` gives any of them for a problem, with what judges them.

Each file has a function `rows(subject)` that gives named numbers. Formulas and sources are in its docstring.
"""

from landscape.measures.row import Row, Subject
from landscape.measures.several import measure

__all__ = ["Row", "Subject", "measure"]
