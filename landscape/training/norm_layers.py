"""Which parameters belong to normalisation layers."""

import re

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_KINDS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NAMED = re.compile(r"norm(act)?(\dd)?$", re.IGNORECASE)


def norm_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters of the model's normalisation layers, each once.

    Such a layer is one of torch's batch, instance, layer, group and RMS norms, or a module of another library whose
    class is called one (…Norm, …Norm2d) and that has no parameters with more than one axis.
    """
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        named = _NAMED.search(type(module).__name__) and all(p.dim() <= 1 for p in own)
        if isinstance(module, _KINDS) or named:
            found.update((id(p), p) for p in own if p.requires_grad)
    return list(found.values())
