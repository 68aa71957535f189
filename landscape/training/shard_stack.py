"""SAM on several shards of one size as one batched program."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from landscape.losses import prediction
from landscape.training.outcome import Average
from landscape.training.prepare import Training
from landscape.training.sam import random_state

_NUMBERS = 2**26
"""Numbers in a stack of gradients: 256 MiB of float32."""


def stackable(training: Training, size: int) -> int:
    """How many shards of `size` examples may be evaluated together; 1 where they must be taken one by one.

    Together they must fit in `micro_batch` and in memory. A model with buffers might move them, and GSAM, chunks and
    autocast are defined by passes over one shard.
    """
    spec = training.spec
    plain = spec.sam_variant == "sam" and spec.precision == "full" and spec.chunk is None
    if not plain or not training.state.stacks or any(True for _ in training.model.buffers()):
        return 1
    numbers = sum(p.numel() for p in training.parameters)
    return max(1, min((spec.micro_batch or spec.batch_size) // size, _NUMBERS // numbers))


def sharpness_aware_stack(
    training: Training, shards: Sequence[tuple[Tensor, Tensor]], counts: Sequence[int], average: Average
) -> list[Tensor] | None:
    """∇f_s(w + ε̂_s) of every shard s, stacked along a first axis for each parameter; ε̂_s as in `sam.ascended`.

    None where torch cannot batch the model, because it draws random numbers or branches on values, for example; this
    is remembered in the training's state. `average` gets the outputs at w.
    """
    spec, model = training.spec, training.model
    names = {id(p): name for name, p in model.named_parameters()}
    weights = {names[id(p)]: p.detach() for p in training.parameters}
    ascending = {names[id(p)] for p in training.ascending}
    x, y = (torch.stack(column) for column in zip(*shards, strict=True))
    n = training.parameters[0].new_tensor(counts, requires_grad=False)

    def loss(w: Mapping[str, Tensor], x: Tensor, y: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        outputs = prediction(functional_call(model, dict(w), (x,)))
        return training.objective(outputs, y) / n, outputs

    axes = {name: 0 if name in ascending else None for name in weights}
    rewind = random_state(training.device)
    try:
        first, outputs = vmap(grad(loss, has_aux=True), (None, 0, 0, 0))(weights, x, y, n)
        steps = _ascents({name: first[name] for name in ascending}, weights, training.radius, spec.adaptive, spec.eta)
        points = {name: w + steps[name] if name in steps else w for name, w in weights.items()}
        second, _ = vmap(grad(loss, has_aux=True), (axes, 0, 0, 0))(points, x, y, n)
    except RuntimeError:
        rewind()
        training.state.stacks = False
        return None
    average.add(outputs.detach().flatten(0, 1), y.flatten(0, 1), 0)
    return [second[names[id(p)]] for p in training.parameters]


def _ascents(
    gradients: Mapping[str, Tensor], weights: Mapping[str, Tensor], rho: float, adaptive: bool, eta: float
) -> dict[str, Tensor]:
    """ε̂ of every shard, by name of the parameter and stacked as the gradients are."""
    scales = {k: weights[k].abs() + eta if adaptive and weights[k].dim() > 1 else None for k in gradients}
    scaled = {k: g if (t := scales[k]) is None else g * t for k, g in gradients.items()}
    norms = torch.stack([(g * g).flatten(1).sum(1) for g in scaled.values()]).sum(0).sqrt()
    factors = rho / (norms + 1e-12)
    return {
        k: (g if (t := scales[k]) is None else g * t) * factors.view(-1, *[1] * weights[k].dim())
        for k, g in scaled.items()
    }
