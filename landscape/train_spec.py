"""How a network is trained."""

from dataclasses import dataclass

from landscape.fields import Spec, option


@dataclass(frozen=True)
class TrainSpec(Spec):
    """How to train: optimiser, sharpness-aware step, schedule, regularisation, length."""

    epochs: int = option(50, "passes over the training data", minimum=1)
    until_loss: float | None = option(None, "stop after the epoch whose mean training loss is no larger than this",
                                      above=0)  # fmt: skip
    batch_size: int = option(32, "examples in a step", minimum=1)
    optimiser: str = option("sgd", "base optimiser", choices=("sgd", "adam", "adamw"))
    learning_rate: float = option(0.1, "learning rate at the schedule's top", minimum=0, flag="--lr")
    momentum: float = option(0.9, "momentum of SGD", minimum=0, below=1)
    nesterov: bool = option(False, "Nesterov momentum")
    weight_decay: float = option(0.0, "L2 penalty in sgd and adam; decoupled in adamw", minimum=0)
    rho: float = option(0.0, "SAM's radius ρ; 0 is the plain optimiser", minimum=0)
    adaptive: bool = option(False, "ASAM: scale the ascent by |w| + eta")
    eta: float = option(0.01, "ASAM's η", minimum=0)
    schedule: str = option("constant", "learning-rate schedule", choices=("constant", "cosine", "step"))
    warmup_epochs: float = option(0.0, "linear warm-up, in epochs", minimum=0)
    milestones: tuple[int, ...] = option((), "epochs at which the step schedule multiplies by step_factor; repeat",
                                         minimum=1, flag="--milestone")  # fmt: skip
    step_factor: float = option(0.1, "factor of the step schedule", above=0, maximum=1)
    clip_norm: float | None = option(None, "clip the gradient's ℓ2 norm to this", above=0)
    label_smoothing: float = option(0.0, "label smoothing of the cross-entropy", minimum=0, below=1)
    save_every: int = option(10, "keep a checkpoint every so many epochs (first and last always)", minimum=1)
    tensorboard: bool = option(False, "write TensorBoard event files")
    seed: int = option(0, "seed of initialisation, order of examples and dropout", minimum=0)


@dataclass(frozen=True)
class CurveTrainSpec(TrainSpec):
    """How to train a connecting curve: as a network, from the straight line, for fewer epochs."""

    epochs: int = option(30, "passes over the training data", minimum=1)
    learning_rate: float = option(0.05, "learning rate at the schedule's top", minimum=0, flag="--lr")
    schedule: str = option("cosine", "learning-rate schedule", choices=("constant", "cosine", "step"))
    seed: int = option(0, "seed of the points on the curve, the order of examples and dropout", minimum=0)
