"""What can be asked about the loss along lines, over planes and in boxes of up to three axes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from landscape.errors import illegal
from landscape.fields import SPECS, Spec, option

_MOVES = ("recomputed", "interpolated", "running", "batch")


@dataclass(frozen=True)
class GridSpec(Spec):
    """What is measured at each point of a grid, whatever its axes."""

    batch_norm: str = option("recomputed", "batch-norm statistics at each point", choices=_MOVES)
    recompute_examples: int | None = option(None, "training examples for recomputed statistics; default all", minimum=2)
    curvature: str = option("none", "largest, or largest and smallest, eigenvalue of the Hessian at each point",
                            choices=("none", "largest", "both"))  # fmt: skip
    curvature_tolerance: float = option(0.01, "curvature: stop when ‖Hv − λv‖ ≤ tolerance·max|λ|", above=0, below=1)
    adaptive: float | None = option(None, "evaluate a coarse grid, refine where interpolation errs, and interpolate "
                                    "the rest to this share of the range of the losses", above=0, below=1)  # fmt: skip
    half: bool = option(False, "evaluate in bfloat16, its error checked against full precision on a sample of points")
    at_once: int = option(0, "points evaluated together as one batched program; default several for small networks on "
                          "a GPU, otherwise one", minimum=0)  # fmt: skip


@dataclass(frozen=True)
class LineSpec(GridSpec):
    """The loss along a line f((1−α)·w₀ + α·w₁), Keskar's sin/cos arc, or a polyline through any number."""

    start: float | None = option(None, "first α; α = 0 is the first checkpoint; default −1, of a polyline 0")
    stop: float | None = option(None, "last α; α = k is the k-th checkpoint after the first; default 2, of a polyline "
                                "the last checkpoint")  # fmt: skip
    points: int = option(25, "number of points", minimum=2)
    path: str = option("line", "straight line, arc f(sin(απ/2)·w₁ + cos(απ/2)·w₀), or polyline",
                       choices=("line", "arc", "polyline"))  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = (default if given is None else given for given, default in ((self.start, -1.0), (self.stop, 2.0)))
        unknown = self.path == "polyline" and None in (self.start, self.stop)
        if not high > low and not unknown:
            raise illegal("stop", high, f"above start = {low:g}", "Swap the two, or widen the range.")

    def ends(self, checkpoints: int) -> tuple[float, float]:
        """First and last α for so many checkpoints."""
        first, last = (0.0, checkpoints - 1.0) if self.path == "polyline" else (-1.0, 2.0)
        return first if self.start is None else self.start, last if self.stop is None else self.stop


@dataclass(frozen=True)
class PlaneSpec(GridSpec):
    """The loss on the plane through three checkpoints, on orthonormal axes centred on the first."""

    x_points: int = option(31, "points along the first axis (first to second checkpoint)", minimum=2)
    y_points: int = option(31, "points along the second axis", minimum=2)
    margin: float = option(0.35, "room around the three minima, in fractions of their extent", minimum=0)


@dataclass(frozen=True)
class AxesSpec(GridSpec):
    """The loss around one checkpoint along one to three axes: random directions, eigenvectors, components, others."""

    axes: tuple[str, ...] = option(("random", "random"), "direction of an axis: random, eigenvector:K (K-th of the "
                                   "Hessian), component:K (K-th principal component of the trajectory) or "
                                   "to:CHECKPOINT; one to three, repeat", flag="--axis")  # fmt: skip
    points: tuple[int, ...] = option((31,), "points along each axis, or one number for all; repeat", minimum=2)
    radius: tuple[float, ...] = option((), "each axis covers [−radius, radius], or one number for all; default 1 "
                                       "(random, eigenvector), and what holds the trajectory or the other checkpoint; "
                                       "repeat", above=0)  # fmt: skip
    margin: float = option(0.2, "room around a trajectory or another checkpoint, in fractions of the extent", minimum=0)
    normalisation: str = option("filter", "rescaling of random directions to the weights",
                                choices=("filter", "layer", "weight", "none"))  # fmt: skip
    biases: str = option("zero", "random directions in biases: zero, or drawn and rescaled", choices=("zero", "random"))
    norms: str = option("zero", "random directions in parameters of normalisation layers: zero, or drawn and rescaled",
                        choices=("zero", "random"))  # fmt: skip
    orthogonal: bool = option(False, "make the axes orthogonal after rescaling, keeping their lengths")
    batch_norm: str = option("running", "batch-norm statistics at each point", choices=_MOVES)
    seed: int = option(0, "seed of random directions", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.axes) > 3:
            raise illegal("axes", list(self.axes), "one to three axes", "Leave some out.")
        for name in ("points", "radius"):
            count = len(getattr(self, name))
            if count not in (0, 1, len(self.axes)):
                legal = f"one number, or one for each of {len(self.axes)} axes"
                raise illegal(name, list(getattr(self, name)), legal, "Give as many.")
        for axis in self.axes:
            kind, _, number = axis.partition(":")
            counted = kind in ("eigenvector", "component") and number.isdecimal() and int(number) >= 1
            if not (axis == "random" or counted or (kind == "to" and number)):
                legal = "random, eigenvector:K, component:K with K = 1, 2, … or to:CHECKPOINT"
                raise illegal("axes", axis, legal, "For example --axis random --axis eigenvector:1.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AxesSpec":
        """Also reads records of version 0.2, which knew random planes alone."""
        if "x_points" in values:
            values = dict(values)
            points, radius = (values.pop("x_points"), values.pop("y_points")), (values.pop("radius"),)
            if values.get("normalisation") == "none":
                values |= {"biases": "random", "norms": "random"}
            values |= {"points": points, "radius": radius}
        return super().from_dict(values)

    def numbers(self, kind: str) -> list[int]:
        """K of the axes called kind:K, such as the eigenvectors that are wanted."""
        return [int(which) for name, _, which in (axis.partition(":") for axis in self.axes) if name == kind]

    def others(self) -> list[str]:
        """The checkpoints of the axes to:CHECKPOINT."""
        return [which for name, _, which in (axis.partition(":") for axis in self.axes) if name == "to"]

    def per_axis(self, name: str) -> tuple[Any, ...]:
        """`points` or `radius` for each axis; None where no radius was given."""
        given = getattr(self, name)
        return given if len(given) == len(self.axes) else (given or (None,)) * len(self.axes)


SPECS["RandomPlaneSpec"] = AxesSpec
