"""Norms of the weights: ‖w‖₂, and the distance ‖w − w₀‖₂ from the initial ones.

w is the whole parameter vector, biases and normalisation parameters included; sums are taken in float64.
Sources: Neyshabur et al. 2017 (arXiv 1706.08947); Hoffer et al. 2017 (arXiv 1705.08741) for the distance.
Both are exact: error 0.
"""

from landscape.errors import UndefinedError
from landscape.measures.row import Row, Subject
from landscape.methods.inner import norm


def norm_rows(subject: Subject) -> list[Row]:
    """‖w‖₂."""
    return [Row("norm ‖w‖₂", float(norm(subject.w)), 0.0)]


def distance_rows(subject: Subject) -> list[Row]:
    """‖w − w₀‖₂."""
    if subject.initial is None:
        raise UndefinedError(
            "the checkpoint records no initial weights, from which to take the distance. Leave out the measure "
            "distance, or give the initial weights."
        )
    return [Row("distance ‖w − w₀‖₂", float(norm(subject.w - subject.initial)), 0.0)]
