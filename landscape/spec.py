"""What can be asked: frozen records without torch, and the home of every default."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from landscape.basin_spec import BasinSpec
from landscape.errors import illegal
from landscape.fields import Spec, option
from landscape.path_spec import AlignSpec, CurveSpec, PathSpec
from landscape.surface_spec import AxesSpec, GridSpec, LineSpec, PlaneSpec
from landscape.train_spec import CurveTrainSpec, TrainSpec

__all__ = [
    "ENGINES", "LOSSES", "MEASURES", "AlignSpec", "Arguments", "AxesSpec", "BasinSpec", "CompareSpec", "CorrelateSpec",
    "CurveSpec", "CurveTrainSpec", "DensitySpec", "GridSpec", "HessianSpec", "LineSpec", "MeasuresSpec", "PathSpec",
    "PlaneSpec", "ProblemSpec", "SharpnessSpec", "SourceSpec", "TraceSpec", "TrackSpec", "TrainSpec",
]  # fmt: skip

Arguments = tuple[tuple[str, str], ...]
"""Free `key=value` pairs handed to a factory, as strings; the factory's own signature types them."""

LOSSES = ("cross_entropy", "nll", "multi_margin", "square", "mse", "bce", "token_cross_entropy", "causal_lm")


ENGINES = ("auto", "folded", "compiled", "retained", "recompute", "differences")
"""Ways to take Hessian products; see `landscape.products.product`."""


@dataclass(frozen=True)
class SourceSpec(Spec):
    """Which network, on which data, on which device."""

    model: str | None = option(None, "model: a name, package.module:factory or file.py:factory (a run knows its own)")
    model_args: Arguments = option((), "key=value handed to the model factory; repeat", flag="--model-arg")
    data: str | None = option(None, "data set: a name, package.module:factory or file.py:factory (a run knows its own)")
    data_args: Arguments = option((), "key=value handed to the data set (any takes label_noise=0.4); repeat",
                                  flag="--data-arg")  # fmt: skip
    data_folder: str | None = option(None, "folder of data sets; default: environment variable LANDSCAPE_DATA")
    loss: str | None = option(None, "loss; default by the data's task", choices=LOSSES)
    device: str = option("auto", "cpu, cuda, cuda:1, … ; auto takes a GPU when there is one")
    dtype: str = option("float32", "arithmetic of weights and data", choices=("float32", "float64"))


@dataclass(frozen=True)
class ProblemSpec(SourceSpec):
    """How a checkpoint becomes a training problem: its source, and what the loss is taken over."""

    split: str = option("train", "examples the loss is taken over", choices=("train", "test"))
    examples: int | None = option(None, "use this many examples, a fixed random subset; default all", minimum=1)
    subset_seed: int = option(0, "seed of the subset drawn by --examples", minimum=0)
    batch_size: int = option(256, "examples evaluated at once; changes memory, not the result", minimum=1)
    label_smoothing: float = option(0.0, "label smoothing of the cross-entropy", minimum=0, below=1)
    engine: str = option("auto", "how products are taken; auto chooses by memory and time", choices=ENGINES)
    batch_norm: str = option(
        "running", "batch norm uses running statistics or each batch's own", choices=("running", "batch")
    )
    params: tuple[str, ...] = option((), "only parameters with names like this ('layer3.*'), others fixed; repeat",
                                     flag="--params")  # fmt: skip


@dataclass(frozen=True)
class HessianSpec(Spec):
    """Which eigenvalues of the Hessian (or of another operator), and how accurately (Lanczos, thick restart)."""

    operator: str = option("hessian", "matrix: Hessian, Gauss-Newton, Fisher with the data's or with sampled targets",
                           choices=("hessian", "ggn", "fisher-empirical", "fisher-sampled"))  # fmt: skip
    count: int = option(5, "eigenvalues wanted at each end", minimum=1, flag="--count")
    ends: str = option("largest", "part of the spectrum", choices=("largest", "smallest", "magnitude", "both"))
    tolerance: float = option(1e-4, "stop when every ‖Hv − λv‖ ≤ tolerance·max|λ|", above=0, below=1)
    max_matvecs: int = option(2000, "budget of Hessian-vector products", minimum=1)
    basis_gib: float | None = option(None, "memory for the Krylov basis in GiB, restarts when it is full; default at "
                                     "most half of what is free", above=0)  # fmt: skip
    progressive: bool = option(False, "find the eigenspace on the examples that matter, then certify it on all")
    exhaustive: bool = option(
        True, "look with a second random start for eigenvalues missed by the first: copies and close neighbours"
    )
    sampling_error: bool = option(True, "standard error of each eigenvalue from the per-batch Rayleigh quotients")
    search: str = option("auto", "precision of the products that find the eigenvectors (the certificate's is full): "
                         "full, or reduced to TF32 or bfloat16; auto tries on a GPU whether that pays",
                         choices=("auto", "full", "reduced"))  # fmt: skip
    vectors: bool = option(False, "keep the eigenvectors in the result")
    seed: int = option(0, "seed of the start vector and of sampled targets", minimum=0)


@dataclass(frozen=True)
class DensitySpec(Spec):
    """The whole spectrum of the Hessian by stochastic Lanczos quadrature; it takes steps·probes products."""

    steps: int = option(100, "Hessian-vector products with each probe; more resolve more", minimum=2)
    probes: int = option(2, "random probes; more make the standard errors smaller", minimum=1)
    deflate: bool = option(True, "count a Ritz value that has converged as one eigenvalue, not by its random weight")
    tolerance: float = option(1e-3, "converged: ‖Hv − λv‖ ≤ tolerance·max|λ|", above=0, below=1)
    outliers: int = option(0, "search for so many eigenvalues of largest magnitude first, with extra products, "
                           "proving that none is missed", minimum=0)  # fmt: skip
    width: float | None = option(None, "standard deviation of the Gaussian that smooths the density; default 0.5 % of "
                                 "λmax − λmin, or the nodes' mean distance if larger", above=0)  # fmt: skip
    basis_gib: float = option(4.0, "memory for the Krylov basis of steps·probes vectors in GiB", above=0)
    seed: int = option(0, "seed of the probes", minimum=0)


@dataclass(frozen=True)
class TraceSpec(Spec):
    """Trace of the Hessian from random probes, in all, by layer and by coordinate, with standard errors."""

    method: str = option("deflated", "deflated: large eigenvalues exactly, probes for the rest; or plain Hutchinson; "
                         "or Hutch++ or XTrace, which spend the whole budget",
                         choices=("deflated", "hutchinson", "hutch++", "xtrace"))  # fmt: skip
    tolerance: float = option(0.02, "stop when the standard error is below tolerance·|trace|", above=0)
    min_probes: int = option(10, "probes before the first stop", minimum=2)
    max_matvecs: int = option(500, "budget of Hessian-vector products", minimum=3)
    memory_gib: float = option(4.0, "memory for the vectors that deflation keeps, in GiB", above=0)
    by_layer: bool = option(False, "the trace of each parameter's diagonal block, too")
    diagonal: bool = option(False, "the diagonal itself, too")
    exact: tuple[str, ...] = option((), "parameter whose block's diagonal is found exactly, by a product for each "
                                    "of its entries; repeat")  # fmt: skip
    exact_limit: int = option(10000, "the most entries a parameter named by exact may have", minimum=1)
    seed: int = option(0, "seed of the probes", minimum=0)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TraceSpec":
        """Also reads records of version 0.1.0, which had Hutchinson's estimator alone and counted probes."""
        if "max_probes" in values:
            values = {"method": "hutchinson", "max_matvecs": values["max_probes"], **values}
            del values["max_probes"]
        return super().from_dict(values)


@dataclass(frozen=True)
class SharpnessSpec(Spec):
    """Keskar's ε-sharpness: 100·(max_{z∈C_ε} f(x+Az) − f(x))/(1+f(x))."""

    epsilons: tuple[float, ...] = option((1e-3, 5e-4), "box half-widths ε; repeat", above=0, flag="--epsilon")
    spaces: tuple[str, ...] = option(("full", "subspace"), "full space (A = I) or random subspace; repeat",
                                     choices=("full", "subspace"), flag="--space")  # fmt: skip
    dimension: int = option(100, "p, the columns of A in the random subspace", minimum=1)
    law: str = option("gaussian", "columns of A: N(0,1) entries, the same with unit length, or orthonormal",
                      choices=("gaussian", "unit", "orthonormal"))  # fmt: skip
    iterations: int = option(10, "iterations of each maximisation; 10 as in the paper", minimum=1)
    until_converged: bool = option(False, "climb on from the best point until it is stationary in the box")
    trials: int = option(5, "independent repetitions; the result is their mean ± standard deviation", minimum=1)
    restarts: int = option(2, "jittered starts of each trial, besides the centre; the best counts", minimum=1)
    solver: str = option("projected", "full space: projected quasi-Newton on the device, or SciPy's L-BFGS-B",
                         choices=("projected", "scipy"))  # fmt: skip
    seed: int = option(0, "seed of A and of the starts", minimum=0)


MEASURES = (
    "keskar", "worst-case", "average-case", "first-order", "pac-bayes", "relative-flatness", "eigenvalues", "trace",
    "norm", "distance", "spectral-norms", "path-norm", "fisher-rao", "margin",
)  # fmt: skip
"""Measures of sharpness, then of curvature, then norms and others that papers plot beside them."""


@dataclass(frozen=True)
class MeasuresSpec(Spec):
    """Which measures of sharpness, with which radii: `landscape.measures` has a file with the formula of each."""

    measures: tuple[str, ...] = option(("keskar",), "measure of sharpness or companion; repeat", choices=MEASURES,
                                       flag="--measure")  # fmt: skip
    l2_rhos: tuple[float, ...] = option((0.1,), "worst case: radius ρ of a ball ‖δ‖₂ ≤ ρ; repeat", above=0,
                                        flag="--l2-rho", may_be_empty=True)  # fmt: skip
    linf_rhos: tuple[float, ...] = option((1e-3,), "worst case: radius ρ of a box ‖δ‖∞ ≤ ρ; repeat", above=0,
                                          flag="--linf-rho", may_be_empty=True)  # fmt: skip
    adaptive_l2_rhos: tuple[float, ...] = option((0.5,), "worst case: radius ρ of ‖δ/|w|‖₂ ≤ ρ; repeat", above=0,
                                                 flag="--adaptive-l2-rho", may_be_empty=True)  # fmt: skip
    adaptive_linf_rhos: tuple[float, ...] = option((0.01,), "worst case: radius ρ of ‖δ/|w|‖∞ ≤ ρ; repeat", above=0,
                                                   flag="--adaptive-linf-rho", may_be_empty=True)  # fmt: skip
    shard: int | None = option(None, "worst case: m, the examples that share a maximum (m-sharpness); default all",
                               minimum=1)  # fmt: skip
    steps: int = option(40, "worst case: steps of each projected ascent", minimum=1)
    starts: int = option(5, "worst case: random starts, besides the gradient's direction; the best counts", minimum=0)
    average_rhos: tuple[float, ...] = option((0.01,), "average case: standard deviation ρ of δ; repeat", above=0,
                                             flag="--average-rho", may_be_empty=True)  # fmt: skip
    adaptive_average_rhos: tuple[float, ...] = option((0.1,), "average case: standard deviation ρ of δ/|w|; repeat",
                                                      above=0, flag="--adaptive-average-rho",
                                                      may_be_empty=True)  # fmt: skip
    noise: str = option("gaussian", "average case: law of δ, each of standard deviation ρ",
                        choices=("gaussian", "uniform"))  # fmt: skip
    average_tolerance: float = option(0.05, "average case: stop at a standard error of tolerance·|mean|", above=0)
    max_pairs: int = option(500, "average case and PAC-Bayes: most antithetic pairs of δ", minimum=2)
    sam_rhos: tuple[float, ...] = option(
        (0.05,), "first order: SAM's radius ρ; repeat", above=0, flag="--sam-rho", may_be_empty=True
    )
    asam_rhos: tuple[float, ...] = option(
        (0.5,), "first order: ASAM's radius ρ; repeat", above=0, flag="--asam-rho", may_be_empty=True
    )
    drop: float = option(0.1, "PAC-Bayes: drop of the accuracy that defines σ", above=0, below=1)
    sigma_tolerance: float = option(0.05, "PAC-Bayes: relative width of the interval for σ", above=0, below=1)
    layer: str | None = option(None, "relative flatness: weight of a linear layer; default the last one's")
    logit_normalisation: bool = option(False, "worst and average case: outputs centred and of unit length")
    measure_seed: int = option(0, "seed of starts, shards and noise", minimum=0)


@dataclass(frozen=True)
class CompareSpec(Spec):
    """Which columns the comparison of several checkpoints has."""

    eigenvalues: int = option(1, "eigenvalues λ₁ … λₖ; 0 leaves them out", minimum=0)
    trace: bool = option(False, "the trace of the Hessian")
    sharpness: bool = option(True, "ε-sharpness, full space and subspace")
    distance: bool = option(True, "distance from the initial weights, where the run recorded them")


@dataclass(frozen=True)
class CorrelateSpec(Spec):
    """Do the measures predict the generalisation gap? Rank correlation over checkpoints, with intervals."""

    gap: str = option("error", "generalisation gap: of the error (train − test accuracy) or the loss (test − train)",
                      choices=("error", "loss"))  # fmt: skip
    resamples: int = option(2000, "bootstrap resamples of the checkpoints", minimum=100)
    confidence: float = option(0.95, "share of the resamples that the interval holds", above=0, below=1)
    bootstrap_seed: int = option(0, "seed of the resamples", minimum=0)


@dataclass(frozen=True)
class TrackSpec(Spec):
    """What is measured at each checkpoint of a run, and how its optimiser stepped."""

    operator: str = option("hessian", "matrix: Hessian, Gauss-Newton, Fisher with the data's or with sampled targets",
                           choices=("hessian", "ggn", "fisher-empirical", "fisher-sampled"))  # fmt: skip
    count: int = option(3, "largest eigenvalues at each checkpoint", minimum=1, flag="--count")
    tolerance: float = option(1e-3, "stop when every ‖Hv − λv‖ ≤ tolerance·max|λ|", above=0, below=1)
    max_matvecs: int = option(2000, "budget of Hessian-vector products at each checkpoint", minimum=1)
    basis_gib: float = option(4.0, "memory for the Krylov basis in GiB; restarts when it is full", above=0)
    warm: bool = option(True, "start from the eigenvectors of the checkpoint before")
    trace: bool = option(False, "the trace of the Hessian, too")
    trace_tolerance: float = option(0.05, "standard error of each trace ≤ tolerance·|trace|", above=0)
    learning_rate: float | None = option(None, "learning rate η that the edges are of; default: the one in force at "
                                         "each checkpoint, as the run recorded it", above=0, flag="--lr")  # fmt: skip
    momentum: float | None = option(None, "momentum β of SGD; default: the run's, 0 for other checkpoints",
                                    minimum=0, below=1)  # fmt: skip
    rho: float | None = option(None, "SAM's radius ρ; default: the run's, 0 for other checkpoints", minimum=0)
    fit_from: float | None = option(None, "first step t of the fit ‖w − w₀‖ ≈ a + b·log t; default: the first above 0",
                                    above=0)  # fmt: skip
    fit_until: float | None = option(None, "last step t of the fit; default: the last", above=0)
    seed: int = option(0, "seed of start vectors, probes and sampled targets", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit_from is not None and self.fit_until is not None and not self.fit_until > self.fit_from:
            raise illegal("fit_until", self.fit_until, f"above fit_from = {self.fit_from:g}", "Widen the range.")
