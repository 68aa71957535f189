"""How a network is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Self

from landscape.errors import illegal
from landscape.fields import Spec, option

_BEFORE_L2 = {"optimiser", "weight_decay", "rho", "schedule", "label_smoothing", "save_every", "tensorboard", "seed"}
"""Fields that every whole record has; one without `l2` was written when `weight_decay` could mean that."""


@dataclass(frozen=True)
class TrainSpec(Spec):
    """How to train: optimiser, sharpness-aware step, schedule, regularisation, length.

    A whole record written before there was `l2` keeps its meaning: its weight_decay of sgd and adam is l2 here.
    """

    epochs: int = option(50, "passes over the training data", minimum=1)
    until_loss: float | None = option(None, "stop after the epoch whose mean training loss is no larger than this",
                                      above=0)  # fmt: skip
    until_accuracy: float | None = option(None, "stop after the epoch whose training accuracy is at least this",
                                          above=0, maximum=1)  # fmt: skip
    batch_size: int = option(32, "examples in a step", minimum=1)
    batch_milestones: tuple[int, ...] = option((), "epochs after which the batch grows by batch_factor; repeat",
                                               minimum=1, flag="--batch-milestone")  # fmt: skip
    batch_factor: float = option(2.0, "factor of the batch size at each of batch_milestones", above=1)
    base_batch_size: int | None = option(None, "batch size B0 that the learning rate and the epochs are meant for",
                                         minimum=1)  # fmt: skip
    lr_scaling: str = option("none", "learning rate times B/B0 (linear) or its root (sqrt), B0 = base_batch_size",
                             choices=("none", "linear", "sqrt"))  # fmt: skip
    regime_adaptation: bool = option(False, "every number of epochs times B/B0, rounded up: as many updates as at B0")
    ghost_batch: int | None = option(None, "batch norm normalises chunks of so many examples (ghost batch norm)",
                                     minimum=2)  # fmt: skip
    optimiser: str = option("sgd", "base optimiser", choices=("sgd", "adam", "adamw"))
    learning_rate: float = option(0.1, "learning rate at the schedule's top", minimum=0, flag="--lr")
    momentum: float = option(0.9, "momentum of SGD", minimum=0, below=1)
    nesterov: bool = option(False, "Nesterov momentum")
    l2: float = option(0.0, "L2 penalty: λ of λ/2·‖w‖², whose gradient the optimiser sees", minimum=0)
    weight_decay: float = option(0.0, "decoupled weight decay λ: w − lr·λ·w beside the step, any optimiser", minimum=0)
    rho: float = option(0.0, "SAM's radius ρ; 0 is the plain optimiser", minimum=0)
    rho_min: float | None = option(None, "ρ falls with the learning rate from rho to this at rate 0 (GSAM); default: ρ "
                                   "stays", minimum=0)  # fmt: skip
    adaptive: bool = option(False, "ASAM: scale the ascent by |w| + eta")
    eta: float = option(0.01, "ASAM's η", minimum=0)
    sam_variant: str = option("sam", "how SAM uses its two gradients", choices=("sam", "gsam", "friendly"))
    gsam_alpha: float = option(0.4, "GSAM's α: weight of the gradient's part that ascent does not see", minimum=0)
    friendly_sigma: float = option(1.0, "Friendly-SAM's σ: share of the mean gradient that the ascent leaves out",
                                   minimum=0)  # fmt: skip
    friendly_decay: float = option(0.9, "Friendly-SAM's λ: decay of the mean gradient", minimum=0, below=1)
    sam_shard: int | None = option(None, "m-SAM: shards of so many examples in a batch, each with its own ascent",
                                   minimum=1)  # fmt: skip
    sam_every: int = option(1, "SAM in every so many steps, plain steps between", minimum=1)
    sam_norms_only: bool = option(False, "ascend in the parameters of normalisation layers alone")
    sam_same_mask: bool = option(True, "the same dropout masks in both passes of SAM")
    sam_sync: str = option("same", "data parallel: one ascent of all processes, or one per rank along its own gradient",
                           choices=("same", "rank"))  # fmt: skip
    schedule: str = option("constant", "learning-rate schedule", choices=("constant", "cosine", "step"))
    cosine_epochs: float | None = option(None, "epochs in which the cosine falls to 0, then rising again for as long; "
                                         "default: all", above=0)  # fmt: skip
    warmup_epochs: float = option(0.0, "linear warm-up, in epochs", minimum=0)
    milestones: tuple[int, ...] = option((), "epochs at which the step schedule multiplies by step_factor; repeat",
                                         minimum=1, flag="--milestone")  # fmt: skip
    step_factor: float = option(0.1, "factor of the step schedule", above=0, maximum=1)
    clip_norm: float | None = option(None, "clip the gradient's ℓ2 norm to this", above=0)
    gradient_noise: float = option(0.0, "η of noise N(0, η/(1 + step)^gradient_noise_decay) on the gradient", minimum=0)
    gradient_noise_decay: float = option(0.55, "exponent γ with which gradient_noise falls", minimum=0)
    conservative: float = option(0.0, "λ of conservative training's λ/2·‖w − w_k‖²; 0 is plain", minimum=0)
    conservative_steps: int = option(3, "inner steps of conservative training on each batch", minimum=1)
    adversarial_share: float = option(0.0, "share s of the loss on adversarial examples, 1 − s on clean ones",
                                      minimum=0, maximum=1)  # fmt: skip
    adversarial_epsilon: float = option(0.1, "how far adversarial inputs move, in units of normalised inputs", above=0)
    augment: tuple[str, ...] = option((), "change training images at random in each step; repeat",
                                      choices=("affine", "crop", "flip", "cutout"))  # fmt: skip
    rotation: float = option(10.0, "largest angle of augment affine, degrees", minimum=0, maximum=180)
    translation: float = option(0.2, "largest shift of augment affine, as a share of the side", minimum=0, below=1)
    crop_padding: int = option(4, "pixels of zeros around the image that augment crop cuts from", minimum=1)
    cutout_size: int = option(8, "side of the square that augment cutout sets to zero, pixels", minimum=1)
    ema: float | None = option(None, "also keep an exponential average of the weights with this decay, say 0.999",
                               above=0, below=1)  # fmt: skip
    swa_from: int | None = option(None, "also keep the equal average of the weights at epoch ends from this epoch on",
                                  minimum=1)  # fmt: skip
    precision: str = option("full", "arithmetic of the passes; weights and steps keep the model's dtype",
                            choices=("full", "bfloat16", "float16"))  # fmt: skip
    micro_batch: int | None = option(None, "at most so many examples in memory; gradients of the parts are summed",
                                     minimum=1)  # fmt: skip
    chunk: int | None = option(None, "sum gradients over chunks of so many examples, with one result to the last bit "
                               "whatever micro_batch", minimum=1)  # fmt: skip
    data_parallel: bool = option(False, "share each batch among the processes that torchrun started")
    label_smoothing: float = option(0.0, "label smoothing of the cross-entropy", minimum=0, below=1)
    save_every: int = option(10, "keep a checkpoint every so many epochs (first and last always)", minimum=1)
    tensorboard: bool = option(False, "write TensorBoard event files")
    seed: int = option(0, "seed of initialisation, order of examples and dropout", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_batch_size is None and (self.regime_adaptation or self.lr_scaling != "none"):
            raise illegal(
                "base_batch_size", None, "a batch size with lr_scaling or regime_adaptation",
                "It is the one that the learning rate and the epochs are meant for.",
            )  # fmt: skip
        if self.rho_min is not None and self.rho_min > self.rho:
            raise illegal("rho_min", self.rho_min, f"at most rho = {self.rho:g}", "ρ falls from rho to rho_min.")
        if self.swa_from is not None and self.swa_from > self.adapted().epochs:
            raise illegal("swa_from", self.swa_from, f"at most epochs = {self.adapted().epochs}", "Average earlier.")
        if len(set(self.augment)) < len(self.augment):
            raise illegal("augment", self.augment, "a list of different kinds", "Name each once.")
        per_rank = self.data_parallel and self.sam_sync == "rank"
        if self.sam_variant == "friendly" and (self.sam_shard is not None or per_rank):
            name, value = ("sam_sync", "rank") if per_rank else ("sam_shard", self.sam_shard)
            remedy = "Its mean gradient is of whole batches, which shards and ranks do not see; leave one of them out."
            raise illegal(name, value, "left out with the variant friendly", remedy)
        if self.chunk is not None and (self.micro_batch or self.chunk) % self.chunk:
            remedy = "Chunks are evaluated whole; choose a multiple, or leave one of them out."
            raise illegal("micro_batch", self.micro_batch, f"a multiple of chunk = {self.chunk}", remedy)
        alone = self.precision == "full" and not self.data_parallel and self.piece is None
        if self.adversarial_share and (self.sam_variant == "friendly" or not alone):
            raise illegal(
                "adversarial_share", self.adversarial_share,
                "0 with data_parallel, micro_batch, chunk, a precision other than full, and the variant friendly",
                "Adversarial examples are made of whole batches, and each part of the loss has a gradient of its own.",
            )  # fmt: skip

    @property
    def piece(self) -> int | None:
        """Examples of one forward and backward pass, None for the batch: the chunk, which micro_batch has room for."""
        return self.chunk or self.micro_batch

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        if "l2" not in values and values.keys() >= _BEFORE_L2 and values["optimiser"] != "adamw":
            values = {**values, "l2": values["weight_decay"], "weight_decay": 0.0}
        return super().from_dict(values)

    def radius(self, rate: float) -> float:
        """SAM's ρ in a step with this learning rate: ρ_min + (ρ − ρ_min)·rate/top, with `rho_min`, else ρ.

        top is `scaled_rate`, and the rate at the schedule's end is 0: Zhuang et al. 2022 (arXiv 2203.08065, algorithm
        1, whose ρ_max is rho). Warm-up raises ρ with the rate.
        """
        if self.rho_min is None or self.scaled_rate == 0:
            return self.rho
        return self.rho_min + (self.rho - self.rho_min) * rate / self.scaled_rate

    def adapted(self) -> Self:
        """The spec with regime adaptation carried out: epochs, warm-up and milestones times ⌈B/B₀⌉.

        So that a large batch makes as many updates as B₀ would: Hoffer et al. 2017 (arXiv 1705.08741, section 5).
        Milestones of the batch size are stretched too; swa_from counts the epochs that there really are.
        """
        if not self.regime_adaptation:
            return self
        assert self.base_batch_size is not None
        k = ceil(self.batch_size / self.base_batch_size)
        return replace(
            self, regime_adaptation=False, epochs=k * self.epochs, warmup_epochs=k * self.warmup_epochs,
            cosine_epochs=None if self.cosine_epochs is None else k * self.cosine_epochs,
            milestones=tuple(k * m for m in self.milestones),
            batch_milestones=tuple(k * m for m in self.batch_milestones),
        )  # fmt: skip

    @property
    def scaled_rate(self) -> float:
        """The learning rate at the schedule's top: lr, lr·B/B₀ (linear) or lr·√(B/B₀) (sqrt).

        Linear: Goyal et al. 2017 (arXiv 1706.02677, section 2.1); sqrt: Hoffer et al. 2017 (arXiv 1705.08741,
        section 4). B is batch_size, that of the first epoch.
        """
        if self.lr_scaling == "none" or self.base_batch_size is None:
            return self.learning_rate
        ratio = self.batch_size / self.base_batch_size
        return self.learning_rate * (ratio if self.lr_scaling == "linear" else ratio**0.5)


@dataclass(frozen=True)
class CurveTrainSpec(TrainSpec):
    """How to train a connecting curve: as a network, from the straight line, for fewer epochs."""

    epochs: int = option(30, "passes over the training data", minimum=1)
    learning_rate: float = option(0.05, "learning rate at the schedule's top", minimum=0, flag="--lr")
    schedule: str = option("cosine", "learning-rate schedule", choices=("constant", "cosine", "step"))
    seed: int = option(0, "seed of the points on the curve, the order of examples and dropout", minimum=0)
