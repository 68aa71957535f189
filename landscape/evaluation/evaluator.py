"""Mean loss, accuracy and metrics of a problem at many points of one slice of parameter space.

The evaluation of a part of the data is recorded once, batch norm is folded, layers on the data are formed once, and
at each point only what depends on it is repeated. Nothing is kept per point, and no model is copied.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from landscape.aliases import Batch, Vector
from landscape.batches import first_rows, joined, rows_of, split
from landscape.devices import available_bytes
from landscape.evaluation.batching import batching_alone
from landscape.evaluation.first_layer import OnData
from landscape.evaluation.folding import fold_batch_norm
from landscape.evaluation.on_cpu import faster_on_cpu
from landscape.evaluation.stages import Stages, largest_outputs, staged
from landscape.kernels import twice_differentiable
from landscape.problem import Buffers, Metric, Problem
from landscape.products.engines import FAILURES
from landscape.products.layout import channels_last, is_image
from landscape.products.simplify import simplify
from landscape.products.tape import Recorder, RecordingError, Tape

_CACHE = {"cuda": 1 << 28}
_CACHE_ELSEWHERE = 1 << 21
"""Parts of the data are as large as makes the largest activation so many bytes: what a core's cache holds."""

_TOGETHER, _MOST = 1 << 26, 256
"""On a GPU, so many points at once as make the largest activation so many bytes, and no more than so many points."""

_SHARE = 0.25
"""Of the memory available, arrays that are formed once take no more than this."""


@dataclass
class Evaluator:
    """(w, c, buffers) ↦ [mean loss, accuracy, metrics …] at w = Σ_k c_k·d_k; every point on the same data.

    basis: the d_k, the origin among them with coefficient 1; c: K numbers. varying: whether the buffers that are given
    change from point to point; otherwise those of the first point are meant for all. half: in bfloat16, but for
    norms and the loss. at_once: how many points `several` evaluates as one batched program; 0 chooses: one on a CPU
    and for networks with convolutions (slow with weights that differ), otherwise as many as fill a GPU. Sizes alone
    decide, so that a scan taken up again has the same bits.

    The first point is evaluated by the model itself too, and so is every point whose result is not finite; where the
    recording does not reproduce it, the model is run at every point. `how` says what is done.
    """

    problem: Problem
    basis: Sequence[Vector]
    metrics: Sequence[Metric] = ()
    varying: bool = False
    half: bool = False
    at_once: int = 1
    how: str = ""
    together: int = field(default=1, init=False)
    """Points that `several` takes at once, known after the first."""
    _parts: list[tuple[Stages, tuple[Any, ...]]] | None = field(default=None, init=False)
    """Of each part of the data the stages, shared by parts of one shape, and what they keep of it."""
    _eager: bool = field(default=False, init=False)
    _coordinates: list[float] = field(default_factory=list, init=False)
    _seen: Vector | None = field(default=None, init=False)
    """The vector of the last point: where only views of it are needed, they show what it holds now."""
    _given: dict[Stages, tuple[Any, ...]] = field(default_factory=dict, init=False)
    _together: int = field(default=1, init=False)

    def __call__(self, w: Vector, coordinates: Sequence[float], buffers: Buffers) -> list[float]:
        if self._eager:
            return self.by_model(w, buffers)
        if self._parts is None:
            return self._first(w, coordinates, buffers)
        found = self._recorded(w, coordinates, buffers)
        return found if math.isfinite(found[0]) else self.by_model(w, buffers)

    def several(
        self, points: Sequence[Vector], coordinates: Sequence[Sequence[float]], buffers: Sequence[Buffers]
    ) -> list[list[float]]:
        """The same at several points."""
        if self.together == 1:
            return [self(*one) for one in zip(points, coordinates, buffers, strict=True)]
        found = self._batched(torch.stack(list(points)), coordinates, buffers)
        return [
            row if math.isfinite(row[0]) else self.by_model(w, own)
            for row, w, own in zip(found, points, buffers, strict=True)
        ]

    @property
    def alone(self) -> bool:
        """Whether it takes one point at a time in any case."""
        return self.at_once == 1 or (self.at_once == 0 and self.problem.weights.device.type != "cuda")

    def by_model(self, w: Vector, buffers: Buffers) -> list[float]:
        """The same by running the model on each batch, in full precision."""
        return self.problem.means(w, buffers, self.metrics)

    def _first(self, w: Vector, coordinates: Sequence[float], buffers: Buffers) -> list[float]:
        expected = self.by_model(w, buffers)
        try:
            self._prepare(w, buffers)
            found = self._recorded(w, coordinates, buffers)
            few = 2 / self.problem.size  # examples whose two largest outputs are one up to rounding
            slack = [0.0, *[few] * (len(found) - 1)]

            def check(found: list[float]) -> None:
                agree = all(_agree(*each, w.dtype) for each in zip(found, expected, slack, strict=True))
                if not self.half and not agree:
                    raise RecordingError(f"it gives {found[0]:.8g} where the model gives a loss of {expected[0]:.8g}")

            check(found)
        except FAILURES as reason:
            self._eager, self._parts = True, None
            self.how = (
                f"model run at each point ({str(reason).splitlines()[0][:100] if str(reason) else 'no recording'})"
            )
            return expected
        self._try_together(w, coordinates, buffers, check)
        return found

    def _try_together(
        self, w: Vector, coordinates: Sequence[float], buffers: Buffers, check: Callable[[list[float]], None]
    ) -> None:
        if self.alone or self._together < 2:
            return
        try:
            for row in self._batched(w.expand(2, -1).clone(), [coordinates] * 2, [buffers] * 2):
                check(row)
        except FAILURES as reason:
            self.how += f", one point at a time ({str(reason).splitlines()[0][:100]})"
            return
        self.together = self._together
        self.how += f", {self.together} points at once"

    def _batched(
        self, points: Float[Tensor, "k n"], coordinates: Sequence[Sequence[float]], buffers: Sequence[Buffers]
    ) -> list[list[float]]:
        def one(w: Vector, c: Tensor, *flat: Tensor) -> Tensor:
            given = {stages: stages.point(w, c, *flat) for stages, _ in self._parts or []}
            return torch.stack([stages.body(*given[stages], *kept) for stages, kept in self._parts or []]).sum(0)

        flat = [torch.stack([self._flat(each, points) for each in buffers])] if self.varying else []
        with torch.no_grad(), batching_alone():
            total = torch.func.vmap(one)(points, points.new_tensor(coordinates), *flat)
        return (total / self.problem.size).tolist()

    def _recorded(self, w: Vector, coordinates: Sequence[float], buffers: Buffers) -> list[float]:
        self._coordinates[:] = coordinates
        flat = [self._flat(buffers, w)] if self.varying else []
        given: dict[Stages, tuple[Any, ...]] = {}
        found: list[Tensor | list[float]] = []
        with torch.inference_mode():
            for stages, kept in self._parts or []:
                if stages not in given:
                    seen = stages.views and not flat and self._seen is w
                    given[stages] = self._given[stages] if seen else stages.point(w, self._coordinates, *flat)
                found.append(stages.body(*given[stages], *kept))
        self._seen, self._given = w, given
        return [one / self.problem.size for one in _sum(found)]

    # -- preparation -------------------------------------------------------------------------------

    def _prepare(self, w: Vector, buffers: Buffers) -> None:
        with torch.no_grad(), twice_differentiable(self.problem.model):
            one = first_rows(next(self.problem.parts(w)), 32)
            tape = self._record(w, buffers, one)
            largest = largest_outputs(tape, self._points, rows_of(one[1]))
            rows = max(1, _CACHE.get(w.device.type, _CACHE_ELSEWHERE) // largest)
            self._together = self.at_once or self._worth(tape, largest * min(rows, self.problem.rows), w)
            last = (w.device.type == "cpu" or self.half) and any(is_image(x) for x in tree_flatten(one[0])[0])
            limit = _SHARE * available_bytes(w.device) * min(rows, self.problem.rows) / self.problem.rows
            kinds: dict[Any, Stages] = {}
            self._parts = []
            for batch in self._batches(w, rows):
                batch = channels_last(batch) if last else batch
                leaves = self._leaves(batch)
                kind = tuple((x.shape, x.stride(), x.dtype) for x in leaves)
                if kind not in kinds:
                    kinds[kind] = self._stages(w, buffers, batch, limit)
                self._parts.append((kinds[kind], kinds[kind].data(*leaves)))
        layout = ", channels last" if last else ""
        self.how = f"recorded, {len(self._parts)} parts of up to {rows} examples{layout}{', bfloat16' * self.half}"

    def _worth(self, tape: Tape, largest: int, w: Vector) -> int:
        """How many points fill a GPU; largest: bytes of the largest activation of one."""
        if any(step.function is torch.ops.aten.convolution.default for step in tape.steps):
            return 1
        return max(1, min(_MOST, _TOGETHER // max(largest, w.nbytes)))

    @property
    def _points(self) -> int:
        return 3 if self.varying else 2

    def _batches(self, w: Vector, rows: int) -> Iterator[Batch]:
        if self.problem.batch_norm == "batch":
            yield from self.problem.parts(w)
            return
        for batch, _ in joined(self.problem.parts(w), rows):
            yield from split(batch, rows)

    def _stages(self, w: Vector, buffers: Buffers, batch: Batch, limit: float) -> Stages:
        tape = fold_batch_norm(self._record(w, buffers, batch))
        on_data = OnData(tape, self._points, tape.arguments[0])
        tape = on_data.formed_once(tape.arguments[1], self.basis, limit)
        return staged(faster_on_cpu(tape) if w.device.type == "cpu" and self.alone else tape, self._points)

    def _record(self, w: Vector, buffers: Buffers, batch: Batch) -> Tape:
        leaves, form = tree_flatten(batch)
        tensors = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        w, coordinates = w.clone(), w.new_zeros(len(self.basis))  # the latter stands for the numbers c
        flat = [self._flat(buffers, w)] if self.varying else []
        data = [x.clone(memory_format=torch.preserve_format) for x in self._leaves(batch)]
        with Recorder(w, coordinates, *flat, *data) as recorder:
            named = self._split(flat[0], buffers) if flat else dict(buffers)
            parameters = self._lowered({**self.problem.named(w)}) | named
            for i, x in zip(tensors, data, strict=True):
                leaves[i] = x
            total = self.problem.totals(parameters, tree_unflatten(leaves, form), self.metrics)
        return simplify(recorder.tape(total))

    def _leaves(self, batch: Batch) -> list[Tensor]:
        def lowered(x: Any) -> Any:
            return x.bfloat16() if self.half and isinstance(x, Tensor) and x.is_floating_point() else x

        inputs = tree_map(lowered, batch[0])
        return [x for x in tree_flatten((inputs, batch[1]))[0] if isinstance(x, Tensor)]

    def _lowered(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.half:
            return parameters
        norms = self.problem.norm_parameters()
        return {name: p if name in norms else p.bfloat16() for name, p in parameters.items()}

    def _flat(self, buffers: Buffers, like: Tensor) -> Vector:
        return torch.cat([b.reshape(-1).to(like.dtype) for b in buffers.values()])

    def _split(self, flat: Tensor, buffers: Buffers) -> dict[str, Tensor]:
        pieces = flat.split([b.numel() for b in buffers.values()])
        return {k: piece.view(b.shape) for (k, b), piece in zip(buffers.items(), pieces, strict=True)}


def _sum(rows: Sequence[Tensor | list[float]]) -> list[float]:
    """Rows of numbers added up, on their device if they are tensors."""
    tensors = [row for row in rows if isinstance(row, Tensor)]
    if len(tensors) == len(rows):
        return (tensors[0] if len(rows) == 1 else torch.stack(tensors).sum(0)).tolist()
    lists = [row.tolist() if isinstance(row, Tensor) else row for row in rows]
    return [sum(column) for column in zip(*lists, strict=True)]


def _agree(a: float, b: float, slack: float, dtype: torch.dtype) -> bool:
    """Whether two means agree up to rounding and some slack, or are both not finite."""
    if a != a or b != b or abs(a) == float("inf"):
        return (a != a) == (b != b)
    return abs(a - b) <= slack + (1e-4 if dtype.itemsize < 8 else 1e-9) * max(abs(b), 1e-6)
