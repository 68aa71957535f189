"""What a training starts from: a copy of the model, its optimiser, the data on one device; all checked."""

import copy
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from landscape import seeds
from landscape.batch_norms import batch_norms
from landscape.data import loss_of_task
from landscape.errors import InputError, illegal
from landscape.losses import Loss, loss_by_name, prediction
from landscape.spec import TrainSpec
from landscape.training import foreach
from landscape.training.augment import check_images
from landscape.training.averages import Averages
from landscape.training.norm_layers import norm_parameters
from landscape.training.optimisers import optimiser
from landscape.training.processes import check_group, copy_from_first
from landscape.training.schedule import schedule
from landscape.training.step_state import StepState, step_state


@runtime_checkable
class Split(Protocol):
    """Examples along the first axis of both tensors."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def targets(self) -> Tensor: ...


@runtime_checkable
class Data(Protocol):
    """What the trainer needs of a data set; `landscape.data.Dataset` has it."""

    @property
    def train(self) -> Any: ...
    @property
    def test(self) -> Any: ...
    @property
    def task(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str | None: ...


@dataclass(frozen=True)
class Training:
    """A model being trained, and everything the loop needs; `initial` are copies of the parameters at w₀.

    `objective` is the loss with label smoothing, `loss` without; both sum over the batch. `sizes` are the
    numbers of examples of the first epoch's batches, `sizes_of(epoch)` those of any, `smallest` the examples that
    the model needs in one forward pass. `ascending` are the parameters in which SAM ascends, `state` is what a step
    hands on to the next, `averages` the averages of the weights that are kept.
    """

    model: nn.Module
    spec: TrainSpec
    optimiser: Optimizer
    parameters: list[nn.Parameter]
    initial: list[Tensor]
    objective: Loss
    loss: Loss
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    sizes: list[int]
    device: torch.device
    averages: Averages
    smallest: int = 1
    ascending: list[nn.Parameter] = field(default_factory=list)
    state: StepState = field(default_factory=StepState)

    def sizes_of(self, epoch: int) -> list[int]:
        """Sizes of the batches of an epoch, 1, 2, …; of B·f^k examples after k milestones of the batch size.

        A growing batch in place of a falling learning rate: Smith et al. 2018 (arXiv 1711.00489).
        """
        grown = sum(epoch > m for m in self.spec.adapted().batch_milestones)
        if not grown:
            return self.sizes
        size = round(self.spec.batch_size * self.spec.batch_factor**grown)
        return batch_sizes(len(self.train[1]), size, self.smallest)

    @property
    def radius(self) -> float:
        """SAM's ρ at the learning rate that the optimiser has now."""
        return self.spec.radius(self.optimiser.param_groups[0]["lr"])

    @property
    def steps(self) -> list[int]:
        """Optimiser steps in each epoch."""
        epochs = self.spec.adapted().epochs
        if not self.spec.batch_milestones:
            return [len(self.sizes)] * epochs
        return [len(self.sizes_of(epoch)) for epoch in range(1, epochs + 1)]


def prepare(
    model: nn.Module, data: Data, spec: TrainSpec, loss: str | None = None, device: str | torch.device = "cpu"
) -> Training:
    """A training of a copy of `model`, in the model's own dtype, on `device`.

    loss: one by name (`landscape.losses`); by default cross_entropy for classification, token_cross_entropy
    for language and mse for regression.

    Raises `InputError` when there is nothing to train or to train on, when the model does not take the
    data, and for a batch size of 1 with batch norm.
    """
    try:
        device = torch.device(device)
        model = copy.deepcopy(model).to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device = {str(device)!r} cannot be used ({str(error).splitlines()[0]}). Try cpu.") from None
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("the model has no trainable parameters. Call requires_grad_(True) on those to train.")
    name = loss or loss_of_task(data.task)
    train, test = (_placed(split, device, parameters[0].dtype) for split in (data.train, data.test))
    if spec.ghost_batch is not None and not batch_norms(model):
        raise illegal("ghost_batch", spec.ghost_batch, "left out for a model without batch norm", "It has no effect.")
    check_images(spec, train[0])
    if spec.adversarial_share and not train[0].is_floating_point():
        raise illegal(
            "adversarial_share", spec.adversarial_share, "0 for whole-number inputs",
            "Tokens cannot be moved a little.",
        )  # fmt: skip
    smallest = 2 if batch_norms(model) else 1
    training = Training(
        model, spec, optimiser(spec, parameters), parameters, [p.detach().clone() for p in parameters],
        loss_by_name(name, spec.label_smoothing), loss_by_name(name),
        train, test, batch_sizes(len(train[1]), spec.batch_size, smallest), device, Averages(model, spec),
        smallest, _ascending(model, spec, parameters), step_state(spec, device),
    )  # fmt: skip
    _check_parts(spec, smallest)
    if spec.data_parallel:
        check_group((size for epoch in range(len(training.steps)) for size in training.sizes_of(epoch + 1)), smallest)
        copy_from_first(model)
        foreach.copy_(training.initial, [p.detach() for p in parameters])
    if spec.until_accuracy is not None and training.loss.hits is None:
        raise illegal(
            "until_accuracy", spec.until_accuracy, f"left out for {data.task}, which has no accuracy", "Use until_loss."
        )
    schedule(spec, training.steps)
    _try_first_examples(training, data)
    return training


def _ascending(model: nn.Module, spec: TrainSpec, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters in which SAM ascends."""
    if not spec.sam_norms_only or spec.rho == 0:
        return parameters
    found = norm_parameters(model)
    if not found:
        remedy = "Leave it out, or choose a model with batch, layer, group or RMS norm."
        raise illegal("sam_norms_only", True, "False for a model whose norms have no trainable parameters", remedy)
    return found


def _check_parts(spec: TrainSpec, smallest: int) -> None:
    """Parts of a batch must be as large as the model needs them."""
    for name in ("sam_shard", "micro_batch", "chunk"):
        value = getattr(spec, name)
        if value is not None and value < smallest:
            remedy = "One example has no variance to normalise by."
            raise illegal(name, value, f"at least {smallest} for a model with batch norm", remedy)


def _placed(split: Any, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    def place(x: Tensor) -> Tensor:
        return x.to(device, dtype) if x.is_floating_point() else x.to(device)

    return place(split.inputs), place(split.targets)


def batch_sizes(examples: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Sizes of an epoch's batches: all `batch_size` but the last, which has the rest.

    A rest below `smallest` joins the batch before it: batch norm cannot normalise one example, and no
    example shall be left out.
    """
    if examples == 0:
        raise InputError("the training data have no examples. Check the data set and its filters.")
    if min(examples, batch_size) < smallest:
        raise illegal(
            "batch_size", min(examples, batch_size), f"at least {smallest} for a model with batch norm",
            "One example has no variance to normalise by.",
        )  # fmt: skip
    sizes = [batch_size] * (examples // batch_size)
    rest = examples % batch_size
    if 0 < rest < smallest and sizes:
        sizes[-1] += rest
    elif rest:
        sizes.append(rest)
    return sizes


@torch.no_grad()
def _try_first_examples(training: Training, data: Data) -> None:
    """One line instead of a traceback when model, data and loss do not fit together."""
    inputs, targets = (x[:2] for x in training.train)
    labels = training.train[1]
    try:
        with seeds.global_stream(0, "trial"):
            outputs = prediction(copy.deepcopy(training.model).eval()(inputs))
        axis = training.loss.class_axis
        classes = outputs.shape[axis] if axis is not None else None
        if classes is not None and not labels.is_floating_point() and labels.max() >= classes:
            raise InputError(
                f"the data {data.name} have classes up to {labels.max().item()}, and the model has {classes} "
                "outputs. Give the model as many outputs as there are classes."
            )
        training.loss(outputs, targets)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"the model does not fit the data {data.name} (inputs {tuple(inputs.shape[1:])}, loss "
            f"{training.loss.name}): {reason}. Choose another model or its arguments."
        ) from None
