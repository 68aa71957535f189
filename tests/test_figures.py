"""Figures: the same bytes twice, every text readable and inside, and what is drawn is what was measured."""

import dataclasses
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path as FilePath

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from PIL import Image
from scipy.interpolate import RegularGridInterpolator

from landscape import basin
from landscape.errors import InputError
from landscape.results import (
    AuditResult,
    BasinResult,
    ComparisonResult,
    CorrelationResult,
    DensityResult,
    DependenceResult,
    HessianResult,
    MeasuresResult,
    PathResult,
    SharpnessResult,
    StudyResult,
    SurfaceResult,
    TraceResult,
    TrackResult,
)
from landscape.spec import (
    AxesSpec,
    BasinSpec,
    CorrelateSpec,
    DensitySpec,
    HessianSpec,
    LineSpec,
    MeasuresSpec,
    PathSpec,
    PlaneSpec,
    SharpnessSpec,
    TraceSpec,
    TrackSpec,
)
from landscape_figures import RECIPES, draw, relief, save_figure
from landscape_figures.groups import result_names
from landscape_figures.scales import log_levels, number, symlog_ticks
from landscape_figures.style import COLOUR_MAP, LOOKS, style

LABELS = ("small batch", "large batch", "SAM")
LONG = (
    "small-batch-sgd-momentum-0.9-seed-0",
    "_large_batch_$5_without_warmup_seed_0_$6",
    "sharpness-aware minimisation with rho=0.05 and a really long name (adaptive)",
)
EIGHT = tuple(f"batch size {2**k}" for k in range(5, 13))
NONE = np.zeros(0)
NOISE = np.random.default_rng(0)


def hessian(
    top: float, ends: str = "largest", name: str = "a", converged: bool = True, count: int = 5
) -> HessianResult:
    values = top / np.arange(1, count + 1) ** 0.8 * NOISE.uniform(0.9, 1.1, count)
    values = np.concatenate([values, -0.1 * values[::-1]]) if ends == "both" else values
    sure = np.ones(len(values), bool)
    sure[-1] = converged
    return HessianResult(
        spec=HessianSpec(count=count, ends=ends), eigenvalues=values, residuals=1e-4 * np.abs(values),
        sampling_errors=0.2 * np.abs(values), converged=sure, scale=float(top), matvecs=100, restarts=0,
        provenance={"checkpoint": f"runs/{name}/checkpoints/epoch-50.safetensors"},
    )  # fmt: skip


def hessians(ends: str = "largest") -> list[HessianResult]:
    return [hessian(top * f, ends, converged=top > 9) for top in (12.0, 250.0, 3.0) for f in (0.8, 1.0, 1.3)]


def line(
    seed: int = 0, labels: tuple[str, ...] = LABELS[:2], path: str = "line", accuracy: bool = True, test: bool = True
):
    a = np.linspace(-1, 2, 25)
    noise = np.random.default_rng(seed).uniform(0.5, 1.5, 25)
    train = 1e-3 * noise + 4 * np.clip(-a, 0, None) ** 2 + 9 * np.clip(a - 1, 0, None) ** 1.5
    heldout = 1.1 * train + 0.05
    return SurfaceResult(
        spec=LineSpec(path=path), x=a, y=NONE, train_loss=train, test_loss=heldout if test else NONE,
        train_accuracy=1 / (1 + train) if accuracy else NONE, labels=labels, marks=np.array([[0.0], [1.0]]),
        test_accuracy=0.98 / (1 + heldout) if accuracy and test else NONE, complete=True, evaluations=50,
    )  # fmt: skip


def plane(labels: tuple[str, ...] = LABELS, aspect: float = 1.0, close: bool = False) -> SurfaceResult:
    marks = np.array([[0, 0], [9, 0], [8.6, 0.3] if close else [3, 6]]) * [1, aspect]
    x, y = np.linspace(-3.2, 12.2, 31), np.linspace(-2.1, 8.1, 22) * aspect
    X, Y = np.meshgrid(x, y, indexing="ij")
    loss = 1e-3 + np.minimum.reduce([0.03 * np.hypot(X - u, (Y - v) / aspect) ** 2.6 for u, v in marks])
    return SurfaceResult(
        spec=PlaneSpec(x_points=31, y_points=22), x=x, y=y, train_loss=loss, train_accuracy=1 / (1 + loss),
        test_loss=1.1 * loss + 0.05, test_accuracy=0.98 / (1 + loss), labels=labels, marks=marks, complete=True,
        evaluations=682,
    )  # fmt: skip


def holed(result: SurfaceResult) -> SurfaceResult:
    loss = result.train_loss.copy()
    loss[-6:-3, 3:8], loss[3, -4] = np.nan, np.inf
    return replaced(result, train_loss=loss, complete=False)


def replaced(result, **changes):
    return dataclasses.replace(result, **changes)


def trained(result: SurfaceResult, steps: int = 12, name: str = "epoch {}") -> SurfaceResult:
    """The scan around its last checkpoint, in two principal components, with the way there and curvatures."""
    t = np.linspace(0, 1, steps)[:, None]
    far = np.array([result.x.max(), result.y.max()]) * 0.85
    way = (1 - t) ** 1.5 * np.hstack([far[0] * np.cos(2 * t), far[1] * np.sin(1 + 2 * t)])
    X, Y = np.meshgrid(result.x, result.y, indexing="ij")
    curvature = np.stack([12 - np.hypot(X, Y), 0.3 * X - 2.0], axis=-1)
    return replaced(
        result, spec=AxesSpec(axes=("component:1", "component:2")), labels=(name.format(steps),),
        marks=np.zeros((1, 2)), axes=("PC 1", "PC 2"), explained=np.array([0.7123, 0.9951]), trajectory=way,
        trajectory_labels=tuple(name.format(k + 1) for k in range(steps)), extra=curvature,
        extra_names=("largest eigenvalue", "smallest eigenvalue"),
    )  # fmt: skip


def concave(result: SurfaceResult, smallest: float = -3.0) -> SurfaceResult:
    """The same scan with curvatures; in a corner even the largest is negative, elsewhere one was not found."""
    X, Y = np.meshgrid(result.x, result.y, indexing="ij")
    curvature = np.stack([X + Y, np.full(X.shape, smallest)], axis=-1)
    curvature[20, 5] = np.nan
    return replaced(result, extra=curvature, extra_names=("largest eigenvalue", "smallest eigenvalue"))


def partly(result: SurfaceResult) -> SurfaceResult:
    """The same scan with points of every kind: NaN, infinite, not evaluated, interpolated."""
    loss, done = holed(result).train_loss, np.ones(result.shape, bool)
    done[8:14, 15:20] = False
    loss[~done] = np.nan
    some = np.zeros(result.shape, bool)
    some[1::2, 1::2] = True
    return replaced(
        result, train_loss=loss, done=done, complete=False, interpolated=some, interpolation_error=0.0081, held_out=9
    )


def bowl(curvature: float = 1.0, label: str = "SAM") -> SurfaceResult:
    x, y = np.linspace(-1, 1, 21), np.linspace(-1, 1, 15)
    X, Y = np.meshgrid(x, y, indexing="ij")
    loss = 2e-3 + curvature * (X**2 + 0.5 * Y**2 + 0.4 * X * Y)
    return SurfaceResult(
        spec=AxesSpec(points=(21, 15)), x=x, y=y, train_loss=loss, train_accuracy=1 / (1 + loss),
        test_loss=NONE, test_accuracy=NONE, labels=(label,), marks=np.zeros((1, 2)), complete=True, evaluations=315,
    )  # fmt: skip


def direction(seed: int = 0, policy: str = "running", label: str = "SAM") -> SurfaceResult:
    """A scan along one random direction, with curvatures, one of which diverged."""
    a, rng = np.linspace(-1, 1, 21), np.random.default_rng(seed)
    loss = 2e-3 + rng.uniform(0.5, 2) * a**2
    curvature = np.stack([3 + a, -0.5 * np.exp(a)], axis=-1)
    curvature[4] = np.nan
    return SurfaceResult(
        spec=AxesSpec(axes=("random",), points=(21,), seed=seed, batch_norm=policy), x=a, y=NONE, train_loss=loss,
        train_accuracy=1 / (1 + loss), test_loss=NONE, test_accuracy=NONE, labels=(label,), marks=np.zeros((1, 1)),
        complete=True, evaluations=21, conditions={"has_batch_norm": True}, extra=curvature,
        extra_names=("largest eigenvalue", "smallest eigenvalue"),
    )  # fmt: skip


def comparison(labels: tuple[str, ...] = LABELS, seeds: int = 3, eigenvalues: int = 1) -> ComparisonResult:
    columns = [f"λ{k + 1}" for k in range(eigenvalues)]
    columns += [f"sharpness {space} ε={e} (%)" for space in ("full", "subspace") for e in ("0.001", "0.0005")]
    columns = ["test accuracy (%)", *columns, "distance ‖w−w₀‖"]
    level = np.repeat(np.resize([10.0, 300.0, 3.0], len(labels)), seeds)[:, None]
    values = level * np.linspace(1, 3, len(columns)) * NOISE.uniform(0.8, 1.2, (len(level), len(columns)))
    values[:, 0] = NOISE.uniform(96, 99, len(level))
    names = tuple(label for label in labels for _ in range(seeds))
    return ComparisonResult(
        labels=names, checkpoints=names, columns=tuple(columns), values=values, errors=0.05 * values
    )  # fmt: skip


def sharpness(level: float = 1.0, name: str = "a", trials: int = 5) -> SharpnessResult:
    values = level * np.array([[10.0, 3], [60, 20]])[..., None] * NOISE.uniform(0.8, 1.2, (2, 2, trials))
    deviation = values.std(-1, ddof=1) if trials > 1 else np.full((2, 2), np.nan)
    return SharpnessResult(
        spec=SharpnessSpec(trials=trials), loss=0.01, sharpness=values.mean(-1), deviation=deviation, values=values,
        maxima=values, active=values, projected_gradient=values, spread=values, probe=values, evaluations=1,
        provenance={"checkpoint": f"runs/{name}/checkpoints/epoch-50.safetensors"},
    )  # fmt: skip


def trace(level: float = 100.0, probes: int = 40) -> TraceResult:
    samples = NOISE.normal(level, 0.3 * level, probes)
    return TraceResult(
        spec=TraceSpec(),
        trace=float(samples.mean()),
        standard_error=1.0,
        converged=bool(level < 200),
        matvecs=probes,
        samples=samples,
    )


def density(scale: float = 1.0, probes: int = 2, resolved: int = 40) -> DensityResult:
    nodes = scale * 0.01 * np.sort(NOISE.standard_normal(50 * probes) ** 3)
    weights = NOISE.uniform(0.5, 1.5, (probes, 50 * probes))
    weights /= weights.sum(1, keepdims=True)
    return DensityResult(
        spec=DensitySpec(probes=probes), size=10000, eigenvalues=scale * 12 / np.arange(1, resolved + 1) ** 1.2,
        residuals=np.zeros(resolved), nodes=nodes, weights=weights, spreads=np.full(len(nodes), scale),
        width=0.05 * scale, moments=np.ones(4),
        moment_errors=np.ones(4), complete=True, matvecs=200,
    )  # fmt: skip


def track(size: int = 12, count: int = 3, rho: float = 0.1, broken: bool = False, every: float = 100.0) -> TrackResult:
    t = every * np.arange(size)
    rise = 20 * np.minimum(np.arange(size) / 4, 1) + 1 + NOISE.uniform(0, 1, size)
    values = rise[:, None] / np.arange(1, count + 1) ** 0.7
    losses = 2.3 * np.exp(-0.3 * np.arange(size))
    distances = np.r_[0.0, 0.5 + 0.8 * np.log(np.maximum(t[1:], 1e-9))]
    sure = np.ones((size, count), bool)
    if broken:
        sure[-1, -1], values[3], losses[3], distances[3] = False, np.nan, np.nan, np.nan
    known = np.full(size, np.nan)
    edges = np.full(size, 20.0) if rho else known
    return TrackResult(
        spec=TrackSpec(count=count), labels=tuple(map(str, t)), digests=tuple(map(str, t)), steps=t,
        epochs=known, eigenvalues=values, residuals=1e-3 * values, converged=sure, traces=known, trace_errors=known,
        losses=losses, accuracies=known, gradient_norms=losses, distances=distances, learning_rates=2 / edges,
        rhos=np.full(size, rho), edges=edges, sam_edges=edges / (1 + 0.1 * np.arange(size)), matvecs=sure[:, 0],
        trace_matvecs=sure[:, 0], durations=known, done=np.ones(size, bool), troubles=("",) * size,
        origin="the initial weights", edge_formula="(2+2β)/((1+2β)η), β = 0.9, less weight decay", fit=(0.5, 0.8),
        fit_r2=1.0, fit_range=(float(t[1]), float(t[-1])), fit_points=size - 1,
    )  # fmt: skip


ZERO = dataclasses.replace(
    density(),
    eigenvalues=NONE,
    residuals=NONE,
    nodes=np.zeros(1),
    weights=np.ones((2, 1)),
    spreads=np.zeros(1),
    width=0.005,
)
THRICE = [label for label in LABELS for _ in range(3)]


def correlation(count=14, settings=True) -> CorrelationResult:
    """Measures of falling τ, whose names are as long as any; the last has none."""
    names = ("λ1", "trace", "sharpness full ε=0.001 (%)", "worst-case adaptive l∞ ρ=0.01 m=128", *EIGHT, LONG[2])
    names = tuple(f"{names[i % len(names)]}{'' if i < len(names) else i}" for i in range(count))
    taus = np.r_[np.linspace(0.9, -0.8, count - 1), np.nan]
    table = comparison(seeds=8)
    base = {item.name: getattr(table, item.name) for item in dataclasses.fields(ComparisonResult)}
    return CorrelationResult(
        **base, spec=CorrelateSpec(), gaps=np.ones(24), measures=names, taus=taus, lows=taus - 0.2, highs=taus + 0.1,
        counts=np.full(count, 24), factors=("batch_size",), psis=taus[:, None] / 2,
        granulated=taus / 2 if settings else taus * np.nan,
    )  # fmt: skip


def dependence(
    labels: tuple[str, ...] = LABELS[:2], trials: int = 5, level: float = 0.03, growth: float = 1.3
) -> DependenceResult:
    """Every panel that a study has; φ grows from setting to setting."""
    wide = [
        *((space, "iterations", s) for space in ("full", "subspace") for s in ("1", "10", "100", "until converged")),
        *((space, "restarts", s) for space in ("full", "subspace") for s in "1248"),
        *((space, "dtype", s) for space in ("full", "subspace") for s in ("float32", "float64")),
        *(("subspace", "law", s) for s in ("gaussian", "unit", "orthonormal")),
    ]
    rows = [(*row, "gaussian" if row[0] == "subspace" else "", "whole") for row in wide]
    rows += [("full", "iterations", s, "", "climb") for s in ("1", "10", "100")]
    rows += [("subspace", "dimension", s, law, "whole") for law in ("gaussian", "orthonormal") for s in ("10", "1000")]
    values = np.array([
        level * (k + 1) ** 2 * growth ** (i % 4) * NOISE.uniform(0.8, 1.2, trials)
        for k in range(len(labels)) for i in range(len(rows))
    ])  # fmt: skip
    spaces, factors, settings, laws, searches = zip(*(rows * len(labels)), strict=True)
    return DependenceResult(
        spec=SharpnessSpec(trials=trials), labels=tuple(label for label in labels for _ in rows), factors=factors,
        settings=settings, spaces=spaces, laws=laws, searches=searches, values=values, sharpness=values.mean(-1),
        deviation=values.std(-1, ddof=1) if trials > 1 else np.full(len(values), np.nan),
        converged=np.ones(len(values)), evaluations=np.ones(len(values)),
    )  # fmt: skip


def measured(factor=1.0, path="a.pt") -> MeasuresResult:
    names = (
        "λ₁",
        "worst-case adaptive l∞ ρ=0.01 m=128, logits normalised",
        "PAC-Bayes magnitude-aware 1/σ²",
        "norm ‖w‖₂",
    )
    values = factor * np.array([0.3, 1e-3, 2.7, 12.0])
    return MeasuresResult(
        spec=MeasuresSpec(), loss=0.1, names=names, groups=("keskar",) * 4, values=values, errors=values / 10,
        certificates=({},) * 4, invariant=((),) * 4, provenance={"checkpoint": path},
    )  # fmt: skip


def audited() -> AuditResult:
    base = measured()
    kinds = ("relu-layer", "relu", "batch-norm", "permutation")
    changes = np.array([[13.0, 66.0, 0.4, 1e-15], [0, 1e-16, 2e-15, 0], [1e-9, 1e-3, np.inf, 3e-7], [2.0, 3.0, 1.0, 0]])
    claims = np.array([[False] * 3 + [True], [True] * 4, [True] * 4, [False] * 3 + [True]])
    return AuditResult(
        spec=MeasuresSpec(), loss=0.1, names=base.names, measures=base.groups, kinds=kinds, values=base.values,
        errors=base.errors, values_after=np.tile(base.values[:, None], 4), errors_after=np.zeros((4, 4)),
        changes=changes, claims=claims, allowances=np.zeros((4, 4)), spreads=np.full(4, np.nan),
        output_changes=np.zeros(4), verdicts=tuple(("moves",) * 3 + ("invariant",) for _ in range(4)),
        groups=(("relu", "0.weight", 5),), left_out=(),
    )  # fmt: skip


def basins(result: SurfaceResult) -> BasinResult:
    return basin.measure(result, BasinSpec())


def waves(labels: tuple[str, ...] = LABELS) -> SurfaceResult:
    """A bowl with waves: twelve minima and more, marks on a hill, on a slope and near the edge."""
    x, y = np.linspace(-3, 3, 61), np.linspace(-2, 2, 41)
    X, Y = np.meshgrid(x, y, indexing="ij")
    loss = 1.1 + 0.2 * (X**2 + Y**2) + 0.03 * X + 0.6 * np.cos(3 * X) * np.cos(3 * Y + 0.5)
    return SurfaceResult(
        spec=AxesSpec(points=(61, 41)), x=x, y=y, train_loss=loss, train_accuracy=NONE, test_loss=NONE,
        test_accuracy=NONE, labels=labels, marks=np.array([[0, 0], [2.1, -1.2], [-2.6, 1.7]]), complete=True,
        evaluations=2501,
    )  # fmt: skip


def parted() -> SurfaceResult:
    """Two valleys with a wall of NaN between them, below zero."""
    result = plane()
    loss = result.train_loss - 5
    loss[14] = np.nan
    return dataclasses.replace(result, train_loss=loss)


def between(
    labels: tuple[str, str] = LABELS[:2],
    paths: tuple[str, ...] = ("raw", "aligned", "curve"),
    level: float = 0.2,
    accuracy: bool = True,
    bad: bool = False,
) -> PathResult:
    """Bumps that are lower from path to path, with 25 points on a grid and two more."""
    t, added = np.linspace(0, 1, 25), np.array([0.49, 0.51])
    heights = 0.9 * 0.3 ** np.arange(len(paths)) - 0.01
    train = level * (1 + 0.3 * t) + heights[:, None] * np.sin(np.pi * t) ** 2
    more = level * (1 + 0.3 * added) + heights[:, None] * np.sin(np.pi * added) ** 2
    if bad:
        train[0, 9:14] = np.inf
    error = np.tanh(train / 2)
    whole = np.stack([np.broadcast_to(added, more.shape), more, 1 - np.tanh(more / 2), 1.1 * more, 1 - more / 9], -1)
    tops = np.maximum(heights, 0)[:, None] * [1, 0.5, 1.1, 0.11]
    tops[0] = np.inf if bad else tops[0]
    half = np.full_like(tops, 0.5)
    return PathResult(
        spec=PathSpec(), labels=labels, paths=paths, t=t, train_loss=train, test_loss=1.1 * train, added=whole,
        train_accuracy=1 - error if accuracy else NONE, test_accuracy=1 - train / 9 if accuracy else NONE,
        barriers=tops, barrier_t=half, barrier_accuracy=0 * half, rises=tops, rise_t=half, rise_accuracy=0 * half,
        lengths=np.ones(len(paths)), evaluations=100,
    )  # fmt: skip


def studied(factors: dict[str, tuple], seeds: int = 3, spread: float = 1e3, column: str = "λ1") -> StudyResult:
    """Every combination of the factors' values, with numbers that grow by `spread` from the first row to the last."""
    settings = [
        {**dict(zip(factors, values, strict=True)), "seed": seed}
        for values in itertools.product(*factors.values())
        for seed in range(seeds)
    ]
    rng, count = np.random.default_rng(0), len(settings)
    values = np.geomspace(1, spread, count)[:, None] * rng.uniform(0.9, 1.1, (count, 2))
    names = tuple(f"run-{k}" for k in range(count))
    return StudyResult(
        name="a study", labels=names, checkpoints=names, columns=(column, "test loss"), values=values,
        errors=np.full((count, 2), np.nan), settings=tuple(settings), runs=names, at=("last",) * count,
        troubles=("",) * count, factors=tuple(factors), by=tuple(factors),
    )  # fmt: skip


def growing(law: str = "log") -> StudyResult:
    """Two batch sizes by two seeds at six moments: the distance grows by the law, with slopes 2 and 3, or 0.2, 0.3."""
    steps, rows = np.array([1, 4, 16, 64, 256, 1024]), []
    for (k, size), seed, step in itertools.product(enumerate((16, 64)), range(2), steps):
        t = np.log10(step)
        distance = 1 + seed / 10 + (2 + k) * t if law == "log" else (1 + seed / 10) * 10 ** ((2 + k) / 10 * t)
        rows.append(({"batch_size": size, "seed": seed}, [step, distance]))
    names = tuple(f"run-{k}" for k in range(len(rows)))
    return StudyResult(
        name="a study", labels=names, checkpoints=names, columns=("step", "distance ‖w−w₀‖"),
        values=np.array([values for _, values in rows]), errors=np.full((len(rows), 2), np.nan),
        settings=tuple(setting for setting, _ in rows), runs=names,
        at=tuple(str(int(step)) for *_, (step, _) in rows), troubles=("",) * len(rows), factors=("batch_size",),
        by=("batch_size",),
    )  # fmt: skip


SIZES = {"batch_size": (16, 64, 256, 1024), "optimiser": ("sgd", "adam")}

PATHS = ("raw", "recalibrated", "running statistics", "aligned", "aligned, recalibrated", "curve")

CASES = {
    "barriers": ([between((a, b)) for a, b in (LABELS[:2], LABELS[1:], LABELS[::2])], {}),
    "barriers-of-one-pair": ([between(level=1e-4)], {"split": "test"}),
    "barriers-long": ([between(LONG[:2], PATHS), *[between(LONG[1:])] * 3], {"scale": "log"}),
    "barriers-of-regression": ([between(accuracy=False)], {"width": "double"}),
    "barriers-infinite": ([between(bad=True), between()], {"names": LONG[:2]}),
    "eigenvalues": (hessians(), {"names": THRICE}),
    "eigenvalues-both-ends": (hessians("both"), {"names": THRICE}),
    "eigenvalues-smallest": ([hessian(3, "smallest"), hessian(9, "smallest", "b")], {}),
    "eigenvalues-of-all-sizes": ([dataclasses.replace(hessian(1.0), eigenvalues=np.array([1, 0, 0, -1e-9, -3]))], {}),
    "eigenvalues-zero": ([dataclasses.replace(hessian(1.0), eigenvalues=np.zeros(5))], {}),
    "eigenvalues-many": ([hessian(3, count=40)], {}),
    "eigenvalues-compared": ([comparison(LONG)], {"recipe": "eigenvalues"}),
    "eigenvalues-five-compared": ([comparison(LONG, eigenvalues=5)], {"recipe": "eigenvalues"}),
    "parametric": ([line()], {}),
    "parametric-long": ([line(labels=LONG[:2])], {}),
    "parametric-seeds": ([line(seed) for seed in range(3)], {}),
    "parametric-band-of-arcs": ([line(seed, path="arc") for seed in range(3)], {"spread": "band"}),
    "parametric-regression": ([line(accuracy=False, test=False)], {}),
    "parametric-directions": ([direction(seed) for seed in range(4)], {"spread": "band"}),
    "parametric-policies": (
        [direction(seed, policy) for policy in ("running", "recomputed", "batch") for seed in range(2)],
        {"names": LONG[2:]},
    ),
    "parametric-polyline": (
        [replaced(line(labels=EIGHT[:3]), spec=LineSpec(path="polyline"), marks=np.array([[0.0], [1.0], [2.0]]))],
        {},
    ),
    "curvature-line": ([direction()], {"recipe": "curvature_line"}),
    "curvature-line-between-two": (
        [
            replaced(
                line(labels=LONG[:2]), extra=1e-7 * NOISE.uniform(1, 9, (25, 1)), extra_names=("largest eigenvalue",)
            )
        ],
        {"recipe": "curvature_line", "eigenvalue_scale": "auto"},
    ),
    "ratio-map": ([trained(plane())], {"recipe": "ratio_map"}),
    "ratio-map-partly": ([concave(partly(plane(LONG)))], {"recipe": "ratio_map", "names": LONG}),
    "ratio-map-of-zeros": ([concave(plane(), 0.0)], {"recipe": "ratio_map", "scale": "log"}),
    "plane": ([plane()], {}),
    "plane-long": ([plane(LONG)], {"quantity": "test error"}),
    "plane-flat-and-close": ([plane(aspect=0.35, close=True)], {"quantity": "test loss"}),
    "plane-tall": ([plane(LONG, aspect=2.5)], {}),
    "plane-with-holes": ([holed(plane())], {}),
    "plane-random": ([bowl()], {"recipe": "plane"}),
    "plane-all-missing": ([dataclasses.replace(plane(), train_loss=np.full((31, 22), np.nan), complete=False)], {}),
    "plane-constant": ([dataclasses.replace(plane(), train_loss=np.ones((31, 22)))], {}),
    "plane-of-forty-decades": ([dataclasses.replace(plane(), train_loss=plane().train_loss ** 12)], {}),
    "parametric-diverged": ([dataclasses.replace(line(), train_loss=np.full(25, np.inf))], {}),
    "plane-trained": ([trained(plane())], {"recipe": "plane"}),
    "plane-trained-partly": ([trained(partly(plane()), 200, LONG[2] + " epoch {}")], {"recipe": "plane"}),
    "plane-of-both-signs": (
        [trained(plane(aspect=0.1))],
        {"recipe": "plane", "quantity": "smallest eigenvalue"},
    ),
    "planes-by-policy": (
        [bowl(), replaced(bowl(9.0), spec=AxesSpec(points=(21, 15), batch_norm="batch"))],
        {"recipe": "planes"},
    ),
    "planes-of-three": ([bowl(), bowl(3.0), holed(plane())], {"recipe": "planes", "names": LONG}),
    "planes-of-four": ([trained(partly(plane()), k) for k in (1, 2, 9, 12)], {"recipe": "planes"}),
    "surface-3d": ([plane()], {"recipe": "surface_3d", "ceiling": 0.5}),
    "surface-3d-trained": ([trained(partly(plane(LONG)), 30)], {"recipe": "surface_3d", "scale": "linear"}),
    "surface-3d-long": ([replaced(plane(LONG, 3.0), train_loss=1e-9 * plane().train_loss)], {"recipe": "surface_3d"}),
    "surface-3d-of-both-signs": (
        [trained(bowl())],
        {"recipe": "surface_3d", "quantity": "smallest eigenvalue", "width": "double"},
    ),
    "surface-3d-all-missing": ([replaced(plane(), train_loss=np.full((31, 22), np.nan))], {"recipe": "surface_3d"}),
    "surface-3d-constant": ([replaced(plane(), train_loss=np.full((31, 22), 2.0))], {"recipe": "surface_3d"}),
    "surfaces-of-four": ([bowl(8.0), bowl(0.2), holed(bowl(2.0)), bowl(1e6)], {"names": (*LONG, "large")}),
    "surface-pair": ([bowl(8.0, LONG[1]), bowl(0.2, LONG[2])], {}),
    "surface-single": ([holed(plane())], {"recipe": "surface_pair", "cap": 0.5}),
    "sharpness-bars": ([comparison()], {}),
    "sharpness-bars-long": ([comparison(LONG)], {}),
    "eigenvalues-of-eight": ([comparison(EIGHT, seeds=1)], {"recipe": "eigenvalues"}),
    "sharpness-bars-of-eight": ([comparison(EIGHT, seeds=2)], {}),
    "sharpness-bars-infinite": (
        [dataclasses.replace(sharpness(), sharpness=np.array([[1, np.inf], [3, np.nan]]))],
        {},
    ),
    "sharpness-bars-alone": ([sharpness(trials=1)], {}),
    "sharpness-results": ([sharpness(1, "a"), sharpness(30, "b")], {}),
    "comparison": ([comparison(LONG, eigenvalues=2)], {"recipe": "comparison"}),
    "correlation": ([correlation()], {}),
    "measures": ([measured()], {}),
    "measures-of-three": (
        [measured(), measured(3.0, "b.pt"), measured(40.0, "c.pt")],
        {"names": LONG, "width": "single"},
    ),
    "audit": ([audited()], {}),
    "correlation-without-settings": ([correlation(40, settings=False)], {"limit": 30, "width": "double"}),
    "trace": ([trace(), trace(400.0)], {"names": LONG[:2]}),
    "density": ([density()], {}),
    "density-long": ([density(), density(0.01), density(30.0, 1)], {"names": LONG}),
    "density-linear": ([density()], {"view": "linear", "names": LONG[:1]}),
    "density-symlog": ([density(1e-7)], {"view": "symlog"}),
    "density-all-resolved": (
        [dataclasses.replace(density(), size=40, nodes=NONE, weights=np.zeros((2, 0)), spreads=NONE)],
        {"width": "single", "view": "symlog"},
    ),
    "density-of-zero": ([ZERO], {}),
    "dependence": ([dependence()], {}),
    "dependence-long": ([dependence(LONG, trials=1, level=1e-7, growth=40.0)], {}),
    "dependence-single-column": ([dependence()], {"factors": ["iterations", "law"], "width": "single"}),
    "dependence-of-zero": ([dependence(level=0.0)], {}),
    "dependence-infinite": ([dependence(trials=1, level=np.inf)], {"factors": ["law"]}),
    "merge-tree": ([basins(plane())], {}),
    "merge-tree-of-one": ([basins(bowl())], {}),
    "merge-tree-beside-the-plane": ([plane(LONG), basins(plane(LONG))], {}),
    "merge-tree-of-many": ([waves(), basins(waves(LONG))], {"names": [*LONG, "deepest"]}),
    "merge-tree-of-many-alone": ([basins(waves())], {"most": 14}),
    "merge-tree-parted-by-walls": ([basins(holed(parted()))], {"scale": "linear"}),
    "study": ([studied(SIZES)], {}),
    "study-along-a-training": ([growing()], {"x": "step", "y": "distance ‖w−w₀‖", "by": "batch_size"}),
    "study-two-columns": ([studied(SIZES)], {"x": "batch_size", "y": "λ1", "below": "test loss"}),
    "study-two-columns-of-words": (
        [studied({"run": LONG, "rho": (0.0, 0.05)}, column=LONG[2])],
        {"below": "test loss", "width": "double"},
    ),
    "study-with-fits": (
        [growing()],
        {"x": "step", "y": "distance ‖w−w₀‖", "by": "batch_size", "fit": "log", "fit_until": 100.0},
    ),
    "study-of-words": ([studied({"run": LONG, "rho": (0.0, 0.05)}, column=LONG[2])], {"width": "double"}),
    "study-of-one-seed": ([studied({"rho": (0.0, 0.05, 0.1)}, 1, 1.5)], {"y": "test loss"}),
    "study-column-against-column": ([studied(SIZES)], {"x": "test loss", "by": "batch_size", "scale": "linear"}),
    "study-many-lines": ([studied({"rho": (0.0, 0.1), "lr": tuple(np.geomspace(1e-5, 1, 9).tolist())}, 2)], {}),
    "study-without-numbers": (
        [dataclasses.replace(studied(SIZES), values=np.where(np.arange(48).reshape(24, 2) < 12, np.nan, 0.5))],
        {},
    ),
    "track": ([track()], {}),
    "edges": (
        [track(rho=0.0), track(20, 2, rho=0.0), track(rho=0.2), track(30, 1, broken=True)],
        {"names": ["η = 0.1", "η = 0.13", "ρ = 0.02, a name that is so long that it takes two lines", "ρ = 0.1"]},
    ),
    "edges-of-sam": ([track(400, 1), track()], {"width": "single", "scale": "log"}),
    "track-single-column": ([track(broken=True)], {"width": "single"}),
    **{
        f"track-loss-to-{low:g}": ([dataclasses.replace(track(), losses=np.geomspace(0.15, low, 12))], {"width": width})
        for low, width in ((0.1, "double"), (0.0037, "double"), (0.02, "single"), (1e-4, "double"), (1e-9, "single"))
    },
    "track-long": ([track(400, 7, every=7.0)], {"scale": "log"}),
    "track-of-two-without-edges": (
        [dataclasses.replace(track(2, 1, rho=0.0), fit_r2=np.nan, origin="the checkpoint a")],
        {},
    ),
    "track-negative-and-far": (
        [dataclasses.replace(track(), eigenvalues=-track().eigenvalues, edges=np.full(12, 2e5))],
        {},
    ),
}


def case(name: str) -> Figure:
    results, options = CASES[name]
    return draw(results, **options)


def digests(folder: FilePath, names: list[str]) -> dict[str, str]:
    written = [path for name in names for path in save_figure(case(name), folder / name, svg=name == "plane")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}


# ---- bytes, formats, global state ----------------------------------------------------------------------------

SAMPLE = ["eigenvalues-compared", "parametric", "plane", "surface-pair", "sharpness-bars"]
_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_figures
print(test_figures.digests(Path(sys.argv[2]), test_figures.SAMPLE))
print(sorted({"torch", "matplotlib.pyplot", "tkinter"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_bytes_repeat_in_another_process_and_no_torch_or_window_system_is_imported(tmp_path):
    command = [sys.executable, "-W", "error", "-c", _CHILD, str(FilePath(__file__).parent), str(tmp_path / "child")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "tkagg", "TZ": "Asia/Tokyo"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "savefig.dpi": 50, "lines.linewidth": 9}):
        ours = digests(tmp_path / "parent", SAMPLE)
    assert told[0] == str(ours)
    assert told[1] == "[]"


def test_callers_settings_stay(tmp_path):
    with matplotlib.rc_context({"font.size": 13.5, "pdf.fonttype": 3}):
        before = dict(matplotlib.rcParams)
        save_figure(case("plane"), tmp_path / "plane")
        assert dict(matplotlib.rcParams) == before


def test_formats(tmp_path):
    pdf, png = save_figure(case("parametric"), tmp_path / "a.v2.png")
    assert (pdf.name, png.name) == ("a.v2.pdf", "a.v2.png")
    content = pdf.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    with Image.open(png) as image:
        assert min(image.info["dpi"]) >= 299.9
        assert image.width == pytest.approx(3.4 * 300, abs=1)


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        save_figure(case("trace"), tmp_path / "file" / "picture")


# ---- readable text -------------------------------------------------------------------------------------------


def drawn_texts(figure: Figure, monkeypatch) -> list[tuple[str, np.ndarray, float]]:
    """Every text the renderer is really asked for: (words, (4, 2) corners in pixels, size)."""
    found = []
    original = Text.draw

    def recorded(self: Text, renderer, *args, **kwargs) -> None:
        original(self, renderer, *args, **kwargs)
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), corners(self, renderer), self.get_fontsize()))

    monkeypatch.setattr(Text, "draw", recorded)
    with style():
        FigureCanvasAgg(figure).draw()
    return found


def corners(text: Text, renderer) -> np.ndarray:
    """Corners of the text's own, turned rectangle: same centre as its upright box, size as if not turned."""
    upright = Text.get_window_extent(text, renderer)
    angle = text.get_rotation()
    text.set_rotation(0)
    flat = Text.get_window_extent(text, renderer)
    text.set_rotation(angle)
    half = 0.5 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (flat.width, flat.height)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return half @ np.array([[c, s], [-s, c]]) + ((upright.x0 + upright.x1) / 2, (upright.y0 + upright.y1) / 2)


def meet(one: np.ndarray, other: np.ndarray) -> bool:
    """Two convex quadrilaterals share area (by more than half a pixel) unless some side separates them."""
    for shape in (one, other):
        for side in np.roll(shape, -1, axis=0) - shape:
            normal = np.array([-side[1], side[0]]) / np.hypot(*side)
            a, b = one @ normal, other @ normal
            if a.max() <= b.min() + 0.5 or b.max() <= a.min() + 0.5:
                return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_texts_are_inside_apart_and_large_enough(name, monkeypatch):
    figure = case(name)
    texts = drawn_texts(figure, monkeypatch)
    width, height = figure.bbox.width, figure.bbox.height
    assert len(texts) > 5
    for words, box, size in texts:
        assert size >= 7, words
        assert (box >= -0.5).all(), (words, box)
        assert (box <= (width + 0.5, height + 0.5)).all(), (words, box)
    for i, (words, box, _) in enumerate(texts):
        for others, other, _ in texts[i + 1 :]:
            assert not meet(box, other), (words, others)


def test_names_are_shown_whole_or_with_an_ellipsis(monkeypatch):
    words = {text for text, _, _ in drawn_texts(case("parametric-long"), monkeypatch)}
    assert any(text.replace("\n", "") == LONG[0] for text in words)
    assert any(text.replace("\n", "").strip() == LONG[1] for text in words)


# ---- what is drawn is what was measured ----------------------------------------------------------------------


def test_parametric_draws_the_arrays():
    result = line()
    figure = draw([result])
    left, right = figure.axes
    lines = {(axes is right, one.get_gid()): one for axes in (left, right) for one in axes.lines if one.get_gid()}
    for split, loss, accuracy in (
        ("train", result.train_loss, result.train_accuracy),
        ("test", result.test_loss, result.test_accuracy),
    ):
        np.testing.assert_array_equal(lines[False, f"{split}-middle"].get_xydata(), np.stack([result.x, loss], 1))
        np.testing.assert_allclose(lines[True, f"{split}-middle"].get_ydata(), 100 * accuracy)
    assert left.get_yscale() == "log"
    assert lines[False, "train-middle"].get_linestyle() == "-"
    assert lines[False, "test-middle"].get_linestyle() == "--"


def test_parametric_seeds_show_their_median_and_every_seed():
    results = [line(seed) for seed in range(3)]
    axes = draw(results).axes[0]
    drawn = [one.get_ydata() for one in axes.lines]
    for result in results:
        assert any(np.array_equal(result.train_loss, row) for row in drawn)
    middle = next(one for one in axes.lines if one.get_gid() == "train-middle")
    np.testing.assert_array_equal(middle.get_ydata(), np.sort([r.train_loss for r in results], axis=0)[1])


def test_parametric_leaves_gaps_and_marks_them():
    loss = line().train_loss.copy()
    loss[3], loss[-1] = np.nan, np.inf
    axes = draw([replaced(line(), train_loss=loss)]).axes[0]
    middle = next(one for one in axes.lines if one.get_gid() == "train-middle")
    np.testing.assert_array_equal(middle.get_ydata(), loss)
    crosses = [one for one in axes.lines if one.get_marker() == "x"]
    np.testing.assert_array_equal(crosses[0].get_xdata(), line().x[[3, -1]])


def test_barriers_draws_the_paths_and_their_heights_at_their_places():
    result = between(bad=True)
    loss, error = draw([result, between()]).axes[:2]
    for axes, quantity, factor in ((loss, "train loss", 1), (error, "train error", 100)):
        column = result.QUANTITIES.index(quantity)
        for path, name in enumerate(result.paths):
            drawn = next(one for one in axes.lines if one.get_gid() == f"path-{name}").get_xydata()
            t, values = result.along(path, quantity)
            np.testing.assert_allclose(drawn[:, 1], np.where(np.isfinite(values), factor * values, np.nan))
            np.testing.assert_array_equal(drawn[:, 0], t)
        marks = [one.get_xydata() for one in axes.lines if one.get_marker() == "_"]
        assert [mark[0, 0] for mark in marks] == [0.5] * 2
        np.testing.assert_allclose([np.ptp(mark[:, 1]) for mark in marks], factor * result.barriers[1:, column])
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert texts[0].startswith("∞")
        assert float(texts[1].split()[0]) == pytest.approx(factor * result.barriers[1, column], rel=0.05)
    crosses = [one for one in loss.lines if one.get_marker() == "x"]
    np.testing.assert_array_equal(crosses[0].get_xdata(), result.t[9:14])


def test_barriers_refuses_what_it_cannot_draw():
    for results, options, words in (
        ([line()], {"recipe": "barriers"}, "path barrier"),
        ([between()], {"names": ["a", "b"]}, "2 given for 1 pairs"),
        ([between()], {"split": "both"}, "train or test"),
        ([replaced(between(), test_loss=NONE, test_accuracy=NONE)], {"split": "test"}, "all results have"),
    ):
        with pytest.raises(InputError, match=words):
            draw(results, **options)


def test_parametric_policies_are_told_apart_and_state_their_own_losses(monkeypatch):
    results = [direction(0, "running"), replaced(direction(1, "batch"), train_loss=direction(1).train_loss * 5)]
    figure = draw(results)
    (axes,) = figure.axes
    drawn = {one.get_color(): one.get_ydata() for one in axes.lines if one.get_gid() == "train-middle"}
    assert len(drawn) == 2
    for result, values in zip(results, drawn.values(), strict=True):
        np.testing.assert_array_equal(values, result.train_loss)
    words = {text for text, _, _ in drawn_texts(figure, monkeypatch)}
    assert {"train loss, running", "train loss, batch"} <= words


def test_curvature_line_draws_loss_and_eigenvalues_with_their_gap():
    result = direction()
    left, right = draw([result], "curvature_line").axes
    assert any(np.array_equal(one.get_ydata(), result.train_loss) for one in left.lines)
    for k in range(2):
        assert any(np.array_equal(one.get_ydata(), result.extra[:, k], equal_nan=True) for one in right.lines)
    crosses = [one.get_xdata() for one in right.lines if one.get_marker() == "x"]
    np.testing.assert_array_equal(crosses, [[result.x[4]]] * 2)
    with pytest.raises(InputError, match="holds no largest eigenvalue"):
        draw([line()], "curvature_line")


def test_ratio_map_colours_the_ratio_and_hatches_where_it_has_no_meaning(monkeypatch):
    result = concave(plane())
    figure = draw([result], "ratio_map")
    (cells,) = [child for child in figure.axes[0].get_children() if isinstance(child, QuadMesh)]
    largest = result.x[:, None] + result.y[None]
    expected = np.where(largest > 0, 3 / np.abs(largest), np.nan)
    expected[20, 5] = np.nan
    np.testing.assert_allclose(np.ma.filled(cells.get_array(), np.nan), expected.T)
    words = {text for text, _, _ in drawn_texts(figure, monkeypatch)}
    assert f"{(largest <= 0).sum() - (largest[20, 5] <= 0)} of 682 points: λₘₐₓ ≤ 0" in words
    assert "1 of 682 points: NaN" in words
    with pytest.raises(InputError, match="--curvature both"):
        draw([plane()], "ratio_map")


def test_points_without_a_number_are_told_apart_and_counted(monkeypatch):
    figure = draw([partly(plane())])
    words = {text.replace("\n", " ") for text, _, _ in drawn_texts(figure, monkeypatch)}
    for told in ("15 of 682 points: NaN", "30 of 682 points: not evaluated", "1 of 682 points: infinite"):
        assert told in words
    assert "517 of 682 points evaluated, the rest interpolated to 0.8\u00a0% of the range" in words
    areas = {child.get_gid() for child in figure.axes[0].patches}
    assert {"hole: NaN", "hole: not evaluated", "hole: infinite"} <= areas


def test_training_is_drawn_where_it_was_projected_and_its_ends_are_named(monkeypatch):
    result = trained(plane())
    figure = draw([result])
    axes = figure.axes[0]
    (way,) = [one.get_xydata() for one in axes.lines if one.get_gid() == "trajectory"]
    np.testing.assert_array_equal(way, result.trajectory)
    words = {text for text, _, _ in drawn_texts(figure, monkeypatch)}
    assert {"epoch 1", "epoch 12", "PC 1 (71 % of the variance)", "PC 2 (99.5 % of the variance)"} <= words
    for one in (one for one in axes.lines if one.get_gid() == "arrow"):
        ((x, y),), (_, _, angle) = one.get_xydata(), one.get_marker()
        here = axes.transData.transform((x, y))
        pixels = axes.transData.transform(result.trajectory)
        k = np.argmin(np.hypot(*(0.5 * (pixels[1:] + pixels[:-1]) - here).T))
        forwards = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        step = pixels[k + 1] - pixels[k]
        assert forwards @ step > 0.8 * np.hypot(*step)


def test_signed_values_take_a_map_centred_on_zero_and_dashes_below_it():
    filled, lines = contour_sets(draw([trained(plane())], quantity="smallest eigenvalue"))
    assert filled.norm(0.0) == pytest.approx(0.5)
    dashed = [style_[1] is not None for style_ in lines.get_linestyle()]
    assert dashed == [level < 0 for level in lines.levels]
    assert {True, False} == set(dashed)


def test_planes_share_levels_and_colours_and_are_titled_by_what_differs(monkeypatch):
    figure = case("planes-by-policy")
    sets = [
        [child for child in axes.get_children() if isinstance(child, QuadContourSet) and child.filled]
        for axes in figure.axes[:2]
    ]
    (one,), (other,) = sets
    np.testing.assert_array_equal(one.levels, other.levels)
    assert (one.norm.vmin, one.norm.vmax) == (other.norm.vmin, other.norm.vmax)
    words = {text for text, _, _ in drawn_texts(figure, monkeypatch)}
    assert {"batch norm running", "batch norm batch"} <= words


def test_edges_draws_each_series_beside_its_own_edge():
    plain, sam = track(rho=0.0), replaced(track(20, 2), eigenvalues=3 * track(20, 2).eigenvalues)
    left, right = draw([plain, sam], "edges", names=["a", "b"], scale="log").axes
    for axes, result, edges in ((left, plain, plain.edges), (right, sam, sam.sam_edges)):
        values, line = axes.lines
        np.testing.assert_array_equal(values.get_ydata(), result.eigenvalues[:, 0])
        low, high = axes.get_ylim()
        inside = (edges >= low) & (edges <= high)
        np.testing.assert_array_equal(line.get_ydata(), np.where(inside, edges, np.nan))
    assert [axes.get_title() for axes in (left, right)] == ["without SAM", "SAM"]
    with pytest.raises(InputError, match="needs series of checkpoints"):
        draw([plane()], "edges")
    with pytest.raises(InputError, match="no eigenvalue to draw"):
        draw([replaced(plain, eigenvalues=np.full((12, 3), np.nan))], "edges")


def test_track_draws_every_number_and_the_straight_line_over_its_range():
    result = track(broken=True)
    top, losses, distances = draw([result]).axes
    drawn = [one.get_ydata() for one in top.lines]
    for values in (*result.eigenvalues.T, result.edges, result.sam_edges):
        assert any(np.array_equal(values, row, equal_nan=True) for row in drawn)
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), result.losses)
    points, fitted = distances.lines
    used = np.isfinite(result.distances) & (result.steps > 0)
    np.testing.assert_array_equal(points.get_xydata(), np.stack([result.steps, result.distances], 1)[used])
    np.testing.assert_allclose(fitted.get_xydata(), [[t, 0.5 + 0.8 * np.log(t)] for t in (100.0, 1100.0)])
    assert distances.get_xscale() == "log"
    with pytest.raises(InputError, match="exactly one series"):
        draw([result, result], "track")
    with pytest.raises(InputError, match="no number to draw"):
        draw([replaced(result, losses=np.full(12, np.nan))])


def contour_sets(figure: Figure) -> tuple[QuadContourSet, QuadContourSet]:
    found = [child for child in figure.axes[0].get_children() if isinstance(child, QuadContourSet)]
    return next(c for c in found if c.filled), next(c for c in found if not c.filled)


@pytest.mark.parametrize("quantity", ["train loss", "test loss", "train error", "test error"])
def test_plane_contours_lie_where_the_grid_has_their_value(quantity):
    result = plane()
    grid = {
        "train loss": result.train_loss,
        "test loss": result.test_loss,
        "train error": 100 - 100 * result.train_accuracy,
        "test error": 100 - 100 * result.test_accuracy,
    }[quantity]
    _, lines = contour_sets(draw([result], quantity=quantity))
    logarithm = RegularGridInterpolator((result.x, result.y), np.log10(grid))
    assert len(lines.levels) >= 4
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        on_grid_lines = path.vertices[
            np.isclose(path.vertices[:, :1], result.x, atol=1e-9).any(1)
            | np.isclose(path.vertices[:, 1:], result.y, atol=1e-9).any(1)
        ]
        assert len(on_grid_lines) > 0.5 * len(path.vertices)
        inside = np.clip(on_grid_lines, (result.x[0], result.y[0]), (result.x[-1], result.y[-1]))
        np.testing.assert_allclose(logarithm(inside), level, atol=1e-9)


def test_plane_marks_stand_at_their_coordinates_in_equal_aspect():
    result = plane(aspect=2.5)
    axes = draw([result]).axes[0]
    marks = [one.get_xydata()[0] for one in axes.lines if one.get_gid() == "mark"]
    np.testing.assert_array_equal(marks, result.marks)
    (a, b, c) = axes.transData.transform([[0, 0], [1, 0], [0, 1]])
    assert b[0] - a[0] == pytest.approx(c[1] - a[1])


def test_plane_leaves_cells_that_are_not_finite_empty():
    result = holed(plane())
    filled, _ = contour_sets(draw([result]))
    rings = [Path(ring) for area in filled.get_paths() for ring in area.to_polygons()]
    points = np.stack(np.meshgrid(result.x[1:-1], result.y[1:-1], indexing="ij"), -1)
    # an area with holes is a set of rings: a point is inside when it is inside an odd number of them
    covered = np.sum([ring.contains_points(points.reshape(-1, 2)) for ring in rings], axis=0) % 2 == 1
    covered = covered.reshape(points.shape[:2])
    finite = np.isfinite(result.train_loss)[1:-1, 1:-1]
    assert not covered[~finite].any()
    near = ~finite
    for axis in (0, 1):
        near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
    assert covered[~near].mean() > 0.99


def test_surfaces_draw_every_finite_cell_and_no_other(monkeypatch):
    seen = []

    class Recorded(relief.Poly3DCollection):
        def __init__(self, cells, **options):
            seen.append(np.asarray(cells))
            super().__init__(cells, **options)

    monkeypatch.setattr(relief, "Poly3DCollection", Recorded)
    result = holed(plane())
    figure = draw([result, plane()], "surface_pair")
    finite = np.isfinite(result.train_loss)
    assert len(seen[0]) == (finite[1:, 1:] & finite[:-1, 1:] & finite[1:, :-1] & finite[:-1, :-1]).sum()
    assert len(seen[1]) == 30 * 21
    i, j = (
        np.argmin(abs(axis[None] - seen[0].reshape(-1, 3)[:, k, None]), axis=1)
        for k, axis in enumerate((result.x, result.y))
    )
    np.testing.assert_allclose(10 ** seen[0].reshape(-1, 3)[:, 2], result.train_loss[i, j])
    assert figure.axes[0].get_zlim() == figure.axes[1].get_zlim()


def test_a_cell_is_cut_at_the_ceiling_without_loss_or_overlap():
    """Below and above together cover the cell's plan, nothing is above the ceiling, and below is as it was."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        a, b, c = rng.normal(size=3)
        corners_ = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        cell = np.column_stack([corners_, corners_ @ (a, b) + c])
        below, above = relief.cut(cell, 0.3)
        pieces = [piece for piece in ([below] if len(below) else []) + above]
        assert sum(area(piece) for piece in pieces) == pytest.approx(1)
        assert all((piece[:, 2] <= 0.3 + 1e-12).all() for piece in pieces)
        assert all((piece[:, 2] == 0.3).all() for piece in above)
        if len(below):
            np.testing.assert_allclose(below[:, 2], below[:, :2] @ (a, b) + c, atol=1e-12)


def area(polygon: np.ndarray) -> float:
    """Of its plan, by the shoelace formula."""
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_surface_3d_marks_stand_on_the_surface_over_their_places(monkeypatch):
    result = plane()
    axes = draw([result], "surface_3d").axes[0]
    floor = axes.get_zlim()[0]
    drops = [np.array(one.get_data_3d()).T for one in axes.lines if one.get_linestyle() == "--"]
    height = RegularGridInterpolator((result.x, result.y), np.log10(result.train_loss))
    assert len(drops) == 3
    for drop, place in zip(drops, result.marks, strict=True):
        np.testing.assert_allclose(drop, [[*place, floor], [*place, height(place)[0]]])
    above = (plane().train_loss > 0.5).sum()
    words = " ".join(text.replace("\n", " ") for text, _, _ in drawn_texts(case("surface-3d"), monkeypatch))
    assert f"{above} points above 0.5 cut off there (grey)" in words
    with pytest.raises(InputError, match="above the lowest value"):
        draw([result], "surface_3d", ceiling=1e-9)


def test_surface_cap_is_stated_and_drawn(monkeypatch):
    words = " ".join(text.replace("\n", " ") for text, _, _ in drawn_texts(case("surface-single"), monkeypatch))
    above = np.nansum(np.where(np.isfinite(holed(plane()).train_loss), plane().train_loss, 0) > 0.5)
    assert f"{above} points above 0.5 cut off there" in words


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_bars_end_at_the_mean_with_its_deviation(scale):
    result = comparison()
    axes = draw([result], scale=scale).axes[0]
    bars = [
        [patch.get_y() + patch.get_height() for patch in c.patches] for c in axes.containers if hasattr(c, "patches")
    ]
    blocks = result.values[:, 2:6].reshape(3, 3, 4)
    np.testing.assert_allclose(bars, blocks.mean(1))
    spans = [np.array(c.get_segments())[:, :, 1] for c in axes.collections]
    expected = np.stack([blocks.mean(1) - blocks.std(1, ddof=1), blocks.mean(1) + blocks.std(1, ddof=1)], -1)
    np.testing.assert_allclose(spans, expected)
    seeds = np.array([one.get_ydata() for one in axes.lines if one.get_gid() == "seed"]).reshape(3, 3, 4)
    np.testing.assert_allclose(seeds, blocks)
    assert axes.get_yscale() == scale


def test_bars_without_a_number_say_so(monkeypatch):
    result = comparison()
    result.values[4, 3] = np.nan
    assert [text for text, _, _ in drawn_texts(draw([result]), monkeypatch)].count("n/a") == 1


def test_eigenvalues_show_every_seed_its_error_and_what_has_not_converged(monkeypatch):
    results = hessians()
    figure = draw(results, names=THRICE)
    axes = figure.axes[0]
    drawn = np.concatenate([one.get_ydata() for one in axes.lines if one.get_marker() != "None"])
    np.testing.assert_allclose(np.sort(drawn), np.sort(np.concatenate([r.eigenvalues for r in results])))
    spans = np.concatenate([np.array(c.get_segments())[:, :, 1] for c in axes.collections])
    errors = np.concatenate([r.residuals + r.sampling_errors for r in results])
    np.testing.assert_allclose(np.sort(np.diff(spans)[:, 0]), np.sort(2 * errors))
    hollow = np.concatenate([one.get_ydata() for one in axes.lines if one.get_markerfacecolor() == "white"])
    assert set(hollow) == {r.eigenvalues[-1] for r in results if not r.converged[-1]}
    assert axes.get_yscale() == "log"
    assert "not converged" in [text for text, _, _ in drawn_texts(figure, monkeypatch)]


def test_negative_eigenvalues_take_a_symmetric_logarithm():
    assert draw(hessians("both"), names=THRICE).axes[0].get_yscale() == "symlog"


def test_trace_ends_at_the_estimate():
    result = trace()
    ends = [one.get_xydata()[-1] for one in draw([result]).axes[0].lines]
    np.testing.assert_allclose(ends, [[40, result.samples.mean()]] * 2)


def test_density_draws_the_result_and_marks_what_is_resolved():
    result = density()
    linear, logarithmic = draw([result]).axes
    curve = next(one for one in linear.lines if one.get_gid() == "density").get_xydata()
    height, _ = result.density(curve[:, 0])
    np.testing.assert_allclose(curve[:, 1], np.maximum(height, curve[:, 1].min()))
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(1, abs=0.01)
    marks = next(one for one in linear.lines if one.get_gid() == "one").get_xydata()
    assert {12.0} <= set(marks[:, 0]) <= set(result.eigenvalues)
    np.testing.assert_allclose(marks[0, 1], result.density(marks[:1, 0])[0])
    assert linear.get_yscale() == logarithmic.get_yscale() == "log"
    nodes = next(one for one in logarithmic.lines if one.get_gid() == "nodes")
    np.testing.assert_array_equal(nodes.get_xdata(), result.nodes)


def test_density_per_decade_counts_eigenvalues():
    """Far from zero a decade of the axis is a factor of ten: the curve's integral there is a number of eigenvalues."""
    result = density()
    curve = next(one for one in draw([result], view="symlog").axes[0].lines if one.get_gid() == "density").get_xydata()
    x, height = curve[curve[:, 0] > 1].T
    assert np.trapezoid(height, np.log10(x)) == pytest.approx((result.eigenvalues > 1).sum(), abs=1)


def test_correlation_ranks_the_measures_and_hollows_what_may_be_chance():
    axes = draw([correlation()]).axes[0]
    solid, open_ = axes.lines[:2]
    taus = np.r_[solid.get_xdata(), open_.get_xdata()]
    places = np.r_[solid.get_ydata(), open_.get_ydata()]
    np.testing.assert_allclose(taus[np.argsort(places)], correlation().taus[:-1])
    assert all(abs(t) > 0.1 for t in solid.get_xdata())
    assert all(-0.1 <= t <= 0.2 for t in open_.get_xdata())
    with pytest.raises(InputError, match="'pie' is not in"):
        draw([correlation()], measures=["pie"])


def test_audit_draws_every_finite_change_and_fills_what_must_not_move():
    axes = draw([audited()]).axes[0]
    drawn = {}
    for line in axes.lines:
        if line.get_gid():
            filled = line.get_markerfacecolor() != "white"
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
                drawn[round(y), line.get_gid()] = float(x), filled
    result = audited()
    for i, row in enumerate(result.changes):
        for k, kind in enumerate(result.kinds):
            x, filled = drawn[i, kind]
            assert filled == result.claims[i, k]
            assert (x == pytest.approx(max(row[k], 1e-17))) if np.isfinite(row[k]) else np.isnan(x)


def test_density_states_its_widths(monkeypatch):
    words = " ".join(text.replace("\n", " ") for text, _, _ in drawn_texts(case("density"), monkeypatch))
    assert "standard deviation 0.05 in λ (left), 0.1 decades (right)" in words


def test_trace_draws_its_looks_against_products_and_its_interval():
    looks = np.array([[15.0, 90.0, 9.0], [20.0, 101.0, 4.0], [30.0, 100.0, 2.0]])
    result = replaced(trace(), history=looks, interval=(95.0, 105.0), trace=100.0)
    axes = draw([result]).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), looks[:, :2])
    (bar,) = [c.get_segments()[0] for c in axes.collections if hasattr(c, "get_segments")]
    np.testing.assert_allclose(bar, [[30, 95], [30, 105]])


def test_dependence_draws_mean_and_deviation_of_every_setting():
    result = dependence()
    axes = draw([result], factors=["dimension"]).axes
    assert [one.get_yscale() for one in axes] == ["log", "log"]
    rows = [i for i, factor in enumerate(result.factors) if factor == "dimension" and result.laws[i] == "gaussian"]
    for label, container in zip(LABELS[:2], axes[0].containers, strict=True):
        own = [i for i in rows if result.labels[i] == label]
        line, _, (bars,) = container
        np.testing.assert_allclose(line.get_ydata(), result.sharpness[own])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.ptp(ends, axis=1) / 2, result.deviation[own])
    with pytest.raises(InputError, match="'pie' was not changed"):
        draw([result], factors=["pie"])


def test_study_draws_mean_and_standard_error_of_every_cell():
    result = studied(SIZES)
    (axes,) = draw([result], x="batch_size", y="λ1").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    for name, container in zip(("sgd", "adam"), axes.containers, strict=True):
        line, _, (bars,) = container
        expected = np.array(
            [
                [v[0] for s, v in zip(result.settings, result.values, strict=True)
                 if (s["batch_size"], s["optimiser"]) == (size, name)]
                for size in SIZES["batch_size"]
            ]
        )  # fmt: skip
        np.testing.assert_allclose(line.get_xdata(), SIZES["batch_size"])
        np.testing.assert_allclose(line.get_ydata(), expected.mean(1))
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.ptp(ends, axis=1) / 2, expected.std(1, ddof=1) / 3**0.5)
    assert (
        draw([result], y="test loss", by="batch_size", x="optimiser").axes[0].get_xticklabels()[1].get_text() == "adam"
    )
    above, below = draw([result], x="batch_size", y="λ1", below="test loss").axes
    assert (above.get_ylabel(), below.get_ylabel(), below.get_xlabel()) == ("λ₁", "test loss", "batch size")
    for panel, column in ((above, 0), (below, 1)):
        sizes = [i for i, s in enumerate(result.settings) if (s["batch_size"], s["optimiser"]) == (16, "sgd")]
        assert panel.containers[0][0].get_ydata()[0] == pytest.approx(result.values[sizes, column].mean())
    three = studied({**SIZES, "rho": (0.0, 0.05)})
    with pytest.raises(InputError, match="rho varies, too"):
        draw([three])
    (chosen,) = draw([three], where="rho=0.05").axes
    rows = [i for i, s in enumerate(three.settings) if (s["batch_size"], s["optimiser"], s["rho"]) == (16, "sgd", 0.05)]
    assert chosen.containers[0][0].get_ydata()[0] == pytest.approx(three.values[rows, 0].mean())


def test_long_names_of_runs_stand_apart():
    """They are words that cannot be broken: every second one goes a line lower."""
    names = ("plain", "augmented", "conserved", "disturbed", "lengthened")
    axes = draw([studied({"run": names})], x="run", y="λ1").axes[0]
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown == ["plain", "\naugmented", "conserved", "\ndisturbed", "lengthened"]
    short = draw([studied({"run": ("a", "b", "c", "d")})], x="run", y="λ1").axes[0]
    assert [label.get_text() for label in short.get_xticklabels()] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("law", "slopes"), [("log", (2, 3)), ("power", (0.2, 0.3))])
def test_study_fits_a_law_and_says_its_slope(law, slopes):
    options = {"x": "step", "y": "distance ‖w−w₀‖", "by": "batch_size"}
    figure = draw([growing(law)], fit=law, **options)
    for text, size, slope in zip(figure.legends[0].get_texts(), (16, 64), slopes, strict=False):
        assert text.get_text() == f"batch size = {size}, b = {slope}"
    fits = [line for line in figure.axes[0].get_lines() if line.get_gid() == "fit"]
    for line, slope in zip(fits, slopes, strict=True):
        y = np.log10(line.get_ydata()) if law == "power" else line.get_ydata()
        np.testing.assert_allclose(np.diff(y) / np.diff(np.log10(line.get_xdata())), slope)
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (1, 1024)
    (short,) = draw([growing(law)], fit=law, fit_until=100.0, where="batch_size=64", **options).axes
    assert next(line for line in short.get_lines() if line.get_gid() == "fit").get_xdata()[-1] == 100
    for wrong, message in (({"fit": "cubic"}, "fit = 'cubic'"), ({"fit": law, "fit_until": 1.5}, "two points")):
        with pytest.raises(InputError, match=message):
            draw([growing(law)], **wrong, **options)


def test_study_of_several_moments_is_drawn_at_one_or_along_them():
    with pytest.raises(InputError, match="where: at=1024, or x = epoch"):
        draw([growing()], y="distance ‖w−w₀‖")
    (axes,) = draw([growing()], y="distance ‖w−w₀‖", where="at=64").axes
    np.testing.assert_allclose(axes.containers[0][0].get_ydata(), 1.05 + np.array([2, 3]) * np.log10(64))
    (axes,) = draw([growing()], x="step", y="distance ‖w−w₀‖", by="batch_size").axes
    assert [container[0].get_linestyle() != "None" for container in axes.containers] == [True, True]
    assert list(axes.containers[0][0].get_xdata()) == [1, 4, 16, 64, 256, 1024]


def test_what_a_named_run_sets_is_no_other_factor():
    result = studied({"run": ("small", "large", "large, scaled")})
    sets = {"small": (16, "none"), "large": (256, "none"), "large, scaled": (256, "sqrt")}
    more = [{**s, **dict(zip(("batch_size", "lr_scaling"), sets[s["run"]], strict=True))} for s in result.settings]
    result = dataclasses.replace(result, settings=tuple(more), factors=("run", "batch_size", "lr_scaling"))
    (axes,) = draw([result], y="λ1").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["small", "large", "large, scaled"]
    assert len(axes.containers) == 1
    with pytest.raises(InputError, match="run varies, too"):
        draw([result], x="batch_size", y="λ1", by="batch_size")


def test_numbers_that_are_texts_are_places_on_the_axis():
    (axes,) = draw([studied({"data_args.label_noise": ("0", "0.25", "1.0")})], y="test loss").axes
    assert list(axes.containers[0][0].get_xdata()) == [0, 0.25, 1]
    assert axes.get_xlabel() == "label noise"


def test_merge_tree_draws_each_branch_from_its_minimum_to_its_pass():
    result = basins(waves())
    (axes,) = draw([result], most=20).axes
    branches = [line for line in axes.get_lines() if line.get_gid() == "branch"]
    ends = sorted(tuple(np.asarray(line.get_ydata(), float)) for line in branches)
    finite = result.deaths < axes.get_ylim()[1]
    assert len(result.births) == len(ends)
    np.testing.assert_allclose([end[0] for end in ends], result.births)
    np.testing.assert_allclose([end[1] for end in ends if end[1] < axes.get_ylim()[1]], result.deaths[finite])
    place = {end[0]: np.asarray(line.get_xdata(), float)[0] for line in branches for end in [line.get_ydata()]}
    for line in (line for line in axes.get_lines() if line.get_gid() == "pass"):
        (left, right), (height, _) = line.get_data()
        crossed = [x for birth, x in place.items() if left < x < right]
        died = {x: death for (birth, x), death in zip(sorted(place.items()), result.deaths, strict=True)}
        assert all(died[x] <= height for x in crossed)  # no line is crossed while its branch lives


def test_merge_tree_stands_beside_the_plane_it_is_of():
    figure = draw([waves(), basins(waves())])
    lines = {line.get_gid(): line for line in figure.axes[0].get_lines()}
    shown = np.stack(lines["minimum"].get_data(), axis=1)
    result = basins(waves())
    assert {tuple(point) for point in shown} <= {tuple(point) for point in result.minima}
    with pytest.raises(InputError, match="not measured on this plane"):
        draw([plane(), result])
    with pytest.raises(InputError, match="most = 0"):
        draw([result], most=0)


def test_zero_losses_keep_the_logarithm():
    loss = line().train_loss * (line().train_loss > 2e-3)
    assert draw([replaced(line(), train_loss=loss)]).axes[0].get_yscale() == "symlog"
    grid = np.where(plane().train_loss < 2e-3, 0, plane().train_loss)
    _, lines = contour_sets(draw([replaced(plane(), train_loss=grid)]))
    assert min(lines.levels) < -1  # drawn as log₁₀; levels of the loss itself would not be negative


# ---- choosing, refusing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        ([], {}, "at least one"),
        ([line()], {"recipe": "pie"}, "one of eigenvalues"),
        ([line()], {"colour": "red"}, "one of names, spread"),
        ([line(), hessian(1)], {}, "no recipe draws"),
        ([line(), plane()], {}, r"sharpness_bars +Sharpness by space"),
        ([line()], {"recipe": "plane"}, "plane scan"),
        ([plane()], {"quantity": "train los"}, "train loss, test loss"),
        ([bowl()], {"recipe": "plane", "quantity": "test error"}, "holds no test error"),
        ([plane()], {"names": ["a"]}, "1 given for 3"),
        ([hessian(1), hessian(1, "both")], {}, "different ends"),
        ([line(), line(path="arc")], {}, "differ in their α"),
        ([hessian(1), hessian(2, "both")], {"recipe": "trace"}, "trace needs"),
        ([hessian(-1)], {"scale": "log"}, "symlog or linear"),
        ([density()], {"view": "polar"}, "one of both, linear, symlog"),
        ([trace()], {"recipe": "density"}, "density needs"),
        ([line(labels=("a", "b")), line(labels=("c", "b"))], {}, "different checkpoints"),
    ],
)
def test_unfit_requests_are_refused_with_a_remedy(results, options, message):
    with pytest.raises(InputError, match=message):
        draw(results, **options)


def test_every_recipe_has_help_and_a_case():
    used = {options.get("recipe") or __import__("landscape_figures").recipe_for(r) for r, options in CASES.values()}
    assert used == set(RECIPES)
    assert all(function.__doc__ for function in RECIPES.values())


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["r/sgd/checkpoints/epoch_9.safetensors", "r/sam/checkpoints/epoch_9.safetensors"], ["sgd", "sam"]),
        (["sgd/checkpoints/epoch_1.pt", "sgd/checkpoints/epoch_9.pt"], ["epoch_1", "epoch_9"]),
        (["x/sgd/last.pt", "x/sam/last.pt"], ["sgd", "sam"]),
        (["x/0/a.pt", "x/1/a.pt", "x/1/b.pt"], ["0/a", "1/a", "1/b"]),
        (["a.pt", "a.pt"], ["a", "a"]),
        ([None, "b.pt"], ["result 1", "b"]),
    ],
)
def test_names_tell_the_checkpoints_apart(paths, names):
    results = [replaced(line(), provenance={"checkpoint": path}) for path in paths]
    assert result_names(results, None) == names


# ---- numbers and colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (-4.0, "−4"),
        (1e-3, "0.001"),
        (3e-5, "3×10⁻⁵"),
        (1e6, "10⁶"),
        (-1e4, "−10⁴"),
        (-2.5e12, "−2.5×10¹²"),
    ],
)
def test_numbers(value, words):
    assert number(value) == words


@settings(max_examples=200, deadline=None)
@given(st.floats(-12, 6), st.floats(0.02, 30), st.integers(5, 12))
def test_log_levels_are_few_and_inside(exponent, decades, most):
    low, high = 10.0**exponent, 10.0 ** (exponent + decades)
    levels = log_levels(low, high, most)
    assert 2 <= len(levels) <= most
    assert (np.diff(levels) > 0).all()
    assert (levels >= low * 0.999).all()
    assert (levels <= high * 1.001).all()
    mantissas = levels / 10.0 ** np.floor(np.log10(levels) + 1e-12)
    if decades > 2:
        assert np.isclose(mantissas[:, None], [1, 2, 3, 5], rtol=1e-6).any(1).all()


@given(st.floats(-1e6, -1e-3), st.floats(1e-3, 1e6))
def test_symlog_ticks_are_few_and_hold_zero(low, high):
    ticks = symlog_ticks(low, high, 1e-4, 6)
    assert 0 in ticks
    assert len(ticks) <= 9
    assert ((ticks >= low) & (ticks <= high)).all()


def lightness(colour) -> float:
    """CIE L* of an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    y = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_series_can_be_told_apart_in_black_and_white():
    first = LOOKS[:7]
    for channel in ("colour", "line", "marker", "hatch"):
        assert len({str(getattr(look, channel)) for look in first}) == 7
    assert len(set(map(str, LOOKS))) == len(LOOKS)
    three = sorted(lightness(look.colour) for look in first[:3])
    assert np.diff(three).min() > 8


def test_the_map_is_monotone_in_lightness():
    values = [lightness(colour) for colour in matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, 64))]
    assert (np.diff(values) > 0).all()
