"""What a pickle from `torch.save` asks for, checked before anything is built.

Only the classes that plain tensors, dicts and numbers need are let through, and every tensor must lie inside
its storage: a stride of 0, or a size that a flipped bit made huge, would ask for any amount of memory.
"""

import math
from typing import Any, NamedTuple

import torch

from landscape.errors import InputError
from landscape.reading import pickles
from landscape.reading.pickles import Call, External, Name, UnreadableError

REMEDY = "In the code that made it, save the weights alone: torch.save(model.state_dict(), path)."
SCALARS = {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
"""What NumPy's numbers pickle as; accuracies beside the weights often are ones."""

_ITEM_SIZES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "UntypedStorage": 1,
}  # fmt: skip
_STORAGES = {f"torch.{k}": v for k, v in _ITEM_SIZES.items()} | {"torch.storage.UntypedStorage": 1}
_DTYPES = {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
_TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_SCALAR_CODES = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} | {"b1"}
_HARMLESS = {
    "collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "torch.serialization._get_layout",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.Tensor",
    "builtins.complex", "__builtin__.complex", "builtins.set", "__builtin__.set",
}  # fmt: skip
_HASHING = {"builtins.set", "__builtin__.set", "collections.Counter", "collections.OrderedDict"}
_REFUSED = {
    "torch._utils._rebuild_qtensor": "quantised tensors, which have no gradient. Use the floating-point checkpoint.",
    "torch._utils._rebuild_sparse_tensor": "sparse tensors. Save them dense: tensor.to_dense().",
    "torch._utils._rebuild_nested_tensor": "nested tensors. Save them padded.",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta tensors, which have no values. Save the real weights.",
    "torch.distributed": "distributed tensors. Gather them first: torch.distributed.checkpoint.state_dict.",
}
_SHARING = 64
"""Tensors may share storage (tied weights), but all of them together at most so many times the file's size."""


class Storage(NamedTuple):
    item_size: int
    count: int

    @property
    def nbytes(self) -> int:
        return self.item_size * self.count


def storages(root: Any, file_size: int, path: object) -> dict[str, Storage]:
    """The storages an object refers to, after checking that all its tensors lie inside them."""
    refuse_code(root, path)
    found: dict[str, Storage] = {}
    total = 0
    for item in pickles.walk(root):
        if isinstance(item, External):
            key, storage = _described(item)
            if found.setdefault(key, storage) != storage:
                raise UnreadableError(f"storage {key} has two sizes")
        elif isinstance(item, Call) and item.name in _TENSORS:
            total += _tensor_bytes(item.arguments)
        elif isinstance(item, Call) and item.name == "torch._tensor._rebuild_from_type_v2":
            total += _typed_tensor_bytes(item)
    if total > _SHARING * file_size:
        raise UnreadableError(f"its tensors claim {total} bytes in a file of {file_size}")
    return found


def refuse_code(root: Any, path: object) -> None:
    """Raise `InputError` when the object needs any class or function that plain weights do not."""
    if isinstance(root, External) and isinstance(root.identity, tuple) and root.identity[:1] == ("module",):
        raise _whole_object(root.identity[1], path)
    if isinstance(root, Call) and not _allowed(root):
        raise _whole_object(Name(root.name), path)
    wanted: dict[str, None] = {}
    for item in pickles.walk(root):
        if isinstance(item, Call) and not _allowed(item):
            wanted[item.name] = None
        elif isinstance(item, Name) and not _known_name(item.path):
            wanted[item.path] = None
    for name in wanted:
        for refused, reason in _REFUSED.items():
            if name.startswith(refused):
                raise InputError(f"{path} holds {reason}")
    if wanted:
        first = ", ".join(_one_line(name) for name in list(wanted)[:3]) + (", …" if len(wanted) > 3 else "")
        raise InputError(
            f"{path} holds pickled objects ({first}) that only running code could restore, which is never done. "
            f"{REMEDY}"
        )


def _whole_object(target: Any, path: object) -> InputError:
    name = _one_line(target.path if isinstance(target, Name) else str(target))
    for refused, reason in _REFUSED.items():
        if name.startswith(refused):
            return InputError(f"{path} holds {reason}")
    if name.rpartition(".")[2][:1].isupper():
        return InputError(
            f"{path} is a whole pickled object of class {name}, not a set of weights; restoring it would run code, "
            f"so it is refused. {REMEDY}"
        )
    return InputError(f"{path} asks to call {name} while it is loaded: that is code, and it is never run. {REMEDY}")


def _allowed(call: Call) -> bool:
    arguments = call.arguments
    if call.name in SCALARS:
        return len(arguments) == 2 and isinstance(arguments[0], Call) and arguments[0].name == "numpy.dtype"
    if call.name == "numpy.dtype":
        return arguments[:1] != () and arguments[0] in _SCALAR_CODES and arguments[1:] == (False, True)
    if call.name == "_codecs.encode":
        return len(arguments) == 2 and arguments[1] in ("latin1", "latin-1")
    if call.name in ("builtins.bytearray", "__builtin__.bytearray"):
        return all(isinstance(argument, bytes | Call) for argument in arguments)
    if call.name in _HASHING and not all(pickles.hashes_quickly(key) for key in _keys(call)):
        return False
    return call.name in _HARMLESS | _TENSORS or call.name == "torch._tensor._rebuild_from_type_v2"


def _keys(call: Call) -> list[Any]:
    """What a set, counter or dict would hash of the list it is made from."""
    listed = [entry for argument in call.arguments if isinstance(argument, list | tuple) for entry in argument]
    if call.name != "collections.OrderedDict":
        return listed
    return [pair[0] for pair in listed if isinstance(pair, list | tuple) and pair]


def _known_name(path: str) -> bool:
    return path in _STORAGES or path in _DTYPES or path in _HARMLESS | _TENSORS


def _one_line(name: str) -> str:
    return " ".join(name.split())[:120]


def _described(item: External) -> tuple[str, Storage]:
    """Key and size of a storage: ('storage', class, key, device, count) and, in the legacy format, None."""
    match item.identity:
        case ("storage", Name(path), str(key), _, int(count)) | ("storage", Name(path), str(key), _, int(count), None):
            if path in _STORAGES and count >= 0:
                return key, Storage(_STORAGES[path], count)
    raise UnreadableError("a storage in it is described in no known way")


def _typed_tensor_bytes(call: Call) -> int:
    match call.arguments:
        case (Name(path), Name(), tuple(arguments), _) if path in _TENSORS:
            return _tensor_bytes(arguments)
        case (Name("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state"), Name(), _, _):
            return 0  # its data is a tensor of its own, and is looked at by itself
    raise UnreadableError("a tensor in it is described in no known way")


def _tensor_bytes(arguments: Any) -> int:
    """Bytes of one tensor: (storage, offset, shape, strides, …), all of it inside the storage."""
    external, offset, shape, strides = arguments[:4] if len(arguments) >= 4 else (None,) * 4
    shape, strides = _integers(shape), _integers(strides)
    if not isinstance(external, External) or not isinstance(offset, int) or offset < 0 or len(shape) != len(strides):
        raise UnreadableError("a tensor in it is described in no known way")
    _, (item_size, available) = _described(external)
    dtypes = [_DTYPES[a.path] for a in arguments[4:] if isinstance(a, Name) and a.path in _DTYPES]
    if dtypes:  # version 3 counts in elements of the dtype, and its storage in bytes
        available = available * item_size // dtypes[0].itemsize
        item_size = dtypes[0].itemsize
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count and (last >= available or count > available):
        raise UnreadableError(f"a tensor of shape {shape} is said to lie in {available} elements")
    return count * item_size


def _integers(values: Any) -> tuple[int, ...]:
    if isinstance(values, Call) and values.name == "torch.Size":
        values = values.arguments[0]
    if not isinstance(values, tuple | list) or not all(isinstance(v, int) and v >= 0 for v in values):
        raise UnreadableError("a tensor in it is described in no known way")
    return tuple(values)
