"""Architectures by name, and the user's own by `package.module:factory` or `file.py:factory`.

`hf:`, `timm:` and `torchvision:` before a name take it from these libraries.

Initial weights come from torch's global random state: wrap the call in `landscape.seeds.global_stream`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from landscape.errors import InputError, illegal
from landscape.factories import call, load_factory
from landscape.models.adapters import adapted
from landscape.models.cnn import cnn
from landscape.models.keskar import keskar_c1, keskar_c2
from landscape.models.mlp import keskar_f1, mlp
from landscape.models.resnet import cifar_resnet

__all__ = ["MODELS", "build_model"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (20, 32, 44, 56)},
    "f1": keskar_f1,
    "c1": keskar_c1,
    "c2": keskar_c2,
    "c3": partial(keskar_c1, outputs=100),
    "c4": partial(keskar_c2, outputs=100),
}
"""The models by name; their signatures are their arguments."""


def build_model(
    name: str,
    arguments: tuple[tuple[str, str], ...] = (),
    input_shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> nn.Module:
    """The model called `name`, or what the factory `package.module:factory` returns, freshly initialised.

    `hf:TYPE_OR_FOLDER`, `timm:NAME` and `torchvision:NAME` are architectures of these libraries
    (`landscape.models.adapters`).

    arguments: `key=value` pairs for the model (see the functions in `MODELS`). input_shape and outputs are
    the data's; they go to the parameters of these names, outputs also to one called `num_classes`, unless
    `arguments` sets them.

    Raises `InputError`, one line, for an unknown name or argument, for a shape that the model cannot take,
    and when a factory returns no `nn.Module`.
    """
    offered: dict[str, Any] = {"input_shape": input_shape, "outputs": outputs, "num_classes": outputs}
    offered = {key: value for key, value in offered.items() if value is not None}
    if outputs is not None and outputs < 1:
        raise illegal("outputs", outputs, "at least 1", "It is the number of classes, or of values to fit.")
    if name in MODELS:
        return call(MODELS[name], arguments, f"model {name}", **offered)
    if ":" not in name:
        remedy = "Or name your own as file.py:factory, another library's as hf:gpt2 or timm:resnet18."
        raise illegal("model", name, f"one of {', '.join(MODELS)}", remedy)
    if (model := adapted(name, arguments, input_shape, outputs)) is not None:
        return model
    model = call(load_factory(name), arguments, name, **offered)
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} returned {type(model).__name__}: it must return a torch.nn.Module.")
    return model
