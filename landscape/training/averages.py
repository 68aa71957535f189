"""Averages of the weights kept beside the training: exponential (EMA) and equal over epoch ends (SWA)."""

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape.aliases import Batch
from landscape.batch_norms import recomputed, with_statistics
from landscape.spec import TrainSpec


class Averages:
    """The averages that a spec asks for, of one model that is being trained; `models` are those begun, in eval mode.

    ema, after every step: w̄ ← d·w̄ + (1 − d)·w, from w̄ = w after the first one; floating-point buffers, such as
    batch-norm statistics, alike (`torch.optim.swa_utils.get_ema_multi_avg_fn`, with buffers). swa, after every epoch
    from `swa_from`: the equal average of the weights at the ends of these epochs, with batch-norm statistics
    recomputed on the training data (Izmailov et al. 2018, arXiv 1803.05407, section 3.2). Neither touches the
    training itself.
    """

    def __init__(self, model: nn.Module, spec: TrainSpec) -> None:
        self._model, self._spec = model, spec
        asked = {"ema": spec.ema, "swa": spec.swa_from}
        # Copied before the training begins, which may put other forwards into the model.
        self._copies = {kind: _frozen_copy(model) for kind, value in asked.items() if value is not None}
        self.models: dict[str, nn.Module] = {}

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the weights after a step of the optimiser into the exponential average."""
        if self._spec.ema is None:
            return
        if "ema" not in self.models:
            self._begin("ema", self._model.state_dict())
            return
        for mean, value in self._pairs("ema"):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - self._spec.ema)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def after_epoch(self, epoch: int, batches: Callable[[], Iterable[Batch]]) -> None:
        """Take the weights at the end of an epoch into the equal average; batches() are of the training data."""
        if self._spec.swa_from is None or epoch < self._spec.swa_from:
            return
        if "swa" not in self.models:
            self._begin("swa", self._model.state_dict())
        else:
            count = epoch - self._spec.swa_from + 1
            for mean, value in zip(self.models["swa"].parameters(), self._model.parameters(), strict=True):
                mean.add_((value - mean) / count)
        model = self.models["swa"]
        if with_statistics(model):
            found = recomputed(model, lambda own, inputs: functional_call(model, dict(own), inputs), batches())
            own = dict(model.named_buffers())
            for name, values in found.items():
                own[name].copy_(values)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, by `<average>.<name in the model's state dict>`."""
        return {f"{kind}.{k}": v for kind, model in self.models.items() for k, v in model.state_dict().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `state`."""
        for kind in ("ema", "swa"):
            own = {k.removeprefix(f"{kind}."): v for k, v in tensors.items() if k.startswith(f"{kind}.")}
            if own:
                self._begin(kind, own)

    def _begin(self, kind: str, state: Mapping[str, Tensor]) -> None:
        self._copies[kind].load_state_dict(state)
        self.models[kind] = self._copies[kind]

    def _pairs(self, kind: str) -> Iterable[tuple[Tensor, Tensor]]:
        yield from zip(self.models[kind].parameters(), self._model.parameters(), strict=True)
        yield from zip(self.models[kind].buffers(), self._model.buffers(), strict=True)


def _frozen_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False).eval()
