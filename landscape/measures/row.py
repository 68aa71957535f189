"""What a measure is asked about, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from landscape.aliases import Vector
from landscape.problem import Problem
from landscape.spec import MeasuresSpec, SharpnessSpec

Watch = Callable[[str], object]

RESCALINGS = ("relu-layer", "relu", "batch-norm")
"""Rescalings that leave a network the same function, besides permutations of its units: of all units of a layer by
one factor, of each unit by its own (which the first is a case of), and of the input of a batch norm."""


@dataclass(frozen=True)
class Row:
    """One number about a minimum.

    name: the measure with its parameters. error: one standard error, or the deviation over trials; NaN where there
    is none. certificate: what is needed to judge the number, as JSON-able values; the measure's file says what.
    invariant: the kinds of `RESCALINGS` under which the number is the same by its definition.
    """

    name: str
    value: float
    error: float = float("nan")
    certificate: Mapping[str, Any] = field(default_factory=dict)
    invariant: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A problem at weights w (n,) with finite loss f(w); initial: w₀ where it is known.

    watch(what) is called before each longer piece of work.
    """

    problem: Problem
    w: Vector
    loss: float
    accuracy: float
    spec: MeasuresSpec
    keskar: SharpnessSpec
    initial: Vector | None = None
    watch: Watch = lambda what: None
