"""PAC-Bayes sharpness: how much noise the weights bear before the accuracy falls.

The largest σ with acc(w) − E[acc(w + u)] = `drop` over Gaussian noise u, reported as 1/σ²:

    PAC-Bayes                   u_i ~ N(0, σ²)
    PAC-Bayes magnitude-aware   u_i ~ N(0, σ²w_i²)

σ is a standard deviation (well-known code draws with σ² in its place). Batch norm is folded into the weights first
(`landscape.measures.folding`). The accuracy is that over all of the problem's examples; a sample is its mean over an
antithetic pair ±u, and pair i is the same at every σ. σ is found by `landscape.methods.crossing`.

Public code adds a small ε² to σ²w_i² (1e-3 squared in one), which moves weights of zero, and keeps the number from
being the same under rescalings of ReLU layers; without it, as here, it is. The first variant is not.
Sources: Neyshabur et al. 2017 (arXiv 1706.08947); Jiang et al. 2020 (arXiv 1912.02178), appendix C.

error: one standard error, a sixth of the interval. certificate: sigma, interval (each end decided by three standard
errors), converged (to `sigma_tolerance`), pairs, evaluations of the accuracy, accuracy, folded and
not_folded (names of batch norms).
"""

import math

from landscape import seeds
from landscape.errors import UndefinedError
from landscape.measures.folding import Folded, folded
from landscape.measures.row import RESCALINGS, Row, Subject
from landscape.methods.crossing import crossing
from landscape.methods.inner import norm

_START = 0.1
"""The first σ, relative to the weights' size."""


def rows(subject: Subject) -> list[Row]:
    """1/σ² for both kinds of noise."""
    if math.isnan(subject.accuracy):
        name = subject.problem.conditions()["loss"]
        raise UndefinedError(
            f"the loss {name} has no accuracy, by whose drop PAC-Bayes defines σ. Leave out the measure pac-bayes, or "
            "use a loss of classification by name (cross_entropy, nll, bce, …)."
        )
    if subject.accuracy <= subject.spec.drop:
        raise UndefinedError(
            f"drop = {subject.spec.drop} is not below the accuracy at the weights, {subject.accuracy:.4g}: no noise "
            "makes it fall as much. Take a smaller one."
        )
    found = folded(subject.problem, subject.w)
    weights = found.problem.weights
    size = float(norm(weights)) / len(weights) ** 0.5
    return [
        _row("PAC-Bayes 1/σ²", subject, found, _START * (size or 1.0), False),
        _row("PAC-Bayes magnitude-aware 1/σ²", subject, found, _START, True),
    ]


def _row(name: str, subject: Subject, found: Folded, start: float, aware: bool) -> Row:
    problem, spec = found.problem, subject.spec
    w, accuracy = problem.weights, problem.evaluate(problem.weights).accuracy

    def sample(sigma: float, number: int) -> float:
        subject.watch(f"σ = {sigma:.3g}, pair {number + 1}")
        noise = seeds.gaussian(seeds.stream(spec.measure_seed, "pac-bayes", number), 1, w)[0]
        noise.mul_(w * sigma if aware else sigma)
        return accuracy - (problem.evaluate(w + noise).accuracy + problem.evaluate(w - noise).accuracy) / 2

    at = crossing(sample, spec.drop, start, spec.sigma_tolerance, spec.max_pairs)
    if math.isinf(at.upper):
        raise UndefinedError(
            f"drop = {spec.drop} is not a drop that noise causes here: even at σ = {at.lower:.3g} the accuracy "
            f"{accuracy:.4g} does not surely fall as much. Take a smaller one, or more of max_pairs."
        )
    sigma = at.middle
    value = sigma**-2 if sigma > 0 else math.inf
    certificate = {
        "sigma": sigma, "interval": [at.lower, at.upper], "converged": at.converged, "pairs": at.samples,
        "evaluations": 2 * at.samples, "accuracy": accuracy, "drop": spec.drop,
        "folded": list(found.merged), "not_folded": list(found.left),
    }  # fmt: skip
    error = 2 * value * at.relative_error if at.lower > 0 else math.nan
    return Row(name, value, error, certificate, RESCALINGS if aware else () if found.left else ("batch-norm",))
