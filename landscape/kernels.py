"""Kernels that can be differentiated twice, for as long as a context lasts.

Flash and memory-efficient attention, the fused path of `nn.TransformerEncoderLayer` and cuDNN's recurrent
networks have no double backward; the plain implementations have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Inside, evaluations of `model` use kernels with a double backward; afterwards all is as it was."""
    fast_path, cudnn = torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.enabled
    with sdpa_kernel(SDPBackend.MATH):
        torch.backends.mha.set_fastpath_enabled(False)
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            torch.backends.cudnn.enabled = False
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            torch.backends.cudnn.enabled = cudnn


def differentiate_padding(model: nn.Module) -> None:
    """Make gradients of `model`'s embeddings the derivatives of what they compute.

    `padding_idx` changes no output of `nn.Embedding`; it withholds one row's gradient. A Hessian from such
    gradients is not symmetric where that row is used, and disagrees with forward-mode derivatives.
    """
    for module in model.modules():
        forward = type(module).forward
        own = forward is not nn.Embedding.forward
        if isinstance(module, nn.Embedding) and not (own and "padding_idx" in forward.__code__.co_names):
            module.padding_idx = None


class Watched(TorchFunctionMode):
    """Inside, notices whether fused attention would be called."""

    attention = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.scaled_dot_product_attention, F.multi_head_attention_forward):
            self.attention = True
        return func(*args, **(kwargs or {}))


def switched_off(model: nn.Module, attention: bool, device: torch.device) -> str:
    """What `twice_differentiable` switches off that this model would have used on this device, for records."""
    notes = []
    if attention:
        notes.append("plain attention (flash and memory-efficient kernels off)")
    if device.type == "cuda" and any(isinstance(module, nn.RNNBase) for module in model.modules()):
        notes.append("plain recurrent kernels (cuDNN off)")
    return "; ".join(notes) or "default"
