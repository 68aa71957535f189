"""What can be asked about the way from one minimum to another: along the straight line, and along a trained curve."""

from dataclasses import dataclass

from landscape.errors import illegal
from landscape.fields import Spec, option


@dataclass(frozen=True)
class PathSpec(Spec):
    """Which paths between two checkpoints are measured, at how many points, and how sharply their maxima are found."""

    points: int = option(25, "points along each path, its ends included", minimum=3)
    batch_norm: tuple[str, ...] = option(("interpolated", "recomputed"), "batch-norm statistics at each point: those "
                                         "of the ends, interpolated; of the first end; or recomputed on the training "
                                         "data; one path for each, repeat",
                                         choices=("interpolated", "running", "recomputed"))  # fmt: skip
    recompute_examples: int | None = option(None, "training examples for recomputed statistics; default all", minimum=2)
    align: str = option("none", "measure also the line to the second checkpoint with its hidden units permuted to "
                        "match the first's, by their weights or their activations",
                        choices=("none", "weights", "activations"))  # fmt: skip
    tolerance: float = option(0.01, "add points around each maximum until the loss barriers are known to this share of "
                              "themselves", above=0, below=1)  # fmt: skip
    refinements: int = option(12, "most points added to each path for that", minimum=0)
    seed: int = option(0, "seed of the alignment's random orders", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.batch_norm)) < len(self.batch_norm):
            raise illegal("batch_norm", self.batch_norm, "policies that differ", "Name each once.")


@dataclass(frozen=True)
class CurveSpec(Spec):
    """A curve from one checkpoint to another whose interior control points are trained (Garipov et al. 2018)."""

    kind: str = option("bezier", "Bézier curve (quadratic with one bend), or polygonal chain",
                       choices=("bezier", "chain"))  # fmt: skip
    bends: int = option(1, "trained control points between the two ends", minimum=1)


@dataclass(frozen=True)
class AlignSpec(Spec):
    """How the hidden units of one network are matched with those of another."""

    how: str = option("weights", "match units by their weights, or by the correlation of their activations on data",
                      choices=("weights", "activations"))  # fmt: skip
    restarts: int = option(5, "weights: ascents in random orders of the groups, of which the best counts", minimum=1)
    match_examples: int | None = option(None, "activations: examples that units are compared on; default all",
                                        minimum=2)  # fmt: skip
    seed: int = option(0, "weights: seed of the random orders", minimum=0)
