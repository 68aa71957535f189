"""The Fisher-Rao norm ⟨w, F w⟩, F the Fisher matrix of the model's predictive distribution at w.

    F = (1/N) Σ_i E_{y ~ p(·|x_i; w)} [∇log p(y|x_i) ∇log p(y|x_i)ᵀ] = (1/N) Σ_i J_iᵀ H_i J_i,

the expectation over the model's own targets in closed form, without sampling: for the losses by name, which are
negative log-likelihoods, it is the generalised Gauss-Newton matrix (`Problem.ggn`). It is neither the Fisher matrix of
the data's targets nor the Hessian. Squared error is taken as the likelihood that `landscape.likelihoods` says.
Liang et al. call this number the square of the norm. Source: Liang, Poggio, Rakhlin & Stokes 2019 (arXiv 1711.01530),
section 3.

Any rescaling w → Tw of the parameters that leaves the function the same changes F to T⁻¹FT⁻¹, and not the number.
error: one standard error, the examples taken as a random sample: from about 32 groups of them.
"""

from landscape.errors import UndefinedError
from landscape.hessian import standard_errors
from landscape.measures.row import RESCALINGS, Row, Subject


def rows(subject: Subject) -> list[Row]:
    """⟨w, F w⟩."""
    problem, w = subject.problem, subject.w
    if getattr(problem.loss, "likelihood", None) is None:
        name = problem.conditions()["loss"]
        raise UndefinedError(
            f"the loss {name} has no predictive distribution, of which fisher-rao takes the Fisher matrix. Use one of "
            "the losses by name (cross_entropy, mse, …)."
        )
    counts, quotients = problem.rayleigh_by_group(w, w[None], operator="ggn")
    value = float(quotients[0] @ counts / counts.sum())
    return [Row("Fisher-Rao ⟨w, F w⟩", value, float(standard_errors(counts, quotients)[0]), {}, RESCALINGS)]
