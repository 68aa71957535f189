"""Architectures of other libraries by name: `hf:`, `timm:` and `torchvision:`. Nothing is ever downloaded.

The libraries are optional and imported when asked for.
"""

import difflib
import importlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from landscape.errors import InputError
from landscape.factories import call

_EXTRAS = {"transformers": "hf", "timm": "zoo", "torchvision": "zoo"}


def adapted(
    name: str, arguments: tuple[tuple[str, str], ...], input_shape: tuple[int, ...] | None, outputs: int | None
) -> nn.Module | None:
    """The freshly initialised model that `library:architecture` names, or None when it is no such name.

    input_shape, outputs: the data's; they set image channels and the number of classes (or the vocabulary of
    a language model built from its type alone), unless `arguments` do.

    Raises `InputError` when the library is missing, does not import or does not know the architecture.
    """
    library, colon, architecture = name.partition(":")
    if not colon or library not in ADAPTERS or architecture.endswith(".py"):
        return None
    build = ADAPTERS[library]

    def factory(**values: Any) -> nn.Module:
        return build(architecture, values, input_shape, outputs)

    return call(factory, arguments, name)


def _transformers(
    architecture: str, values: dict[str, Any], input_shape: tuple[int, ...] | None, outputs: int | None
) -> nn.Module:
    """A folder or file with a `config.json` as Hugging Face saves it, or a model type such as `gpt2`.

    values: entries of the configuration; `head` names the class (`GPT2LMHeadModel`) or the kind, `CausalLM`,
    `SequenceClassification`, `ImageClassification`, …: by default the one the configuration was saved with,
    else a causal language model where the type has one. `attn_implementation`: eager or sdpa.
    """
    library = _imported("transformers")
    head = values.pop("head", None)
    place = Path(architecture).expanduser()
    saved = place.is_dir() or place.is_file()
    if saved:
        config = _of_file(library, place)
    else:
        known = list(library.CONFIG_MAPPING)
        if architecture not in known:
            close = ", ".join(difflib.get_close_matches(architecture, known, 3)) or "gpt2, bert, vit, …"
            raise InputError(
                f"hf:{architecture} is neither a folder with a config.json nor a model type of transformers "
                f"({close}). Nothing is downloaded: give the folder of a downloaded model."
            )
        config = library.AutoConfig.for_model(architecture)
    offered = {"num_labels": outputs} if saved else {"num_labels": outputs, "vocab_size": outputs}
    classifies = head is not None and "Classification" in head
    for key, value in offered.items():
        wanted = classifies if key == "num_labels" else not classifies and hasattr(config, "vocab_size")
        if value is not None and wanted and key not in values:
            setattr(config, key, value)
    for key, value in values.items():
        if key != "attn_implementation" and not hasattr(config, key):
            names = difflib.get_close_matches(key, config.to_dict(), 3)
            raise InputError(
                f"the configuration of hf:{architecture} has no entry {key!r}. "
                f"{'Did you mean ' + ', '.join(names) + '?' if names else 'See its config.json.'}"
            )
        setattr(config, "_attn_implementation" if key == "attn_implementation" else key, value)
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        number = getattr(config, token, None)
        if isinstance(number, int) and number >= getattr(config, "vocab_size", number + 1):
            setattr(config, token, None)
    return _head(library, head or (config.architectures or ["CausalLM"])[0], architecture)(config)


def _of_file(library: types.ModuleType, place: Path) -> Any:
    try:
        return library.AutoConfig.from_pretrained(str(place), local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place} has no configuration that transformers reads ({' '.join(str(error).split())[:160]}). "
            "Give the folder with the model's config.json."
        ) from None


def _head(library: types.ModuleType, head: str, architecture: str) -> Callable[[Any], nn.Module]:
    """The class called `head`, or what builds a model with a head of that kind."""
    if isinstance(kind := getattr(library, f"AutoModelFor{head}", None), type):
        return kind.from_config  # type: ignore[attr-defined]
    found = getattr(library, head, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    kinds = sorted(name.removeprefix("AutoModelFor") for name in dir(library) if name.startswith("AutoModelFor"))
    close = difflib.get_close_matches(head, kinds, 3) or kinds[:5]
    raise InputError(f"head = {head!r} is no model class for hf:{architecture}. Kinds of heads: {', '.join(close)}, …")


def _timm(
    architecture: str, values: dict[str, Any], input_shape: tuple[int, ...] | None, outputs: int | None
) -> nn.Module:
    library = _imported("timm")
    if not library.is_model(architecture):
        close = ", ".join(difflib.get_close_matches(architecture, library.list_models(), 3))
        raise InputError(
            f"timm has no model {architecture!r}. " + (f"Did you mean {close}?" if close else "See timm.list_models().")
        )
    channels = input_shape[0] if input_shape and len(input_shape) == 3 else 3
    return library.create_model(architecture, **{"pretrained": False, "num_classes": outputs or 1000,
                                                 "in_chans": channels} | values)  # fmt: skip


def _torchvision(
    architecture: str, values: dict[str, Any], input_shape: tuple[int, ...] | None, outputs: int | None
) -> nn.Module:
    library = _imported("torchvision").models
    if architecture not in library.list_models():
        close = ", ".join(difflib.get_close_matches(architecture, library.list_models(), 3))
        raise InputError(
            f"torchvision has no model {architecture!r}. "
            + (f"Did you mean {close}?" if close else "See torchvision.models.list_models().")
        )
    return library.get_model(architecture, **{"weights": None, "num_classes": outputs or 1000} | values)


def _imported(name: str) -> types.ModuleType:
    """The library, or one line about what keeps it from being imported."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # torchvision beside another build of torch raises RuntimeError, and more
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        build = "" if isinstance(error, ModuleNotFoundError) else ", in a build that fits this torch"
        raise InputError(
            f"{name} cannot be imported ({reason}). Install it{build}: pip install "
            f"'landscape-sharpness[{_EXTRAS[name]}]'; or write the model as file.py:factory."
        ) from error


ADAPTERS: dict[str, Callable[..., nn.Module]] = {"hf": _transformers, "timm": _timm, "torchvision": _torchvision}
