"""How the names in a file map to a model's own.

Wrappers around a model (DataParallel, Lightning, `torch.compile`, EMA) put prefixes before its names.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from landscape.errors import InputError

_PREFIXES = {
    "module", "model", "_orig_mod", "net", "network", "classifier_model", "learner", "student", "teacher", "ema",
    "ema_model", "model_ema", "state_dict",
}  # fmt: skip
_TRANSPARENT = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_COUNTER = "num_batches_tracked"


class _Match(NamedTuple):
    """For each of the model's names the file's; the names of the model and file that have no partner."""

    partner: dict[str, str]
    missing: list[str]
    unexpected: list[str]
    note: str | None


def match(given: Mapping[str, Tensor], model: nn.Module, path: object) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The file's tensors under the model's names, and notes on what was done to the names.

    Prefixes are stripped and added; the model's own names decide. Missing are allowed: batch-norm counters,
    and the second name of a tied weight. Raises `InputError`, naming the first few, when names or shapes differ.
    """
    wanted = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    best = _resolve(given, wanted)
    faults = []
    if best.missing:
        faults.append(f"{len(best.missing)} of the model's {len(wanted)} tensors are missing ({some(best.missing)})")
    if best.unexpected:
        faults.append(f"{len(best.unexpected)} in the file are not in the model ({some(best.unexpected)})")
    fitting = {name: given[other] for name, other in best.partner.items()}
    reshaped = [name for name, tensor in fitting.items() if tensor.shape != wanted[name].shape]
    if reshaped:
        shown = (f"{n}: {_shape(fitting[n])} in the file, {_shape(wanted[n])} in the model" for n in reshaped)
        faults.append(f"{len(reshaped)} have other shapes ({some(shown, 3, '; ')})")
    kinds = [n for n, t in fitting.items() if t.is_floating_point() != wanted[n].is_floating_point()]
    if kinds := [n for n in kinds if not n.endswith(_COUNTER)]:
        shown = (f"{n}: {_dtype(fitting[n])} in the file, {_dtype(wanted[n])} in the model" for n in kinds)
        faults.append(f"{len(kinds)} have another kind of number ({some(shown, 3, '; ')})")
    if faults:
        cause = _likely_cause(best, reshaped, fitting, wanted)
        raise InputError(f"{path} does not fit the model {type(model).__name__}: {'; '.join(faults)}. {cause}")
    notes = [best.note] if best.note else []
    if converted := sorted({(_dtype(t), _dtype(wanted[n])) for n, t in fitting.items() if t.dtype != wanted[n].dtype}):
        notes.append("weights converted: " + ", ".join(f"{old} to {new}" for old, new in converted))
    return fitting, tuple(notes)


def _resolve(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> _Match:
    """The pairing without missing or unexpected names if there is one, else the one with most partners."""
    best: _Match | None = None
    for transparent in (_TRANSPARENT, {*_TRANSPARENT, "module"}):
        files = {_without(name, transparent): name for name in given}
        models = {_without(name, transparent): name for name in wanted}
        if len(files) < len(given) or len(models) < len(wanted):
            continue
        for added in _common_prefixes(models):
            for stripped in _candidate_prefixes(files, models, added):
                found = _pair(files, models, wanted, stripped, added)
                if not found.missing and not found.unexpected:
                    return found
                if best is None or len(found.partner) > len(best.partner):
                    best = found
    return best or _Match({}, list(wanted), list(given), None)


def _pair(
    files: Mapping[str, str], models: Mapping[str, str], wanted: Mapping[str, Tensor], stripped: str, added: str
) -> _Match:
    inside = {k.removeprefix(stripped): v for k, v in files.items() if k.startswith(stripped)}
    outside = [v for k, v in files.items() if not k.startswith(stripped)]
    inner = {k.removeprefix(added): v for k, v in models.items()}
    partner = {v: inside[k] for k, v in inner.items() if k in inside}
    held = {wanted[name].data_ptr() for name in partner if wanted[name].numel()}
    missing = [
        v for k, v in inner.items()
        if k not in inside and not k.endswith(_COUNTER) and wanted[v].data_ptr() not in held
    ]  # fmt: skip
    unexpected = [v for k, v in inside.items() if k not in inner]
    wrapper = stripped.removesuffix(".").split(".")
    if outside and not (set(wrapper) <= _PREFIXES and partner):
        unexpected += outside
        outside = []
    steps = [f"{stripped!r} stripped from"] if stripped else []
    steps += [f"{added!r} put before"] if added else []
    note = f"{' and '.join(steps)} the file's names" if steps else None
    if note and outside:
        note += f"; left out, as not part of the model: {some(outside)}"
    return _Match(partner, missing, unexpected, note)


def _candidate_prefixes(files: Mapping[str, str], models: Mapping[str, str], added: str) -> list[str]:
    """What may stand before the model's names in the file: nothing, or what stands before one of them."""
    firsts = [k.removeprefix(added) for k in models if not k.endswith(_COUNTER)][:1]
    prefixes = {""} | {f[: -len(name)] for name in firsts for f in files if f.endswith(f".{name}")}
    prefixes |= set(_common_prefixes(files, known_only=False))
    return sorted(prefixes, key=lambda p: ("ema" in p, "teacher" in p, p.count("."), p))


def _common_prefixes(names: Iterable[str], known_only: bool = True) -> list[str]:
    """Leading parts that all names share, the empty one first; only those that wrappers use."""
    split = [name.split(".")[:-1] for name in names]
    prefixes = [""]
    for parts in zip(*split, strict=False):
        known = parts[0] in _PREFIXES or parts[0].isdigit()
        if len(set(parts)) > 1 or (known_only and not known):
            break
        prefixes.append(f"{prefixes[-1]}{parts[0]}.")
    return prefixes


def _without(name: str, transparent: set[str]) -> str:
    return ".".join(part for part in name.split(".") if part not in transparent)


def _likely_cause(
    best: _Match, reshaped: list[str], fitting: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> str:
    """One sentence on what is probably wrong."""
    if not best.partner:
        return "No name agrees: this is another architecture, or the model names its layers differently."
    if not best.missing and not best.unexpected and reshaped:
        rows = [n for n in reshaped if fitting[n].shape[1:] == wanted[n].shape[1:]]
        if rows == reshaped and len(reshaped) <= 2:
            return "Probably another number of classes: pass it with --model-arg."
        return "Probably another width or input size: pass it with --model-arg."
    if best.missing and not best.unexpected:
        if all("running_" in name for name in best.missing):
            return "The file has no batch-norm statistics: use a model without them."
        return "The model has more layers than the file: a smaller variant is wanted."
    if best.unexpected and not best.missing:
        return "The file has more layers than the model: a larger variant is wanted."
    return "Probably another architecture or variant: compare the names with `landscape inspect`."


def some(names: Iterable[str], count: int = 4, separator: str = ", ") -> str:
    """The first few names, on one line, and how many more there are."""
    listed = [" ".join(str(name).split())[:80] for name in names]
    return separator.join(listed[:count]) + (f"{separator}… {len(listed) - count} more" if len(listed) > count else "")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
