"""Which trainings can run as one batched program, and which of them together."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import fields

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from landscape.losses import IGNORED
from landscape.spec import TrainSpec
from landscape.training.ensemble_vmap import Stacked
from landscape.training.prepare import Training

LARGEST = 100_000
"""Parameters; a larger network keeps the processor busy on its own, and gains nothing from company."""

_OWN = {
    "learning_rate", "l2", "weight_decay", "rho", "clip_norm", "until_loss", "until_accuracy", "seed", "save_every",
}  # fmt: skip
_SHARED = {
    "epochs", "batch_size", "optimiser", "momentum", "nesterov", "adaptive", "eta", "schedule", "cosine_epochs",
    "warmup_epochs", "milestones", "step_factor", "label_smoothing",
}  # fmt: skip


def why_alone(model: nn.Module, spec: TrainSpec) -> str | None:
    """Why this training gains nothing from, or cannot be part of, `train_together`; None when it belongs there."""
    size = sum(p.numel() for p in model.parameters())
    if size > LARGEST:
        return f"the network has {size} parameters, and stacking pays for up to {LARGEST}"
    return why_not_stacked(model, spec)


def why_not_stacked(model: nn.Module, spec: TrainSpec) -> str | None:
    """Why this training cannot be batched with others; None when nothing is known against it."""
    for item in fields(spec):
        if item.name not in _OWN | _SHARED and getattr(spec, item.name) != item.default:
            return f"{item.name} = {getattr(spec, item.name)!r} has no batched form"
    if type(spec) is not TrainSpec:
        return f"a {type(spec).__name__} has no batched form"
    for name, module in model.named_modules():
        what = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if isinstance(module, _NormBase):  # instance norm and its kin among them: only their statistics forbid it
            if not isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats:
                continue
            return f"{what} keeps statistics of each batch; layer norm and group norm can be stacked"
        dropped = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
        if isinstance(module, nn.RReLU) or (isinstance(dropped, float) and dropped > 0):
            return f"{what} draws random numbers, which stacked members would draw differently"
        if isinstance(module, nn.RNNBase):
            return f"{what} has no batched form in torch"
    if not any(p.requires_grad for p in model.parameters()):
        return "it has no trainable parameters"
    return None


@torch.no_grad()
def why_not_traced(training: Training) -> str | None:
    """Why `vmap` refuses the model on two of its examples, or would lose what the model keeps; None when neither."""
    inputs, targets = (part[:2][None] for part in training.train)
    if targets.dtype == torch.int64 and bool((training.train[1] == IGNORED).any()):
        return "some targets are ignored, so that batches have different numbers of terms"
    stacked = Stacked([training])
    before = {name: buffer.clone() for name, buffer in stacked.network.named_buffers()}
    row = stacked.pack([training])
    try:
        stacked.gradient(row, inputs, targets, 1, torch.empty_like(row))
        outputs = stacked.outputs(row, inputs[0])
        stacked.score(outputs, targets)
        stacked.network.train()(inputs[0])  # outside vmap, where a changed buffer can be seen
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return f"torch cannot stack the model ({reason[:160]})"
    after = dict(stacked.network.named_buffers())
    if any(not torch.equal(before[name], after[name]) for name in before):
        return "the model changes its buffers while it trains"
    return None


def kind(spec: TrainSpec) -> Hashable:
    """Equal for trainings whose specs allow one stack: alike in all that is not per member."""
    others = tuple((item.name, getattr(spec, item.name)) for item in fields(spec) if item.name not in _OWN)
    return type(spec), others, spec.rho > 0, spec.clip_norm is None


def groups(trainings: Sequence[Training]) -> list[list[int]]:
    """Numbers of the trainings that can share a stack: of one architecture, and alike in all that is not per member."""
    found: dict[Hashable, list[int]] = {}
    for number, training in enumerate(trainings):
        key = (kind(training.spec), training.loss.name, _architecture(training.model))
        found.setdefault(key, []).append(number)
    return list(found.values())


def _architecture(model: nn.Module) -> Hashable:
    """Equal only for models that compute the same function of inputs, parameters and buffers."""
    modules = tuple((name, type(module), _settings(module)) for name, module in model.named_modules())
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return modules, tuple((name, x.shape, x.dtype, x.requires_grad) for name, x in named), _shared(named)


def _shared(named: Iterable[tuple[str, torch.Tensor]]) -> tuple[int, ...]:
    """For each tensor the position of its first appearance: which names are tied."""
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(id(tensor), place) for place, (_, tensor) in enumerate(named))


def _settings(module: nn.Module) -> Hashable:
    """What a module keeps besides parameters, buffers and modules; by identity where it has no plain value."""
    plain = {k: v for k, v in vars(module).items() if k not in _MACHINERY}
    hooks = tuple(id(h) for k in _HOOKS for h in vars(module).get(k, {}).values())
    return tuple(sorted((k, _value(v)) for k, v in plain.items())), hooks


def _value(value: object) -> str:
    if value is None or isinstance(value, bool | int | float | str | torch.Size | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(_value, value))})"
    return f"object {id(value)}"


_MACHINERY = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
