"""The same function of the same parameters, written so that its products cost fewer operations.

A normalisation ends in an affine map per channel, γ·x̂ + β. Next to a linear map it goes into that map's weights:
behind a convolution, with fixed statistics, γ/σ·(W∗x + b − μ) + β = (γ/σ·W)∗x + (γ/σ·(b − μ) + β); before a
linear layer W(γ·x̂ + β) + b = (W·diag γ)x̂ + (Wβ + b). What were passes over all activations, in the forward, the
tangent and both backward directions, become passes over the weights.
"""

from typing import Any

from torch import Tensor, conv1d, conv2d, conv3d, rsqrt
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (conv1d, conv2d, conv3d)


class MergedNorms(TorchFunctionMode):
    """Inside this context normalisations join the linear map before or after them where there is one.

    A batch norm with fixed statistics joins the convolution or linear layer whose output it is given; the scale
    and shift of a layer norm join the linear layers that are given its output. Outputs are the same up to
    rounding, and what others use stays available.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[Tensor, Any, tuple[Any, ...], dict[str, Any]]] = {}
        self._normed: dict[int, tuple[Tensor, Tensor, Tensor, Tensor | None]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            merged = self._batch_norm(*args, **kwargs)
            if merged is not None:
                return merged
        if func is F.layer_norm:
            return self._layer_norm(*args, **kwargs)
        if func is F.linear:
            args, kwargs = self._linear(*args, **kwargs), {}
        out = func(*args, **kwargs)
        if func in _CONVOLUTIONS or func is F.linear:
            self._made[id(out)] = out, func, args, kwargs
        return out

    def _batch_norm(
        self, x: Tensor, mean: Any, variance: Any, weight: Any = None, bias: Any = None, training: bool = False,
        momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor | None:  # fmt: skip
        if training or mean is None or variance is None or id(x) not in self._made:
            return None
        _, layer, args, kwargs = self._made[id(x)]
        if "weight" in kwargs or len(args) < 2 or (layer is F.linear and x.dim() != 2):
            return None
        inputs, layer_weight, *rest = args
        layer_bias = rest[0] if rest else kwargs.get("bias")
        scale = rsqrt(variance + eps)
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if layer_bias is None else (layer_bias - mean) * scale
        shift = shift if bias is None else shift + bias
        scaled = layer_weight * scale.view(-1, *[1] * (layer_weight.dim() - 1))
        others = {k: v for k, v in kwargs.items() if k != "bias"}
        return layer(inputs, scaled, shift, *rest[1:], **others)

    def _layer_norm(
        self, x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
    ) -> Tensor:
        normed = F.layer_norm(x, shape, None, None, eps)
        if weight is None:
            return normed
        out = normed * weight if bias is None else normed * weight + bias
        if len(shape) == 1:
            self._normed[id(out)] = out, normed, weight, bias
        return out

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Any, ...]:
        if id(x) not in self._normed:
            return x, weight, bias
        _, normed, scale, shift = self._normed[id(x)]
        if shift is not None:
            bias = weight @ shift if bias is None else weight @ shift + bias
        return normed, weight * scale, bias
