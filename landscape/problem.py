"""A training problem as a function of one flat parameter vector: value, gradient, Hessian product.

f(w) = (1/N) Σ_i loss(model(x_i; w), y_i). Batches are summed, and N divides once at the end, so that a
short last batch counts for what it is.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from landscape.aliases import Batch, Vector
from landscape.batch_norms import batch_norms, normalise_by_batch, recomputed, with_statistics
from landscape.batches import as_pair, chosen_rows, count_twice, first_rows, joined, rows_of, split
from landscape.curvature import OUTPUT_BYTES, Drawn, Term, drawn_targets, operator_term
from landscape.devices import device_name
from landscape.errors import InputError, illegal
from landscape.kernels import Watched, differentiate_padding, switched_off, twice_differentiable
from landscape.losses import prediction, sums_over_batch, takes_one_tensor
from landscape.parameter_names import chosen_names, norm_parameters, tied_names
from landscape.precision import full_precision
from landscape.products.engines import Compiler
from landscape.products.product import Product
from landscape.products.terms import Terms, derivative, hessian_terms
from landscape.spec import ENGINES

Buffers = Mapping[str, Tensor]
Metric = Callable[[Any, Any], Tensor]
"""(outputs, targets) ↦ its sum over the batch, a scalar."""
_PROBE_ROWS = 16


class Evaluation(NamedTuple):
    """Mean loss and accuracy (a fraction; NaN where the loss has no notion of a hit)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Problem:
    """A model, a loss that SUMS over its batch, and batches in a fixed order.

    batches: a list of (inputs, targets), or anything that can be iterated again and again with equal data
    (a `DataLoader` with `shuffle=False`). Inputs are a tensor, a tuple (positional arguments) or a dict
    (keyword arguments). A batch may also be one dict with `labels`, as Hugging Face's collators give: the
    rest are keyword arguments, and labels of padded tokens do not count. Losses of `landscape.losses` and of
    `torch.nn` get the tensor that `losses.prediction` finds in what the model returns, any other loss what
    it returns. batch_norm: "running" uses the stored statistics (eval mode), "batch" those of each batch.
    engine: how products are taken (`products.product.Product`).
    The model is copied: the caller's model, mode, buffers and gradients are never touched.
    Frozen parameters (`requires_grad=False`) stay fixed; tied ones count once.

    Raises `InputError` when two passes over the batches differ, when two evaluations of the same batch
    differ (dropout that eval mode does not switch off), or when the loss averages instead of summing.

    >>> model, loss = nn.Linear(2, 1, bias=False), nn.MSELoss(reduction="sum")
    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]), torch.zeros(4, 1)
    >>> problem = Problem(model, loss, [(x[:3], y[:3]), (x[3:], y[3:])])
    >>> problem.hessian(problem.weights)(torch.tensor([1.0, 1.0]))  # (2/N)·xᵀx·v
    tensor([0.5000, 2.0000])
    """

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    batches: Iterable[Any]
    batch_norm: str = "running"
    engine: str = "auto"
    size: int = field(init=False)
    rows: int = field(init=False)
    weights: Vector = field(init=False, repr=False)
    _shapes: dict[str, torch.Size] = field(init=False, repr=False)
    _tied: dict[str, str] = field(init=False, repr=False)
    _output_bytes: int = field(init=False, repr=False)
    _kernels: str = field(init=False, repr=False)
    _compiler: Compiler = field(init=False, repr=False, default_factory=Compiler)

    def __post_init__(self) -> None:
        if self.batch_norm not in ("running", "batch"):
            raise illegal("batch_norm", self.batch_norm, "running or batch", "See Problem's documentation.")
        if self.engine not in ENGINES:
            raise illegal("engine", self.engine, f"one of {', '.join(ENGINES)}", "See Problem's documentation.")
        model = copy.deepcopy(self.model).eval().requires_grad_(False)
        free = {k: p for k, p in self.model.named_parameters() if p.requires_grad}
        if not free:
            raise InputError("the model has no trainable parameters. Call requires_grad_(True) on those to analyse.")
        kinds = {(p.dtype, p.device) for p in free.values()}
        if len(kinds) > 1:
            raise InputError(f"the model's parameters differ in dtype or device ({kinds}). Convert the model to one.")
        if self.batch_norm == "batch":
            normalise_by_batch(model)
        differentiate_padding(model)
        if getattr(getattr(model, "config", None), "use_cache", False):
            model.config.use_cache = False  # type: ignore[union-attr]  # keys and values for generation: memory only
        weights = torch.cat([p.detach().reshape(-1) for p in free.values()]).clone()
        self._set(model=model, weights=weights, _shapes={k: p.shape for k, p in free.items()})
        self._set(_tied=tied_names(model))
        size, rows = count_twice(self.batches, self._terms, self._pair)
        self._set(size=size, rows=rows)
        self._probe_evaluation()

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # -- the functions of w ------------------------------------------------------------------------

    def value(self, w: Vector, buffers: Buffers | None = None) -> float:
        """f(w), the mean loss; `buffers` replaces buffers of the model by name (see `recomputed_buffers`)."""
        return self.evaluate(w, buffers).loss

    @full_precision()
    def evaluate(self, w: Vector, buffers: Buffers | None = None) -> Evaluation:
        """f(w) and the accuracy in one pass over the data."""
        return Evaluation(*self.means(w, buffers))

    def means(self, w: Vector, buffers: Buffers | None = None, metrics: Sequence[Metric] = ()) -> list[float]:
        """f(w), the accuracy (NaN where the loss has no hits) and the mean of each metric, in one pass."""
        total = torch.zeros(2 + len(metrics), dtype=torch.float64, device=w.device)
        parameters = {**self.named(w), **(buffers or {})}
        with torch.no_grad(), twice_differentiable(self.model):
            for batch in self.parts(w):
                total += self.totals(parameters, batch, metrics)
        return total.div_(self.size).tolist()

    def totals(self, parameters: Mapping[str, Tensor], batch: Batch, metrics: Sequence[Metric] = ()) -> Tensor:
        """Loss, hits (NaN without) and metrics summed over one batch: (2 + metrics,) in float64.

        parameters: parameters and buffers by name, in place of the model's. Outputs of a lower precision are taken
        to float32 before the loss.
        """
        inputs, targets = batch
        outputs = tree_map(_at_least_single, self._outputs(parameters, inputs))
        hits_of = getattr(self.loss, "hits", None)
        loss = self.loss(outputs, targets)
        hits = loss.new_full((), float("nan")) if hits_of is None else hits_of(outputs, targets)
        found = [loss, hits, *(metric(outputs, targets) for metric in metrics)]
        return torch.stack([one.to(torch.float64) for one in found])

    def gradient(self, w: Vector) -> Vector:
        """∇f(w), of the length of w."""
        return self.value_and_gradient(w)[1]

    @full_precision()
    def value_and_gradient(self, w: Vector) -> tuple[float, Vector]:
        """f(w) and ∇f(w) in one pass over the data."""
        total = torch.zeros((), dtype=torch.float64, device=w.device)
        gradient = torch.zeros_like(w)
        for loss, leaf in self._batch_losses(w):
            gradient += torch.autograd.grad(loss, leaf, materialize_grads=True)[0]
            total += loss.detach()
        return (total / self.size).item(), gradient.div_(self.size)

    def hessian(self, w: Vector, many: bool = False) -> Product:
        """v ↦ ∇²f(w)·v, exact, by the problem's `engine`; what that keeps is prepared by the first products.

        Call it again at other weights for a new product; compiled code is shared between them. many: whether more
        than one product is wanted for sure, so that recording starts at once (the outcome is the same).
        """
        divisible = self.batch_norm == "running"
        norms = bool(batch_norms(self.model)) or any(isinstance(m, nn.LayerNorm) for m in self.model.modules())
        terms = hessian_terms(self._total, norms)
        return Product(terms, lambda: self.parts(w), w, self.size, self.engine, divisible, many, self._compiler)

    def ggn(self, w: Vector) -> Product:
        """v ↦ G v, the generalised Gauss-Newton matrix of f at w (see `landscape.curvature`)."""
        return self.operator("ggn", w)

    def fisher(self, w: Vector, kind: str = "empirical", seed: int = 0) -> Product:
        """v ↦ F v, `empirical` with the data's targets or `sampled` with targets drawn once from the model."""
        return self.operator(f"fisher-{kind}", w, seed)

    def operator(self, name: str, w: Vector, seed: int = 0, many: bool = False) -> Product:
        """v ↦ A v for the operator called `name`: hessian, ggn, fisher-empirical or fisher-sampled.

        seed: of the targets that `fisher-sampled` draws, the same at every product; many: as in `hessian`. All are
        means over the N terms of the loss, and one product is one pass over the data.
        """
        if name == "hessian":
            return self.hessian(w, many)
        term, parts = self.terms(name, w, seed)

        def at_batch(w: Vector, part: Batch) -> Callable[[Vector], Vector]:
            def product(v: Vector) -> Vector:
                with twice_differentiable(self.model):
                    return term(w, part, v)

            return product

        large = self._output_bytes * self.rows > OUTPUT_BYTES  # what a recording keeps are such outputs
        engine = "recompute" if large and self.engine == "auto" else self.engine
        terms = Terms(at_batch, (at_batch,))
        return Product(terms, parts, w, self.size, engine, self.batch_norm == "running", many, self._compiler)

    def summed_loss(self, w: Vector, batch: Batch) -> Tensor:
        """The loss summed over one batch of `passes`: a pure function of tensors, for `torch.func`."""
        return self._total(w, batch)

    def _total(self, w: Vector, batch: Batch) -> Tensor:
        with twice_differentiable(self.model):
            return self.loss(self._outputs(self.named(w), batch[0]), batch[1])

    def terms(self, name: str, w: Vector, seed: int = 0) -> tuple[Term, Callable[[], Iterator[Batch]]]:
        """The operator as term(w, part, v), a pure function of tensors, and the parts of the data to sum it over.

        Not for the Hessian. Parts are the batches, or pieces of them where outputs are large (vocabularies).
        """

        def outputs_of(x: Tensor, inputs: Any) -> Any:
            return self._outputs(self.named(x), inputs)

        term = operator_term(name, outputs_of, self.loss)
        if name != "fisher-sampled":
            return term, lambda: self.parts(w)
        with twice_differentiable(self.model):
            drawn = [drawn_targets(outputs_of, self.loss, w, p, seed, i) for i, p in enumerate(self.parts(w))]
        return term, lambda: ((p[0], d) for p, d in zip(self.parts(w), drawn, strict=True))

    @full_precision()
    def rayleigh_by_group(
        self, w: Vector, vectors: Tensor, groups: int = 32, operator: str = "hessian", seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """vᵀH_b v for each row v of `vectors` (k, n) and each of about `groups` disjoint groups b of examples.

        H is `operator` (see there). Returns (counts, quotients) of shapes (B,) and (k, B), float64 on the CPU;
        H_b is the mean over group b, so quotients @ counts / N is the Rayleigh quotient of H. With
        batch_norm="batch" the groups are the batches themselves, because a part of a batch would be normalised
        differently.
        """
        per_group = 0 if self.batch_norm == "batch" else max(1, self.rows // groups)
        counts: list[int] = []
        columns: list[Tensor] = []

        def here() -> Iterator[Tensor]:
            return (v.to(w.device) for v in vectors)  # they may lie in the host's memory

        term, parts = (None, lambda: self.parts(w)) if operator == "hessian" else self.terms(operator, w, seed)
        for whole in parts():
            for part in split(whole, per_group):
                counts.append(self._terms(part))
                with twice_differentiable(self.model):
                    if term is not None:
                        columns.append(torch.stack([(v * term(w, part, v)).sum() for v in here()]))
                        continue
                    loss, leaf = self._loss_at_leaf(w, part)
                    gradient = torch.autograd.grad(loss, leaf, create_graph=True, materialize_grads=True)[0]
                    found = [(v * derivative(gradient, leaf, v, retain=True)).sum() for v in here()]
                columns.append(torch.stack(found))
        weights = torch.tensor(counts, dtype=torch.float64)
        sums = torch.stack(columns, 1).double().cpu()
        return weights[weights > 0], sums[:, weights > 0] / weights[weights > 0]

    def restricted(self, patterns: Sequence[str], at: Vector | None = None) -> "Problem":
        """The problem in the parameters that match, the others fixed at their values in `at` (default: `weights`).

        patterns: shell globs on parameter names, such as ["layer3.*", "fc.*"]; see `landscape.parameter_names`.
        """
        at = self.weights if at is None else at
        pieces = self.named(at)
        names = chosen_names(self.model, self._shapes, patterns)
        twin = copy.copy(self)
        model = self.model_at(at).requires_grad_(False)
        weights = torch.cat([pieces[name].reshape(-1) for name in names])
        twin._set(model=model, weights=weights, _shapes={name: self._shapes[name] for name in names})
        return twin

    def model_at(self, w: Vector) -> nn.Module:
        """A copy of the model at w, in the mode it is evaluated in; its trainable parameters are this problem's."""
        model, pieces = copy.deepcopy(self.model), self.named(w)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in pieces:
                    parameter.copy_(pieces[name])
                    parameter.requires_grad_(True)
        return model

    def with_state(self, state: Mapping[str, Tensor]) -> "Problem":
        """The same problem at another checkpoint of its network; state: that model's whole `state_dict()`.

        Weights, fixed parameters and buffers (batch-norm statistics) are the checkpoint's. Data, loss and policy
        stay as they are and are not checked again. Raises `InputError` when names or shapes differ.
        """
        twin, model = copy.copy(self), copy.deepcopy(self.model)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"the state is not of this problem's model: {' '.join(str(error).split())[:300]}"
            ) from None
        parameters = dict(model.named_parameters())
        weights = torch.cat([parameters[name].detach().reshape(-1) for name in self._shapes])
        twin._set(model=model, weights=weights)
        return twin

    def subset(self, rows: Tensor) -> "Problem":
        """The problem of some of its examples: f is their mean, and `rows` their numbers in order, ascending."""
        kept, before, rows = [], 0, rows.cpu()
        for number, raw in enumerate(self.batches):
            batch = self._pair(raw, number)
            count = rows_of(batch[1])
            mine = rows[(rows >= before) & (rows < before + count)] - before
            before += count
            if len(mine):
                kept.append(chosen_rows(batch, mine))
        largest = max(rows_of(batch[1]) for batch in kept)
        return self.only([batch for batch, _ in joined(kept, largest)])

    def only(self, batches: Sequence[Batch]) -> "Problem":
        """The problem of these batches of its own."""
        twin = copy.copy(self)
        rows = sum(rows_of(batch[1]) for batch in batches)
        twin._set(batches=list(batches), size=sum(map(self._terms, batches)), rows=rows)
        return twin

    def with_loss(self, loss: Callable[[Any, Any], Tensor]) -> "Problem":
        """The problem with another loss, which sums over its batch and counts its terms as this one does."""
        twin = copy.copy(self)
        twin._set(loss=loss, _compiler=Compiler())
        return twin

    def outputs_and_targets(self, w: Vector) -> Iterator[tuple[Any, Any]]:
        """For each part of the data what the model gives the loss at w, and the targets."""
        for inputs, targets in self.parts(w):
            with torch.no_grad(), twice_differentiable(self.model):
                yield self._outputs(self.named(w), inputs), targets

    def outputs_and_losses(self, w: Vector) -> Iterator[tuple[Tensor, Tensor]]:
        """For each part of the data the outputs, a leaf to differentiate by, and the loss summed over the part."""
        for inputs, targets in self.parts(w):
            with torch.no_grad(), twice_differentiable(self.model):
                outputs = prediction(self._outputs(self.named(w), inputs))
            with torch.enable_grad():
                leaf = outputs.requires_grad_(True)
                yield leaf, self.loss(leaf, targets)

    def double(self) -> "Problem":
        """The same problem with its weights, buffers and data as they are, and its arithmetic in float64."""
        twin = copy.copy(self)
        twin._set(model=copy.deepcopy(self.model).double(), weights=self.weights.double(), engine="recompute")
        return twin

    # -- batch norm --------------------------------------------------------------------------------

    @property
    def has_batch_norm(self) -> bool:
        """Whether the model has batch-norm layers with running statistics."""
        return bool(with_statistics(self.model))

    def norm_parameters(self) -> set[str]:
        """Names of the parameters of normalisation layers."""
        return norm_parameters(self.model)

    def buffers(self) -> dict[str, Tensor]:
        """Copies of the model's floating-point buffers (batch-norm statistics, mostly), by name."""
        return {k: b.clone() for k, b in self.model.named_buffers() if b.is_floating_point()}

    @full_precision()
    def recomputed_buffers(self, w: Vector, examples: int | None = None) -> dict[str, Tensor]:
        """Batch-norm statistics at w: batch means and variances over this problem's data, weighted by size.

        Only the first `examples` are used when that is given. See `batch_norms.recomputed`.
        """
        parameters = self.named(w)
        with torch.no_grad(), twice_differentiable(self.model):
            return recomputed(
                self.model,
                lambda buffers, inputs: self._outputs({**parameters, **buffers}, inputs),
                self.passes(w),
                examples,
            )

    # -- inner workings ----------------------------------------------------------------------------

    def named(self, w: Vector) -> dict[str, Tensor]:
        """The flat vector as parameters by name: views of w, in the order of `model.named_parameters()`."""
        if w.shape != self.weights.shape:
            raise illegal("w", tuple(w.shape), f"a vector of {self.weights.numel()} parameters", "See `weights`.")
        pieces = w.split([shape.numel() for shape in self._shapes.values()])
        return {k: piece.view(shape) for (k, shape), piece in zip(self._shapes.items(), pieces, strict=True)}

    def _outputs(self, parameters: Mapping[str, Tensor], inputs: Any) -> Any:
        tied = {name: parameters[first] for name, first in self._tied.items() if first in parameters}
        named, several = isinstance(inputs, Mapping), isinstance(inputs, tuple | list)
        places = () if named else tuple(inputs) if several else (inputs,)
        outputs = functional_call(
            self.model, {**parameters, **tied}, places, dict(inputs) if named else {}, tie_weights=False
        )  # fmt: skip
        return prediction(outputs) if takes_one_tensor(self.loss) else outputs

    def _loss_at_leaf(self, w: Vector, batch: Batch) -> tuple[Tensor, Tensor]:
        leaf = w.detach().requires_grad_(True)
        return self._total(leaf, batch), leaf

    def _batch_losses(self, w: Vector) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.parts(w):
            with torch.enable_grad():
                loss, leaf = self._loss_at_leaf(w, batch)
            yield loss, leaf

    def passes(self, w: Vector) -> Iterator[Batch]:
        """The batches, on the device of w and with its floating-point type."""

        def place(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return x.to(w.device, w.dtype) if x.is_floating_point() else x.to(w.device)

        for number, batch in enumerate(self.batches):
            yield tree_map(place, self._pair(batch, number))

    def _pair(self, batch: Any, number: int) -> Batch:
        return as_pair(batch, number, bool(getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)))

    def parts(self, w: Vector) -> Iterator[Batch]:
        """The batches, cut where their outputs would be large; whole where a part is normalised differently."""
        rows = 0 if self.batch_norm == "batch" else max(1, OUTPUT_BYTES // max(self._output_bytes, 1))
        for batch in self.passes(w):
            yield from split(batch, rows)

    def _terms(self, batch: Batch) -> int:
        targets = batch[1].targets if isinstance(batch[1], Drawn) else batch[1]
        count = getattr(self.loss, "count", None)
        return int(count(targets)) if count is not None else rows_of(targets)

    def _probe_evaluation(self) -> None:
        inputs, targets = first_rows(next(iter(self.passes(self.weights))), _PROBE_ROWS)
        with torch.no_grad(), twice_differentiable(self.model):
            parameters = self.named(self.weights)
            with Watched() as watched:
                outputs = self._outputs(parameters, inputs)
            first, again = (self.loss(o, targets) for o in (outputs, self._outputs(parameters, inputs)))
        total = sum(x.numel() * x.element_size() for x in tree_leaves(outputs) if isinstance(x, Tensor))
        self._set(_output_bytes=total // rows_of(targets))
        self._set(_kernels=switched_off(self.model, watched.attention, self.weights.device))
        if first.dim() != 0:
            raise illegal("loss(outputs, targets)", f"shape {tuple(first.shape)}", "a scalar", "Sum over the batch.")
        if not torch.allclose(first, again, rtol=1e-4, atol=1e-12, equal_nan=True):
            raise InputError(
                f"the model gives different losses for the same weights and data ({first.item():.6g}, then "
                f"{again.item():.6g}): something random stays on in eval mode. Use nn.Dropout, not F.dropout(x)."
            )
        if not sums_over_batch(self.loss, outputs, targets):
            raise InputError('the loss averages over its batch: it must sum (reduction="sum"); Problem divides by N.')

    def conditions(self) -> dict[str, Any]:
        """Where and on what this problem is measured, for the results' records."""
        w = self.weights
        return {
            "examples": self.size, "parameters": w.numel(), "dtype": str(w.dtype).removeprefix("torch."),
            "device": device_name(w.device), "threads": torch.get_num_threads(), "batch_norm": self.batch_norm,
            "loss": getattr(self.loss, "name", getattr(self.loss, "__name__", type(self.loss).__name__)),
            "kernels": self._kernels, "torch": torch.__version__,
        }  # fmt: skip


def _at_least_single(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.is_floating_point() and x.dtype.itemsize < 4 else x
