"""What can be asked about the shape of basins on a scan of the loss."""

from dataclasses import dataclass

from landscape.fields import Spec, option


@dataclass(frozen=True)
class BasinSpec(Spec):
    """At which heights above its bottom a basin is measured, and of which quantity."""

    increases: tuple[float, ...] = option((0.01, 0.1, 1.0), "measure at bottom + increase; repeat", above=0,
                                          flag="--increase")  # fmt: skip
    factors: tuple[float, ...] = option((), "measure at bottom × factor, too; repeat", above=1, flag="--factor")
    quantity: str = option("train loss", "what the basin is one of: train loss, test loss or another name in the scan")

    @property
    def rises(self) -> tuple[str, ...]:
        """The heights in words: "+0.1" for an increase, "×2" for a factor."""
        return (*(f"+{h:g}" for h in self.increases), *(f"×{c:g}" for c in self.factors))
