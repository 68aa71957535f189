"""What was found about curvature: eigenvalues, the whole spectrum, traces, and these along a training."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from landscape.record import Result
from landscape.spec import DensitySpec, HessianSpec, TraceSpec, TrackSpec
from landscape.spectrum import Spectrum


@dataclass(frozen=True, kw_only=True)
class HessianResult(Result):
    """Eigenpairs of the Hessian of the mean loss, largest first (or by magnitude, or smallest first).

    H is the Hessian, or the matrix that `spec.operator` names.
    eigenvalues: (k,). residuals: (k,) ‖Hv − λv‖₂, so that an eigenvalue of H lies within residual of λ.
    sampling_errors: (k,) standard error of vᵀHv from the examples being a sample (NaN when not asked or
    with a single batch). converged: (k,) residual ≤ tolerance·scale, where scale ≈ max|λ|, and the search for
    further wanted eigenvalues was finished unless spec.exhaustive is False.
    vectors: (k, n) orthonormal rows, or (0, 0) when not kept.
    """

    kind: ClassVar[str] = "hessian"
    spec: HessianSpec
    eigenvalues: np.ndarray
    residuals: np.ndarray
    sampling_errors: np.ndarray
    converged: np.ndarray
    scale: float
    matvecs: int
    restarts: int
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def matrix(self) -> str:
        """What the matrix is called, for titles: `spec.operator` in words."""
        names = {"ggn": "Gauss-Newton", "fisher-empirical": "empirical Fisher", "fisher-sampled": "sampled Fisher"}
        return names.get(self.spec.operator, "Hessian")


@dataclass(frozen=True, kw_only=True)
class DensityResult(Result):
    """The spectrum of the Hessian: the eigenvalues known one by one, and quadratures for the others.

    size: n, the number of eigenvalues. eigenvalues: (k,) resolved, descending, weight 1/n each. residuals:
    (k,) ‖Hv − λv‖₂, H as the products give it (in float32 their rounding comes on top). nodes: (m,)
    ascending, and weights: (probes, m) of row sum 1, for the other n − k; spreads: (m,) the residuals of the
    nodes, standard deviations of what they stand for. width: standard deviation of the
    Gaussian that `density` smooths with. moments: tr Hʲ/n for j = 1 … 4, with the standard errors
    moment_errors. complete: the search for `spec.outliers` ended with proof that none is missing (True when
    none was asked for). `spectrum` gives everything else.
    """

    kind: ClassVar[str] = "density"
    spec: DensitySpec
    size: int
    eigenvalues: np.ndarray
    residuals: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    spreads: np.ndarray
    width: float
    moments: np.ndarray
    moment_errors: np.ndarray
    complete: bool
    matvecs: int

    @property
    def spectrum(self) -> Spectrum:
        """The estimate as a distribution over eigenvalues."""
        return Spectrum(self.size, self.eigenvalues, self.nodes, self.weights, self.spreads)

    def density(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The smoothed spectral density on a grid (G,) with its standard error; its integral is 1."""
        return self.spectrum.density(grid, self.width)

    def count_above(self, level: float) -> tuple[float, float]:
        """Number of eigenvalues above `level`, and its standard error."""
        return self.spectrum.count_above(level)

    def negative_mass(self) -> tuple[float, float]:
        """Share of negative eigenvalues, and its standard error."""
        return self.spectrum.negative_mass()


@dataclass(frozen=True, kw_only=True)
class TraceResult(Result):
    """tr H ± standard error; interval: the two ends of a 95 % interval of Student's t with `degrees` of freedom.

    method: how. matvecs: products used, of which `deflated` spanned the Krylov space with the exactly known
    share `deflated_trace` of the trace. samples: (probes,) estimates whose mean is the trace. history: (looks, 3)
    products, trace and standard error at each look; the last is the result.
    layers, layer_traces, layer_errors: the parameters' names, the traces of their diagonal blocks, which add up to
    the trace unless some were measured exactly, and standard errors (0 for exact ones). diagonal,
    diagonal_errors: (n,). All are empty when not asked for.
    """

    kind: ClassVar[str] = "trace"
    spec: TraceSpec
    trace: float
    standard_error: float
    converged: bool
    matvecs: int
    samples: np.ndarray
    method: str = "hutchinson"
    deflated: int = 0
    deflated_trace: float = 0.0
    degrees: int = 0
    interval: tuple[float, float] = (float("nan"), float("nan"))
    history: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    layers: tuple[str, ...] = ()
    layer_traces: np.ndarray = field(default_factory=lambda: np.zeros(0))
    layer_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))
    diagonal: np.ndarray = field(default_factory=lambda: np.zeros(0))
    diagonal_errors: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class TrackResult(Result):
    """Checkpoints of one training in the order of their steps: arrays have an axis (T,), `eigenvalues` etc. (T, k).

    steps, epochs: NaN where unknown. eigenvalues: λ₁ ≥ … ≥ λₖ; residuals ‖Hv − λv‖₂ and converged as in
    `HessianResult`. traces, trace_errors: NaN when not asked for. losses, accuracies: at the weights, on the split
    asked for. gradient_norms: ‖∇f‖₂ there. distances: ‖w_t − w_0‖₂, w_0 being what `origin` says.
    learning_rates, rhos: η of the step that led to the checkpoint (at step 0, of the first) and SAM's ρ; NaN where
    unknown. edges: the λ₁ above which gradient descent with that step diverges on the quadratic, and sam_edges the
    same for SAM (see `methods.stability`); NaN where unknown or, for SAM, where ρ = 0. edge_formula: in words.
    fit: (a, b) of ‖w_t − w_0‖ ≈ a + b·ln t over the fit_points checkpoints with t in fit_range, and fit_r2, its R².
    matvecs: products for the eigenvalues, and trace_matvecs for the trace. durations: seconds of each checkpoint.
    done: measured; troubles: why a checkpoint has no numbers, "" otherwise. digests: SHA-256 of the checkpoints.
    vectors: (k, n) eigenvectors of the last one done while the series is incomplete, from which it goes on.
    """

    kind: ClassVar[str] = "track"
    spec: TrackSpec
    labels: tuple[str, ...]
    digests: tuple[str, ...]
    steps: np.ndarray
    epochs: np.ndarray
    eigenvalues: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    traces: np.ndarray
    trace_errors: np.ndarray
    losses: np.ndarray
    accuracies: np.ndarray
    gradient_norms: np.ndarray
    distances: np.ndarray
    learning_rates: np.ndarray
    rhos: np.ndarray
    edges: np.ndarray
    sam_edges: np.ndarray
    matvecs: np.ndarray
    trace_matvecs: np.ndarray
    durations: np.ndarray
    done: np.ndarray
    troubles: tuple[str, ...]
    origin: str
    edge_formula: str
    fit: tuple[float, float]
    fit_r2: float
    fit_range: tuple[float, float]
    fit_points: int
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def complete(self) -> bool:
        return bool(self.done.all())

    @property
    def axis(self) -> tuple[str, np.ndarray]:
        """What the checkpoints are placed by: ("step", steps), or ("epoch", epochs) where steps are unknown."""
        return ("step", self.steps) if np.isfinite(self.steps).all() else ("epoch", self.epochs)
