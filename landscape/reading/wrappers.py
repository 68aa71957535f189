"""The state dict inside a loaded checkpoint: which key holds it, and what is stored beside it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from landscape.errors import InputError
from landscape.reading.state_dicts import some

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "model_dict", "net", "net_state_dict", "network",
    "module", "params", "weights", "state", "student", "params_ema", "state_dict_ema", "ema_state_dict", "model_ema",
    "ema_model", "ema",
)  # fmt: skip
"""Keys under which state dicts are found, the first one first: averages (EMA) only when there is nothing else."""
_NOT_WEIGHTS = ("optim", "sched", "scaler", "lr_")


class Found(NamedTuple):
    """A state dict, the key path that held it (None: the file itself), and the scalars stored beside it."""

    tensors: dict[str, Tensor]
    wrapper: str | None
    stored: dict[str, Any]
    notes: tuple[str, ...]


def find(root: Any, path: object) -> Found:
    """The state dict inside what a file held.

    The file's own mapping, else the first of `WRAPPERS` that holds one (nested up to three deep), else the only
    other key that does. Raises `InputError` naming the keys when there is none, or no telling which.
    """
    if not isinstance(root, Mapping):
        kind = type(root).__name__
        raise InputError(
            f"{path} holds no state dict, but a {kind}. Save the weights by name: torch.save(model.state_dict(), path)."
        )
    if _is_state_dict(root):
        return Found(_tensors(root), None, _scalars(root), ())
    known = list(_wrapped(root))
    if not known:
        known = [(k, v) for k, v in root.items() if _is_state_dict(v) and not str(k).startswith(_NOT_WEIGHTS)]
        if len(known) > 1:
            raise InputError(
                f"{path} holds several state dicts ({some(str(k) for k, _ in known)}) and nothing says which is the "
                "model. Save the one to analyse by itself."
            )
    if not known:
        if any("." in str(k) and isinstance(v, Tensor) for k, v in root.items()):
            return Found(_tensors(root), None, _scalars(root), ())
        raise InputError(
            f"{path} holds no state dict; its keys are: {some(map(str, root), 10) or 'none at all'}. "
            "Save the weights with torch.save(model.state_dict(), path)."
        )
    wrapper, chosen = str(known[0][0]), known[0][1]
    others = [str(k) for k, _ in known[1:]]
    notes = [f"weights taken from {wrapper!r}" + (f"; the file also holds {some(others)}" if others else "")]
    return Found(_tensors(chosen), wrapper, _scalars(root), tuple(notes))


def _wrapped(root: Mapping[Any, Any], depth: int = 3) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key in WRAPPERS:
        value = root.get(key)
        if not isinstance(value, Mapping):
            continue
        if _is_state_dict(value):
            yield key, value
        elif depth > 1:
            yield from ((f"{key}.{inner}", found) for inner, found in _wrapped(value, depth - 1))


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and any(isinstance(v, Tensor) for v in value.values())
        and all(isinstance(k, str) for k in value)
        and all(isinstance(v, Tensor) or k.endswith("_extra_state") for k, v in value.items())
    )


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(k): v.detach() for k, v in state.items() if isinstance(v, Tensor)}


def _scalars(root: Mapping[Any, Any]) -> dict[str, Any]:
    """Numbers, truth values and short strings at the top of a checkpoint, such as its epoch and accuracy."""
    values: dict[str, Any] = {}
    for key, value in root.items():
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0 and "." not in str(key):
            value = value.item()
        if isinstance(value, str):
            value = " ".join(value.split())
        short = not isinstance(value, str) or len(value) <= 200
        if isinstance(key, str) and isinstance(value, bool | int | float | str) and short and len(values) < 40:
            values[key] = value
    return values
