"""The sharpness at which gradient descent, with momentum or sharpness-aware, stops being stable on a quadratic."""

from math import nan, sqrt


def gradient_descent_edge(
    learning_rate: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> float:
    """The largest eigenvalue of ∇²f for which full-batch steps on a quadratic stay bounded; NaN for η = 0.

    2/η for plain gradient descent, (2 + 2β)/η for heavy-ball momentum v ← βv + ∇f, w ← w − ηv (torch's SGD), and
    (2 + 2β)/((1 + 2β)η) for Nesterov's. An L2 penalty adds weight_decay·I to the Hessian that is stepped on, so it
    lowers the edge of ∇²f by weight_decay. Source: Cohen et al. 2021 (arXiv 2103.00065).
    """
    if not learning_rate > 0:
        return nan
    slower = 1 + 2 * momentum if nesterov else 1.0
    return (2 + 2 * momentum) / (slower * learning_rate) - weight_decay


def sharpness_aware_edge(edge: float, rho: float, gradient_norm: float) -> float:
    """The edge of SAM whose base optimiser has `edge`: (‖g‖/2ρ)(√(1 + 4ρ·edge/‖g‖) − 1).

    Along the leading eigenvector SAM's gradient at w + ρg/‖g‖ is (1 + ρλ/‖g‖)·g, so that SAM reaches its edge where
    (1 + ρλ/‖g‖)·λ = edge. For edge = 2/η that is (‖g‖/2ρ)(√(1 + 8ρ/(η‖g‖)) − 1). Written without cancellation;
    ρ = 0 gives `edge`. Source: Long & Bartlett 2023 (arXiv 2309.12488), for gradient descent; the same
    argument with another `edge` for momentum.
    """
    if rho == 0 or not edge > 0:
        return edge
    if gradient_norm == 0:
        return 0.0
    return 2 * edge / (1 + sqrt(1 + 4 * rho * edge / gradient_norm))
