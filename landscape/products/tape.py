"""Recording a linear map as the list of tensor operations that depend on its argument.

While v ↦ A·v runs once, every operation passes through `Recorder`. Operations that do not depend on v are
only carried out, and their outcomes are kept where a later one needs them; those that do are written down.
Running the list again with another v gives A times it, exactly, for the price of the dependent part alone.
This is partial evaluation ("folding") of the product at fixed weights and data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from landscape.products.trees import leaves as leaves_of
from landscape.products.trees import mapped

aten = torch.ops.aten


class RecordingError(RuntimeError):
    """The map does something a list of tensor operations cannot repeat; use another engine."""


@dataclass(frozen=True)
class Slot:
    """The place of a tensor that depends on v: its number in a tape, and what is known of it."""

    number: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    storage: int

    @property
    def dense(self) -> bool:
        """Whether the tensor is a gapless block of memory without overlaps (an expanded one overlaps)."""
        expected = 1
        for size, step in sorted(zip(self.shape, self.stride, strict=True), key=lambda pair: (pair[1], pair[0])):
            if size != 1 and step != expected:
                return False
            expected *= size
        return True


@dataclass(frozen=True)
class Step:
    """outputs ← function(*args, **kwargs); Slots stand for tensors that depend on v, tensors for constants."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Slot | None, ...]
    single: bool
    mutates: tuple[int, ...] = ()
    """Storages that the step writes into."""

    @cached_property
    def inputs(self) -> list[Slot]:
        """The slots among the arguments."""
        return [leaf for leaf in leaves_of((self.args, self.kwargs)) if isinstance(leaf, Slot)]


@dataclass(frozen=True)
class Tape:
    """`steps` turn `arguments` into `result`; `zeros` are constants known to be zero, by identity."""

    steps: Sequence[Step]
    arguments: tuple[Slot, ...]
    result: Slot
    zeros: frozenset[int] = field(default=frozenset(), repr=False)

    @property
    def argument(self) -> Slot:
        """The only argument."""
        (one,) = self.arguments
        return one


_VALUE_FREE = {
    aten.zeros_like.default, aten.ones_like.default, aten.empty_like.default, aten.full_like.default,
    aten.new_zeros.default, aten.new_ones.default, aten.new_empty.default, aten.new_full.default,
    aten.new_empty_strided.default, aten._new_zeros_with_same_feature_meta.default,
}  # fmt: skip
"""Operations that look at the shape of their argument, not at its values."""

_QUESTIONS = {aten.is_same_size.default, aten._has_same_storage_numel.default}
"""Asked of shapes by forward mode, a thousand times in a large model; their answers are not tensors."""

_ZEROS = {
    aten.zeros_like.default, aten.new_zeros.default, aten._new_zeros_with_same_feature_meta.default,
    aten.zeros.default, aten._efficientzerotensor.default,
}  # fmt: skip

_PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)


class Recorder(TorchDispatchMode):
    """Inside this context, operations that depend on `arguments` are written into `steps`.

    A tensor is known by its identity. What an operation writes into a constant (a gradient accumulated into
    zeros, say) makes that memory dependent from then on: the tape restores the constant and repeats the write.
    """

    def __init__(self, *arguments: Tensor):
        super().__init__()
        self.steps: list[Step] = []
        self._slots: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._storages = 0
        self._count = 0
        self._restored: dict[int, tuple[Slot, Tensor]] = {}
        self._captured: list[tuple[Tensor, int]] = []
        self._zeros: dict[int, Tensor] = {}
        self.arguments = tuple(self._new_slot(argument, self._new_storage()) for argument in arguments)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # the default imports all of torch._dynamo, which takes seconds
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _QUESTIONS:
            return func(*args, **kwargs)
        leaves = [leaf for leaf in leaves_of((args, kwargs)) if isinstance(leaf, Tensor)]
        for leaf in leaves:
            if type(leaf) not in _PLAIN:
                raise RecordingError(f"a tensor of type {type(leaf).__name__}")
        if any(leaf._is_zerotensor() for leaf in leaves):  # forward mode's zeros without memory: not all kernels
            args, kwargs = mapped(self._with_memory, (tuple(args), kwargs))  # can be handed one from in here
            leaves = [leaf for leaf in leaves_of((args, kwargs)) if isinstance(leaf, Tensor)]
        dependent = any(self._depends(leaf) for leaf in leaves)
        if dependent and func is aten._local_scalar_dense.default:
            raise RecordingError("a decision that depends on the vector")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RecordingError(f"{func}, which is random")
        written = _written(func, args, kwargs) if func._schema.is_mutable else []
        self._forget_zeros(written)
        if not dependent or (func in _VALUE_FREE and not written):
            out = func(*args, **kwargs)
            self._note_zeros(func, leaves, out, written)
            return out
        if self._product_with_zero(func, leaves):
            out = func(*args, **kwargs)
            self._zeros[id(out)] = out
            return out
        for tensor in written:
            self._restore(tensor)
        swap = {id(leaf): place for leaf in leaves if (place := self._place(leaf)) is not None}
        storages = {leaf.untyped_storage()._cdata: swap.get(id(leaf)) for leaf in leaves}
        for leaf in leaves:
            if id(leaf) not in swap:
                self._captured.append((leaf, leaf._version))
        recorded = mapped(lambda x: swap.get(id(x), x), (tuple(args), kwargs))
        out = func(*args, **kwargs)
        results = [out] if isinstance(out, Tensor) else list(out) if isinstance(out, tuple | list) else None
        if results is None:
            raise RecordingError(f"{func} gives a {type(out).__name__}")
        outputs = tuple(self._output(r, storages) if isinstance(r, Tensor) else None for r in results)
        mutates = tuple(swap[id(t)].storage for t in written if id(t) in swap)
        self.steps.append(Step(func, recorded[0], recorded[1], outputs, isinstance(out, Tensor), mutates))
        return out

    def tape(self, result: Tensor) -> Tape:
        """What was recorded, with `result` as the outcome; a result that does not depend on v is refused."""
        place = self._place(result)
        if place is None:
            raise RecordingError("the product does not depend on the vector")
        if any(tensor._version != version for tensor, version in self._captured):
            raise RecordingError("a constant changes after its use")
        steps = self._without_graphs()
        return Tape(steps, self.arguments, place, frozenset(self._zeros))

    def _without_graphs(self) -> list[Step]:
        """The steps with constants that no longer hold the autograd graph they may have come from."""
        held: dict[int, Tensor] = {}

        def detached(x: Any) -> Any:
            if not (isinstance(x, Tensor) and x.requires_grad):
                return x
            if id(x) not in held:
                held[id(x)] = x.detach()
                if id(x) in self._zeros:
                    self._zeros[id(held[id(x)])] = held[id(x)]
            return held[id(x)]

        return [replace(s, args=mapped(detached, s.args), kwargs=mapped(detached, s.kwargs)) for s in self.steps]

    # -- which tensors depend on v -----------------------------------------------------------------

    def _depends(self, tensor: Tensor) -> bool:
        return tensor in self._slots or tensor.untyped_storage()._cdata in self._restored

    def _place(self, tensor: Tensor) -> Slot | None:
        """The slot of a tensor that depends on v; a view of restored memory gets one when first asked for."""
        if tensor in self._slots:
            return self._slots[tensor]
        found = self._restored.get(tensor.untyped_storage()._cdata)
        if found is None:
            return None
        flat, _ = found
        slot = self._new_slot(tensor, flat.storage)
        where = (flat, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
        self.steps.append(Step(aten.as_strided.default, where, {}, (slot,), True))
        return slot

    def _restore(self, tensor: Tensor) -> None:
        """Before a dependent value is written into a constant: let the tape make that memory anew, each run."""
        storage = tensor.untyped_storage()
        if self._depends(tensor):
            return
        with _disable_current_modes():
            flat = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage)
            constant = flat.clone()
        slot = self._new_slot(flat, self._new_storage())
        self.steps.append(Step(aten.clone.default, (constant,), {}, (slot,), True))
        self._restored[storage._cdata] = slot, flat

    def _output(self, tensor: Tensor, storages: dict[int, Slot | None]) -> Slot:
        """The slot of an output; one that shares memory with an input (a view, or the input) shares its storage."""
        if tensor in self._slots:
            return self._slots[tensor]
        shared = storages.get(tensor.untyped_storage()._cdata)
        return self._new_slot(tensor, shared.storage if shared else self._new_storage())

    def _new_slot(self, tensor: Tensor, storage: int) -> Slot:
        self._count += 1
        slot = Slot(self._count, tuple(tensor.shape), tensor.stride(), tensor.dtype, storage)
        self._slots[tensor] = slot
        return slot

    def _new_storage(self) -> int:
        self._storages += 1
        return self._storages

    # -- zeros -------------------------------------------------------------------------------------

    def _forget_zeros(self, written: list[Tensor]) -> None:
        if not written or not self._zeros:
            return
        memory = {tensor.untyped_storage()._cdata for tensor in written}
        for key in [k for k, zero in self._zeros.items() if zero.untyped_storage()._cdata in memory]:
            del self._zeros[key]

    def _with_memory(self, x: Any) -> Any:
        if not (isinstance(x, Tensor) and x._is_zerotensor()):
            return x
        made = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
        self._zeros[id(made)] = made
        return made

    def _note_zeros(self, func: Any, leaves: list[Tensor], out: Any, written: list[Tensor]) -> None:
        scaled = func in _ZERO_TO_ZERO and leaves and id(leaves[0]) in self._zeros
        if func in _ZEROS or scaled or (not written and self._product_with_zero(func, leaves)):
            self._zeros[id(out)] = out

    def _product_with_zero(self, func: Any, leaves: list[Tensor]) -> bool:
        return func is aten.mul.Tensor and any(id(leaf) in self._zeros for leaf in leaves)


_ZERO_TO_ZERO = {
    aten.view.default, aten.expand.default, aten.t.default, aten.permute.default, aten.transpose.int,
    aten.mul.Scalar, aten.neg.default, aten.to.dtype_layout, aten._to_copy.default, aten.alias.default,
}  # fmt: skip


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors among the arguments that the operation writes into."""
    found: list[Any] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            found += value if isinstance(value, list | tuple) else [value]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def record(product: Callable[[Tensor], Tensor], v: Tensor) -> tuple[Tape, Tensor]:
    """The tape of a linear map of tensors like v, recorded at v, and its value there. Raises `RecordingError`."""
    argument = v.detach().clone()
    with Recorder(argument) as recorder:
        result = product(argument)
    return recorder.tape(result), result.detach()
