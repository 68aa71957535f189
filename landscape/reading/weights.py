"""Weights from a file of any usual kind, told apart by content: our own sealed files, `.safetensors`, `torch.save`.

Nothing in a file is ever executed. Everything that is not a set of finite, dense, named tensors is refused in
one line that says what the file is and what to do.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from landscape.errors import InputError
from landscape.files import Sealed, read_bytes, unseal
from landscape.reading import archives, torch_files, wrappers

_DENSE = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8,
          torch.int8, torch.int16, torch.int32, torch.int64}  # fmt: skip
_HEADER_LIMIT = 1 << 40  # text in place of a length is far above
_EPOCH = re.compile(r"epoch_(\d+)\.safetensors")
AVERAGES = ("ema", "swa")
"""Averages of the weights that a run may keep in checkpoints/ beside those of its epochs."""
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89HDF\r\n", "an HDF5 file (Keras weights, perhaps)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"GGUF", "a GGUF file of quantised weights"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x1f\x8b", "gzip-compressed: unpack it first"),
    (0, b"BZh", "bzip2-compressed: unpack it first"),
    (0, b"\xfd7zXZ", "xz-compressed: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed: unpack it first"),
    (257, b"ustar", "a tar archive: unpack it and name the checkpoint in it"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    (0, b"<", "a web page or XML, so the download probably failed"),
    (0, b"{", "JSON text"),
)


@dataclass(frozen=True, eq=False)
class Weights:
    """Named tensors on the CPU in the file's own dtypes, and where they come from.

    sha256: of the file's bytes. wrapper: the key that held the state dict, None for a bare one. stored: numbers
    and short texts beside it (epoch, accuracy, …). record: what our own trainer wrote, {} for other files.
    """

    path: Path
    format: str
    sha256: str
    tensors: Mapping[str, Tensor]
    wrapper: str | None = None
    stored: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """The weights in a checkpoint file, or in the last checkpoint of a run folder (`run@12`: of epoch 12).

    Raises `InputError`, in one line, for a missing, empty, truncated, damaged or foreign file, for anything
    that only running code could restore, and for weights that are not finite, dense and real.
    """
    file = checkpoint_file(path)
    content = read_bytes(file)
    if not content:
        raise InputError(f"{file} is empty (0 bytes). Copy or save it again.")
    weights = _parse(content, file)
    if not weights.tensors:
        raise InputError(f"{file} holds no tensors. Save the weights with torch.save(model.state_dict(), path).")
    for name, tensor in weights.tensors.items():
        _check_values(name, tensor, file)
    return weights


def checkpoint_file(path: str | os.PathLike[str]) -> Path:
    """The file that `path` means: itself, a run folder's last checkpoint, `run@epoch`, `run@ema` or `run@swa`."""
    path = Path(path).expanduser()
    run, at, epoch = str(path).rpartition("@")
    if at and epoch.isdecimal() and not path.exists():
        return _run_checkpoint(Path(run), int(epoch))
    if at and epoch in AVERAGES and not path.exists():
        return Path(run) / "checkpoints" / f"{epoch}.safetensors"
    return _run_checkpoint(path, None) if path.is_dir() else path


def _run_checkpoint(folder: Path, epoch: int | None) -> Path:
    inside = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    files = inside.iterdir() if inside.is_dir() else ()
    found = {int(m.group(1)): file for file in files if (m := _EPOCH.fullmatch(file.name))}
    if (folder / ".metadata").exists():
        raise InputError(
            f"{folder} is a distributed checkpoint, whose .metadata is plain pickle. Convert it first: "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE."
        )
    if not found:
        raise InputError(f"{folder} is not a run folder: it has no checkpoints/epoch_*.safetensors. Name a file.")
    if epoch is not None and epoch not in found:
        raise InputError(
            f"{folder} has no checkpoint of epoch {epoch}; it has those of {', '.join(map(str, sorted(found)))}."
        )
    return found[max(found) if epoch is None else epoch]


def _parse(content: bytes, path: Path) -> Weights:
    sha256 = hashlib.sha256(content).hexdigest()
    if (sealed := unseal(content, path)) is not None:
        return _own(sealed, path, sha256)
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < _HEADER_LIMIT:
        tensors, metadata = _safetensors(content, path)
        return Weights(path, "safetensors", sha256, tensors, stored=metadata)
    if content[:2] == b"PK":
        if kind := _foreign_zip(archives.names(content)):
            raise InputError(f"{path} is not a checkpoint: {kind}")
        kind = "PyTorch zip archive"
    elif content.startswith(torch_files.LEGACY_MAGIC):
        kind = "PyTorch legacy file"
    else:
        raise _foreign(content, path)
    found = wrappers.find(torch_files.load(content, path), path)
    return Weights(path, kind, sha256, found.tensors, found.wrapper, found.stored, notes=found.notes)


def _own(sealed: Sealed, path: Path, sha256: str) -> Weights:
    kind = sealed.record.get("kind")
    if kind == "state":
        raise InputError(f"{path} is what a run resumes from. Name the run's folder, or a file in its checkpoints/.")
    if kind != "checkpoint":
        raise InputError(
            f"{path} is a landscape result ({kind}), not a checkpoint. Name the checkpoint it was made from."
        )
    tensors = {name: torch.from_numpy(array.copy()) for name, array in sealed.arrays.items()}
    written = {**sealed.record.get("metrics", {}), "epoch": sealed.record.get("epoch")}
    stored = {k: v for k, v in written.items() if isinstance(v, int | float | str)}
    return Weights(path, "landscape checkpoint", sha256, tensors, stored=stored, record=sealed.record)


def _safetensors(content: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = parse_safetensors(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except Exception as error:  # SafetensorError, KeyError for unknown dtypes, and more on damaged headers
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is truncated or damaged safetensors ({reason}). Restore it from a copy.") from None
    metadata = header.get("__metadata__") or {}
    return tensors, {str(k): " ".join(str(v).split())[:200] for k, v in metadata.items()}


def _foreign_zip(names: list[str]) -> str | None:
    """What a zip archive is if `torch.save` did not write it, with the remedy."""
    inner = [name.partition("/")[2] for name in names]
    if any(n == "constants.pkl" or n.startswith("code/") for n in inner):
        return "it is a TorchScript archive, which is code. Save torch.jit.load(path).state_dict() instead."
    if any(n.startswith("serialized_") for n in [*names, *inner]) or {"archive_format", "models"} & {
        part for n in names for part in n.split("/")
    }:
        return "it is a torch.export archive, which is code. Save torch.export.load(path).state_dict instead."
    if names and all(n.endswith(".npy") for n in names):
        return "it is a NumPy .npz archive. Save the weights with torch.save or safetensors."
    if any(n.endswith((".weights.h5", "keras_metadata.pb")) for n in names):
        return "it is a Keras model. Convert the weights to PyTorch first."
    if names and "data.pkl" not in inner:
        return f"it is a zip archive of other files ({', '.join(names[:3])[:120]!r}). Unpack it and name a checkpoint."
    return None


def _foreign(content: bytes, path: Path) -> InputError:
    for offset, signature, kind in _SIGNATURES:
        if content[offset : offset + len(signature)] == signature:
            return InputError(f"{path} is not a checkpoint: it looks like {kind}. Name a .pt or .safetensors file.")
    if content[:1] == b"\x80" or content[-1:] == b".":
        return torch_files.foreign_pickle(content, path)
    if content[:1] == b"\x08" and re.search(rb"onnx|pytorch|tf2onnx|keras", content[:4096]):
        kind = "an ONNX model. Save the weights from the original code instead"
    elif not content.strip(b"\0"):
        kind = "nothing but zero bytes: it was never completely written. Copy it again"
    else:
        kind = "none of the known kinds. Name a .safetensors file, or one that torch.save wrote"
    return InputError(f"{path} is not a checkpoint: it looks like {kind}.")


def _check_values(name: str, tensor: Tensor, path: Path) -> None:
    name = " ".join(name.split())[:120]
    if tensor.dtype not in _DENSE or tensor.layout != torch.strided or tensor.is_meta:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(
            f"{path}: {name} is {kind} ({tensor.layout}); weights must be dense and real. Save them as float32."
        )
    if not tensor.is_floating_point() or bool(tensor.isfinite().all()):
        return
    if bool(((tensor == 0) | (tensor == -torch.inf)).all()):  # an attention mask, not a weight
        return
    nans, infinities = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    raise InputError(
        f"{path}: {name} holds {nans} NaN and {infinities} infinite values of {tensor.numel()}: the training diverged. "
        "Use a checkpoint from before that."
    )


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint holds, for `landscape inspect`: plain values, and tensors as (name, shape, dtype)."""
    weights = read_weights(path)
    sealed = weights.format in ("landscape checkpoint", "PyTorch zip archive")
    floating = [t for t in weights.tensors.values() if t.is_floating_point()]
    return {
        "path": str(weights.path),
        "format": weights.format,
        "sha256": weights.sha256,
        "integrity": "every bit verified" if sealed else "this format has no checksum",
        "wrapper": weights.wrapper,
        "values": sum(t.numel() for t in floating),
        "stored": dict(weights.stored),
        "record": dict(weights.record),
        "notes": list(weights.notes),
        "tensors": [
            (k, "×".join(map(str, t.shape)) or "scalar", str(t.dtype).removeprefix("torch."))
            for k, t in weights.tensors.items()
        ],
    }
