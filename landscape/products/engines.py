"""Ways to have the product of one batch: recorded and folded, compiled, kept as a graph, or by differences."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from landscape.aliases import Batch, Matvec, Vector
from landscape.devices import timed
from landscape.products.code import constant_bytes, function, graph
from landscape.products.simplify import fuse, simplify
from landscape.products.tape import RecordingError, Tape, record
from landscape.products.terms import AtBatch, Terms

Gradient = Callable[[Vector, Batch], Vector]

_STEPS = 8

_TRIALS, _WORTH = 3, 0.95
"""A compiled product is kept when the fastest of so many runs takes at most this share of the folded one's."""

FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError)
"""What torch raises where a transform does not support a model's operations."""


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two products agree up to the rounding of their type (or both are not finite)."""
    tolerance = 2e-3 if a.dtype.itemsize < 8 else 1e-8
    distance, size = torch.linalg.vector_norm(a - b).item(), torch.linalg.vector_norm(b).item()
    return distance <= tolerance * size or not math.isfinite(size)


@contextmanager
def _torch_may_deprecate_itself() -> Iterator[None]:
    """torch loads its forward-mode rules and its compiler on first use, and both warn of its own older parts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        yield


class Folded:
    """The recorded product of one batch, as a `tape` too; `first` is its value at the vector it was recorded with.

    known: another vector and the product there, which the recording has to reproduce; `RecordingError` if not.
    """

    def __init__(
        self, at_batch: AtBatch, w: Vector, batch: Batch, v: Vector,
        compiler: "Compiler | None" = None, known: tuple[Vector, Vector] | None = None,
    ):  # fmt: skip
        with _torch_may_deprecate_itself():
            tape, first = record(at_batch(w, batch), v)
        self.tape = tape = simplify(tape)
        self.first = first
        self.run: Matvec = compiler(tape) if compiler else checked(tape, *(known or (v, first)))
        self.bytes = constant_bytes(tape)

    def __call__(self, v: Vector) -> Vector:
        return self.run(v)


def checked(tape: Tape, v: Tensor, expected: Tensor) -> Callable[[Tensor], Tensor]:
    """A tape recorded at v (a vector, or rows of them) as a function.

    It is the fused tape, or the plain one where fusing has changed a layout that a later step relies on.
    """
    try:
        fused = function(fuse(tape))
        if same(fused(v), expected):
            return fused
    except FAILURES:
        pass
    plain = function(tape)
    if not same(plain(v), expected):
        raise RecordingError("the recording differs from double backward")
    return plain


class Compiler:
    """Compiles tapes with torch's compiler, once for all tapes that differ only in their constants.

    spent: seconds that folded products have taken which could have been compiled. pays: whether compiled ones were
    found to be faster; None before the trial.
    """

    def __init__(self) -> None:
        self._made: dict[str, Callable[..., Tensor]] = {}
        self.spent = 0.0
        self.pays: bool | None = None

    def __call__(self, tape: Tape) -> Matvec:
        module, constants = graph(tape)
        shapes = [(tuple(c.shape), c.stride(), c.dtype, c.device) for c in constants]
        key = f"{module.code}{tape.argument.shape}{shapes}"
        if key not in self._made:
            self._made[key] = torch.compile(module, fullgraph=True, dynamic=False)
        compiled = self._made[key]

        def run(v: Vector) -> Vector:
            with torch.no_grad(), _torch_may_deprecate_itself():
                return compiled(v, *constants)

        return run

    def try_on(self, part: "Folded", v: Vector) -> None:
        """Find out whether it pays: the part compiled gives the same in at most `_WORTH` of its time."""
        self.pays = self._faster(part, v)

    def use_on(self, parts: "Sequence[Folded]", v: Vector) -> None:
        """Compile the parts; one that does not compile, for it has another shape, stays as it is."""
        for part in parts:
            with suppress(*FAILURES, OSError):
                compiled = self(part.tape)
                if same(compiled(v), part.run(v)):
                    part.run = compiled

    def _faster(self, part: "Folded", v: Vector) -> bool:
        try:
            compiled = self(part.tape)
            if not same(compiled(v), part.run(v)):
                return False
            rivals = compiled, part.run
            seconds = [[timed(partial(run, v), v.device)[0] for run in rivals] for _ in range(_TRIALS)]
        except (*FAILURES, OSError):
            return False
        ours, theirs = map(min, zip(*seconds, strict=True))
        return ours <= _WORTH * theirs


def differences(gradient: Gradient, w: Vector, batch: Batch, step: float) -> Matvec:
    """Central differences of the gradient along v: (∇f(w + hv) − ∇f(w − hv)) / 2h with h‖v‖ = step.

    Source: Nocedal & Wright 2006, section 8.1.
    """

    def product(v: Vector) -> Vector:
        length = torch.linalg.vector_norm(v)
        h = step / torch.where(length > 0, length, torch.ones_like(length))
        return (gradient(w + h * v, batch) - gradient(w - h * v, batch)) / (2 * h)

    return product


def best_step(gradient: Gradient, w: Vector, batch: Batch, v: Vector) -> tuple[float, float]:
    """(step, relative error of `differences` along v) where two neighbouring steps agree best.

    Steps run down from ε^{1/3}(1 + ‖w‖), the balance of truncation and rounding for a smooth function, by
    factors of 4: a network with ReLUs has kinks, whose jumps only a shorter step keeps out.
    """
    longest = torch.finfo(w.dtype).eps ** (1 / 3) * (1 + torch.linalg.vector_norm(w).item())
    steps = [longest * 4.0**-k for k in range(_STEPS)]
    found = [differences(gradient, w, batch, step)(v) for step in steps]
    apart = [torch.linalg.vector_norm(a - b).item() for a, b in pairwise(found)]
    best = min(range(len(apart)), key=lambda k: apart[k] if math.isfinite(apart[k]) else math.inf)
    size = torch.linalg.vector_norm(found[best]).item()
    return steps[best], apart[best] / size if size else 0.0


def fold(
    terms: Terms, w: Vector, batch: Batch, v: Vector, compiler: Compiler | None, known: tuple[Vector, Vector] | None
) -> Folded:
    """The first of the recordable ways that can be recorded and reproduces what is `known` (see `Folded`)."""
    reasons: list[Any] = []
    for at_batch in terms.recordable:
        try:
            return Folded(at_batch, w, batch, v, compiler, known)
        except FAILURES as reason:
            if _out_of_memory(reason):
                raise
            reasons.append(reason)
    raise RecordingError("; ".join(str(r).split("\n")[0] for r in reasons))


def _out_of_memory(reason: BaseException) -> bool:
    return isinstance(reason, torch.OutOfMemoryError) or "can't allocate memory" in str(reason)
