"""The product of a curvature matrix with a vector, over all batches, by the engine that suits."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.aliases import Batch, Matvec, Vector
from landscape.batches import joined, rows_of, split
from landscape.devices import available_bytes, release_cached, timed, wait_for
from landscape.errors import InputError, illegal
from landscape.precision import full_precision, reduced_precision
from landscape.products.engines import Compiler, Folded, best_step, differences, fold
from landscape.products.layout import channels_last, channels_last_is_faster
from landscape.products.several import AT_ONCE, Several
from landscape.products.terms import Terms
from landscape.spec import ENGINES

_SHARE = 0.5
"""Of the memory available at the first product, engines that keep things keep no more than this."""

_RECORDING = ("auto", "folded", "compiled")

_QUICK, _FORWARD_RULES = 0.02, "torch._decomp.decompositions_for_jvp"
"""Below so many seconds a product, loading torch's rules for forward mode costs more than they save: a second."""

_AT_ONCE = ", several vectors at once"

_PATIENCE = {"cuda": 30.0}
_PATIENCE_ELSEWHERE = 600.0
"""Seconds of folded products after which `auto` tries to compile them. Compiling takes up to half a minute on a CPU
and gained a tenth there: the trial must stay small beside what has been done."""

_COMFORT = 1 << 26
"""Small batches are joined until their constants take about so many bytes: fewer, longer steps."""


@dataclass
class Product:
    """v ↦ (1/N) Σ_batches A_b·v at fixed weights; the first calls prepare what the engine keeps.

    terms: the matrix of one batch. passes: gives the batches anew, in a fixed order. engine: `folded` records
    the product once and repeats only what depends on v; `compiled` also compiles that; `retained` keeps
    autograd's graphs; `recompute` keeps nothing; `differences` takes gradients at w ± hv. `auto` folds as many
    batches as memory allows and recomputes the others, or takes differences where a model has no second
    derivative; when products have taken half a minute on a GPU, ten minutes elsewhere, it tries to compile what is
    folded and keeps that where it is faster. divisible: whether batches may be joined and split without changing
    the sum.

    The first product of the first batch is by double backward, and checks the recording, which is made at another
    vector: in the second call, so that a single product needs none; or, where the caller wants `many` products and
    there are several batches, in the first. After that `chosen` says what is done. A batch that does not fit into
    the device's memory is halved until it does; `InputError` when one example does not fit.
    """

    terms: Terms
    passes: Callable[[], Iterator[Batch]]
    w: Vector
    size: int
    engine: str = "auto"
    divisible: bool = True
    many: bool = False
    compiler: Compiler = field(default_factory=Compiler)
    chosen: str = ""
    kept_bytes: int = 0
    error: float | None = None
    """Relative error of one batch's product by differences, measured at the first call; None for exact engines."""
    part: tuple[Batch, Matvec] | None = None
    """The first batch that was recorded, and what gives its product (a sum over the batch); None before or without."""
    _ready: list[Matvec] | None = None
    """What is kept for the first batches, in order."""
    _rest: int = 0
    """Batches after those, which are recomputed; they start at the _skip-th of `passes`."""
    _skip: int = 0
    _step: float = 0.0
    _channels_last: bool = False
    _first: tuple[Vector, Vector] | None = None
    """The first vector, and the first batch's product with it."""
    _quick: bool = False
    _seconds: float | None = None
    """What one product takes, once all is prepared."""
    _several: dict[int, Several] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise illegal("engine", self.engine, f"one of {', '.join(ENGINES)}", "See Product's documentation.")

    @full_precision()
    def __call__(self, v: Vector) -> Vector:
        if self._ready is None:
            return self._prepare(v).div_(self.size)
        if self.engine in _RECORDING and self._first is not None:
            return self._record(v).div_(self.size)
        if self.engine == "auto" and self.compiler.pays is None:
            return self._repeat_and_compile(v)
        return self._repeat(v)

    def _repeat_and_compile(self, v: Vector) -> Vector:
        """The product; all folded ones together have taken `compiler.spent` seconds, which decides when to compile."""
        if self._seconds is None:
            self._seconds, image = timed(lambda: self._repeat(v), self.w.device)
        else:
            image = self._repeat(v)
        folded = [part for part in self._ready or () if isinstance(part, Folded)]
        self.compiler.spent += self._seconds if folded else 0.0
        if folded and self.compiler.spent > _PATIENCE.get(self.w.device.type, _PATIENCE_ELSEWHERE):
            self.compiler.try_on(folded[0], v)
            self._compile_if_that_pays(folded, v)
        return image

    def _compile_if_that_pays(self, parts: list[Folded], v: Vector) -> None:
        if self.engine == "auto" and self.compiler.pays:
            self.compiler.use_on(parts, v)
            self.chosen = self.chosen.replace("folded", "compiled")

    def _repeat(self, v: Vector) -> Vector:
        total = torch.zeros_like(self.w)
        for run in self._ready or ():
            total += run(v)
        if self._rest:
            for number, batch in enumerate(self._batches()):
                if number >= self._skip:
                    total += self._plain(batch, v)
        return total.div_(self.size)

    def rough(self, v: Vector) -> Vector:
        """The product in `reduced_precision`; in full as long as the first calls prepare what is kept."""
        if self._ready is None or self._first is not None:
            return self(v)
        with reduced_precision():
            return self._repeat(v)

    @property
    def group(self) -> int:
        """How many vectors it may pay to hand to `rows` at a time: 1 where a product is long."""
        return AT_ONCE if self._quick else 1

    @full_precision()
    def rows(self, vectors: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
        """The product with each row, several at once where that is faster (found out in the first calls)."""
        return torch.cat([self._group(group) for group in vectors.split(AT_ONCE)])

    def _group(self, vectors: Float[Tensor, "p n"]) -> Float[Tensor, "p n"]:
        kept = self._several.get(len(vectors)) or self._begun(len(vectors))
        if kept is None:
            return torch.stack([self(v) for v in vectors])
        images = kept(vectors)
        if kept.at_once and _AT_ONCE not in self.chosen:
            self.chosen += _AT_ONCE
        return images

    def _begun(self, count: int) -> Several | None:
        """Several at once, for products that are folded to the last batch, quick, and small; else None."""
        folded = self.engine in ("auto", "folded") and self._ready and self._first is None and not self._rest
        if count == 1 or not folded or not self._quick:
            return None
        if count * self.kept_bytes > _SHARE * available_bytes(self.w.device):
            return None
        parts = [part for part in self._ready or () if isinstance(part, Folded)]
        self._several[count] = Several(self, parts, 1 / self.size, self.w.device)
        return self._several[count]

    # -- the first calls ---------------------------------------------------------------------------

    def _prepare(self, v: Vector) -> Vector:
        if self.engine == "retained":
            return self._retain(v)
        self._ready, self._rest = [], 1
        self.chosen = "differences" if self.engine == "differences" else "recompute"
        try:
            return self._stream(v)
        except (RuntimeError, NotImplementedError) as reason:
            if self.terms.gradient is None or isinstance(reason, torch.OutOfMemoryError) or self.engine != "auto":
                raise
            self.engine = "differences"
            return self._stream(v)

    def _record(self, v: Vector, at: Vector | None = None) -> Vector:
        """The product with v while recording, the first batch at another vector `at` where v itself is `known`."""
        self._rest, self._skip = 0, 0
        try:
            return self._fold(v, at)
        except (RuntimeError, NotImplementedError) as reason:
            if isinstance(reason, torch.OutOfMemoryError):
                raise
            if self.engine != "auto":
                raise InputError(
                    f"engine = {self.engine} cannot record this model's products ({reason}). "
                    "Use recompute or differences."
                ) from reason
            self.engine, self.chosen = "recompute", "recompute"
            self._ready, self._rest, self._skip, self.kept_bytes, self.part = [], 1, 0, 0, None
            return self._stream(v)
        finally:
            self._first = None

    def _stream(self, v: Vector) -> Vector:
        total = torch.zeros_like(self.w)
        for number, batch in enumerate(self.passes()):
            if self.engine == "differences" and number == 0 and self.terms.gradient is not None:
                self._step, self.error = best_step(self.terms.gradient, self.w, batch, v)
                self.chosen = f"differences (relative error about {self.error:.1g})"
            if number == 1 and self.many and self.engine in _RECORDING:
                return self._record(v, at=v.flip(0))
            begun = time.perf_counter()
            product = self._plain(batch, v)
            if number == 0 and self.engine in _RECORDING:
                self._first = v.clone(), product.clone()
                wait_for(self.w.device)
                self._quick = time.perf_counter() - begun < _QUICK
            total += product
        return total

    def _retain(self, v: Vector) -> Vector:
        total, self._ready = torch.zeros_like(self.w), []
        for batch in self.passes():
            product = self.terms.recordable[-1](self.w, batch)
            self._ready.append(product)
            total += product(v)
        self.chosen = f"retained, {_count(len(self._ready), 'batch', 'batches')}"
        return total

    def _fold(self, v: Vector, at: Vector | None) -> Vector:
        compiler = self.compiler if self.engine == "compiled" else None
        budget = _SHARE * available_bytes(self.w.device)
        total, ready = torch.zeros_like(self.w), []
        for folded, batch, parts in self._recorded(v, at, compiler, budget):
            if folded is None:
                self._rest += parts
                total += self._plain(batch, v)
                continue
            self._skip += parts
            if len(folded) == 1 and self.part is None:
                self.part = batch, folded[0]
            for part in folded:
                total += part.first
                del part.first
                self.kept_bytes += part.bytes
            ready += folded
        self._ready = ready
        kept = f"{'compiled' if compiler else 'folded'}, {_count(len(ready), 'batch', 'batches')}"
        rest = f", {_count(self._rest, 'batch', 'batches')} recomputed" if self._rest else ""
        layout = ", channels last" if self._channels_last else ""
        self.chosen = f"{kept} in {self.kept_bytes / 2**30:.2g} GiB{rest}{layout}"
        self._compile_if_that_pays(ready, v)
        return total

    def _recorded(
        self, v: Vector, at: Vector | None, compiler: Compiler | None, budget: float
    ) -> Iterator[tuple[list[Folded] | None, Batch, int]]:
        """Each batch with its recordings, None when the budget is used up; small batches are joined first."""
        if self.terms.gradient is not None:
            self._channels_last = channels_last_is_faster(self.terms.gradient, self.w, next(self.passes()))
        batches = self._batches()
        first = next(batches)
        if self._quick and _FORWARD_RULES not in sys.modules:
            self.terms = replace(self.terms, recordable=self.terms.recordable[::-1])
        known = self._first  # to be reproduced, against faults of torch's forward-mode rules
        folded = self._folded(first, v if at is None else at, None, known)
        if at is not None and known is not None:
            for part in folded:
                part.first.zero_()
            folded[0].first = known[1]
        largest = sum(f.bytes for f in folded)
        second = next(batches, None)
        rows = int(_COMFORT / max(1, largest) * rows_of(first[1])) if self.divisible else 0
        rest = batches if second is None else chain([second], batches)
        if second is not None and rows >= rows_of(first[1]) + rows_of(second[1]):
            rest, folded = chain([first], rest), None
        else:
            yield folded if compiler is None else self._folded(first, v, compiler, None), first, 1
            rows = 0
        for batch, parts in joined(rest, rows):
            if self.kept_bytes + largest > budget:
                yield None, batch, parts
            else:
                folded = self._folded(batch, v, compiler, None)
                largest = max(largest, sum(f.bytes for f in folded))
                yield folded, batch, parts

    def _folded(
        self, batch: Batch, v: Vector, compiler: Compiler | None, known: tuple[Vector, Vector] | None
    ) -> list[Folded]:
        try:
            return [fold(self.terms, self.w, batch, v, compiler, known)]
        except torch.OutOfMemoryError:
            return [f for half in self._halves(batch) for f in self._folded(half, v, compiler, None)]

    def _batches(self) -> Iterator[Batch]:
        return map(channels_last, self.passes()) if self._channels_last else self.passes()

    # -- one batch ---------------------------------------------------------------------------------

    def _plain(self, batch: Batch, v: Vector) -> Vector:
        """The product of one batch with nothing kept, in halves where it does not fit into memory."""
        try:
            if self.engine == "differences":
                if self.terms.gradient is None:
                    raise InputError("engine = differences needs a matrix that is the derivative of a gradient.")
                return differences(self.terms.gradient, self.w, batch, self._step)(v)
            return self.terms.plain(self.w, batch)(v)
        except torch.OutOfMemoryError:
            halves = self._halves(batch)
        return sum((self._plain(half, v) for half in halves), torch.zeros_like(self.w))

    def _halves(self, batch: Batch) -> list[Batch]:
        rows = rows_of(batch[1])
        if rows < 2 or not self.divisible:
            what = "one example" if rows < 2 else "one batch, which batch_norm = batch does not allow to be split,"
            raise InputError(f"the Hessian product of {what} does not fit into the memory of {self.w.device}.")
        release_cached(self.w.device)
        return list(split(batch, (rows + 1) // 2))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
