"""Worst-case sharpness: how far the loss can rise in a ball around the weights, plain or adaptive, for each shard.

S_max = Σ_S (N_S/N)·[max_{‖δ⊙c⁻¹‖_p ≤ ρ} f_S(w + δ) − f_S(w)],   p = 2 or ∞,   c = 1 (plain) or |w| (adaptive)

The shards S are disjoint sets of m examples, drawn by a fixed permutation, and one set of all examples by default
(m-sharpness: Foret et al. 2021, arXiv 2010.01412). Weights of 0 do not move in adaptive balls. Adaptive values are
invariant under rescalings that leave a network the same function, plain ones are not: Andriushchenko et al. 2023
(arXiv 2302.07011), section 3, whose steepest ascent in the adaptive 2-norm is w²⊙g. The logits may be normalised.

certificate: evaluations (of a shard and its gradient, over all shards), shards, batched (whether several went
through the network at once), gap (what a first-order step still promises, relative to the value), converged
(gap ≤ 1e-3), walls (evaluations that were not finite and counted as −∞).
"""

import torch
from torch import Tensor

from landscape import seeds
from landscape.measures.logits import SUFFIX, with_normalised_logits
from landscape.measures.row import RESCALINGS, Row, Subject
from landscape.measures.shards import Group, groups_of, shards_of
from landscape.methods.ball import CONVERGED, ROWS, BallMaximum, maximise_in_ball
from landscape.methods.norm_balls import ball

_NORMS = {"l2": "l2", "linf": "l∞"}


def rows(subject: Subject) -> list[Row]:
    """One row for each geometry and radius; a larger radius never gives less."""
    spec, w = subject.spec, subject.w
    asked = (
        ("l2", False, spec.l2_rhos), ("linf", False, spec.linf_rhos),
        ("l2", True, spec.adaptive_l2_rhos), ("linf", True, spec.adaptive_linf_rhos),
    )  # fmt: skip
    if not any(radii for _, _, radii in asked):
        return []
    problem = with_normalised_logits(subject.problem) if spec.logit_normalisation else subject.problem
    shards = shards_of(problem, w, spec.shard, spec.measure_seed)
    groups = groups_of(shards, w, max(spec.starts + 2, ROWS))
    directions = _directions(w, spec.starts, spec.measure_seed)
    found = []
    for norm, adaptive, radii in asked:
        scale = w.abs() if adaptive else torch.ones_like(w)
        known: list[Tensor | None] = [None] * len(groups)
        at = {}
        for radius in sorted(set(radii)):
            name = f"worst-case {'adaptive ' if adaptive else ''}{_NORMS[norm]} ρ={radius:g}"
            name += (f" m={spec.shard}" if spec.shard else "") + (SUFFIX if spec.logit_normalisation else "")
            maxima = []
            for number, group in enumerate(groups):
                subject.watch(f"{name}, {number + 1} of {len(groups)}" if len(groups) > 1 else name)
                maximum = _maximum(group, norm, radius, scale, directions, known[number], spec.steps)
                known[number] = maximum.point
                maxima.append(maximum)
            at[radius] = _row(name, groups, maxima, adaptive)
        found += [at[radius] for radius in radii]
    return found


def _directions(w: Tensor, count: int, seed: int) -> Tensor:
    """The random starts, in units of c and of any length; drawn in float64, so that they are the same in float32."""
    found = w.new_empty(count, 1, len(w))
    for number in range(count):
        found[number] = seeds.gaussian(seeds.stream(seed, "worst-case", "start", number), 1, w.double())
    return found


def _maximum(
    group: Group, norm: str, radius: float, scale: Tensor, directions: Tensor, known: Tensor | None, steps: int
) -> BallMaximum:
    """known: the displacements of a smaller ball's maximum (shards, n), where this one begins too."""
    count = len(group.shards)
    starts = ball(norm, radius).to_boundary(directions * (scale > 0)).expand(-1, count, -1)
    if known is not None:
        starts = torch.cat([starts, torch.where(scale > 0, known / scale, 0)[None]])
    return maximise_in_ball(group, norm, radius, scale, count, starts, steps)


def _row(name: str, groups: list[Group], maxima: list[BallMaximum], adaptive: bool) -> Row:
    shares = torch.tensor([shard.size for group in groups for shard in group.shards], dtype=torch.float64)
    shares /= shares.sum()
    value = (shares @ torch.cat([maximum.value for maximum in maxima]).cpu()).item()
    gap = (shares @ torch.cat([maximum.gap for maximum in maxima]).cpu()).item()
    relative = 0.0 if gap == 0 else gap / value if value > 0 else float("inf")
    certificate = {
        "evaluations": sum(maximum.evaluations for maximum in maxima),
        "shards": len(shares),
        "batched": all(group.stacked is not None for group in groups),
        "gap": relative,
        "converged": relative <= CONVERGED,
        "walls": sum(maximum.walls for maximum in maxima),
    }
    return Row(name, value, certificate=certificate, invariant=RESCALINGS if adaptive else ())
