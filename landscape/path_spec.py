"""What can be asked about how minima are connected."""

from dataclasses import dataclass

from landscape.fields import Spec, option


@dataclass(frozen=True)
class AlignSpec(Spec):
    """How the hidden units of one network are matched with those of another."""

    how: str = option("weights", "match units by their weights, or by the correlation of their activations on data",
                      choices=("weights", "activations"))  # fmt: skip
    restarts: int = option(5, "weights: ascents in random orders of the groups, of which the best counts", minimum=1)
    match_examples: int | None = option(None, "activations: examples that units are compared on; default all",
                                        minimum=2)  # fmt: skip
    seed: int = option(0, "weights: seed of the random orders", minimum=0)
