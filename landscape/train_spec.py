"""How a network is trained."""

from dataclasses import dataclass

from landscape.errors import illegal
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
    warmup_epochs: float = option(0.0, "linear warm-up, in epochs", minimum=0)
    milestones: tuple[int, ...] = option((), "epochs at which the step schedule multiplies by step_factor; repeat",
                                         minimum=1, flag="--milestone")  # fmt: skip
    step_factor: float = option(0.1, "factor of the step schedule", above=0, maximum=1)
    clip_norm: float | None = option(None, "clip the gradient's ℓ2 norm to this", above=0)
    precision: str = option("full", "arithmetic of the passes; weights and steps keep the model's dtype",
                            choices=("full", "bfloat16", "float16"))  # fmt: skip
    micro_batch: int | None = option(None, "at most so many examples in memory; gradients of the parts are summed",
                                     minimum=1)  # fmt: skip
    chunk: int | None = option(None, "sum gradients over chunks of so many examples, with one result to the last bit "
                               "whatever micro_batch", minimum=1)  # fmt: skip
    data_parallel: bool = option(False, "share each batch among the processes of torch.distributed")
    label_smoothing: float = option(0.0, "label smoothing of the cross-entropy", minimum=0, below=1)
    save_every: int = option(10, "keep a checkpoint every so many epochs (first and last always)", minimum=1)
    tensorboard: bool = option(False, "write TensorBoard event files")
    seed: int = option(0, "seed of initialisation, order of examples and dropout", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        per_rank = self.data_parallel and self.sam_sync == "rank"
        if self.sam_variant == "friendly" and (self.sam_shard is not None or per_rank):
            name, value = ("sam_sync", "rank") if per_rank else ("sam_shard", self.sam_shard)
            remedy = "Its mean gradient is of whole batches, which shards and ranks do not see; leave one of them out."
            raise illegal(name, value, "left out with the variant friendly", remedy)
        if self.chunk is not None and (self.micro_batch or self.chunk) % self.chunk:
            remedy = "Chunks are evaluated whole; choose a multiple, or leave one of them out."
            raise illegal("micro_batch", self.micro_batch, f"a multiple of chunk = {self.chunk}", remedy)

    @property
    def piece(self) -> int | None:
        """Examples of one forward and backward pass, None for the batch: the chunk, which micro_batch has room for."""
        return self.chunk or self.micro_batch


@dataclass(frozen=True)
class CurveTrainSpec(TrainSpec):
    """How to train a connecting curve: as a network, from the straight line, for fewer epochs."""

    epochs: int = option(30, "passes over the training data", minimum=1)
    learning_rate: float = option(0.05, "learning rate at the schedule's top", minimum=0, flag="--lr")
    schedule: str = option("cosine", "learning-rate schedule", choices=("constant", "cosine", "step"))
    seed: int = option(0, "seed of the points on the curve, the order of examples and dropout", minimum=0)
