"""The trace of the Hessian of the mean loss, in all, by layer and by coordinate, with standard errors."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import stdtrit

from landscape import seeds
from landscape.aliases import Vector
from landscape.blocks import exact_block, place
from landscape.errors import InputError, illegal
from landscape.methods.deflation import Deflation, deflate, no_deflation
from landscape.methods.probing import ControlledProbes, PlainProbes, Summary
from landscape.methods.xtrace import hutch_plus_plus, xtrace
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.products.product import Product
from landscape.results import TraceResult
from landscape.spec import TraceSpec

Progress = Callable[[int, int | None, str], object]

_GROWTH = 8
"""Looks at the standard error come an eighth of the probes apart: to look after each would stop on lucky ones."""

_NORMAL = 1.96
"""Half the length of a 95 % interval in standard errors, for many degrees of freedom."""

_MOST_STEPS = 150
_SIGN_BYTES = 1
_FEWEST_ROWS = 24


@full_precision()
def measure(
    problem: Problem, spec: TraceSpec, weights: Vector | None = None, progress: Progress | None = None
) -> TraceResult:
    """tr ∇²f(w), f the mean loss, with a standard error; by layer and by coordinate when asked.

    w: `weights` (n,), default the problem's own. Methods:

    - `deflated`: tr T on a Krylov space of as many dimensions as pay (`methods.deflation`), and Rademacher probes
      for the rest, each with the others' images as control variate (`methods.leave_one_out`). Unbiased.
    - `hutchinson`: the mean of zᵀHz. Unbiased; holds no vectors. `deflated` becomes this one where
      `spec.memory_gib` has no room for the vectors it keeps.
    - `hutch++`, `xtrace`: with the whole budget of products (`methods.xtrace`), without layers or a diagonal.

    The first two stop when the 95 % interval reaches no further than 1.96·tolerance·|trace| to either side, which for
    many degrees of freedom is a standard error of tolerance·|trace|, and for few a smaller one; never before
    `min_probes`, and they look seldom. `converged` is False when `max_matvecs` came first. Probe i does not depend
    on how many are drawn.
    progress(products, max_matvecs, note) is called at each look.
    Raises `InputError` when a product is not finite, the budget is too small, or a named layer is unknown or
    larger than `exact_limit`.
    """
    began = time.perf_counter()
    w = problem.weights if weights is None else weights
    exact = _exact_layers(problem, spec)
    _check(spec)
    evaluation = problem.evaluate(w)
    matvec = problem.hessian(w, many=True)
    run = _Run(matvec, w, spec, {k: v.numel() for k, v in problem.named(w).items()}, progress)
    fields = run.sketched() if spec.method in ("hutch++", "xtrace") else run.probed()
    for name in exact:
        diagonal = exact_block(problem, name, w, spec.exact_limit).diagonal().cpu().numpy()
        fields = _with_exact(fields, name, diagonal, run.sizes)
    return TraceResult(
        spec=spec, seconds=time.perf_counter() - began,
        conditions={**problem.conditions(), **evaluation._asdict(), "engine": matvec.chosen}, **fields,
    )  # fmt: skip


def _exact_layers(problem: Problem, spec: TraceSpec) -> tuple[str, ...]:
    """The layers to measure exactly, each once, after a check that this can be done."""
    for name in spec.exact:
        place(problem, name, spec.exact_limit)
    return tuple(dict.fromkeys(spec.exact))


def _check(spec: TraceSpec) -> None:
    if spec.max_matvecs < spec.min_probes:
        raise InputError(
            f"max_matvecs = {spec.max_matvecs} is less than min_probes = {spec.min_probes}. "
            "Raise it, or lower the other."
        )
    needed = {"hutch++": 6, "xtrace": 4}.get(spec.method, 0)
    if spec.max_matvecs < needed:
        raise illegal("max_matvecs", spec.max_matvecs, f"at least {needed} for {spec.method}", "Raise it.")
    if needed and (spec.by_layer or spec.diagonal):
        raise illegal("method", spec.method, "deflated or hutchinson with by_layer or diagonal", "Change either.")


@dataclass
class _Run:
    """One measurement: where the probes come from, and what is asked of them."""

    matvec: Product
    w: Vector
    spec: TraceSpec
    sizes: dict[str, int]
    progress: Progress | None
    history: list[tuple[float, float, float]] = field(default_factory=list)

    def probe(self, number: int) -> Vector:
        return seeds.rademacher(seeds.stream(self.spec.seed, "trace", number), 1, self.w)[0]

    def probed(self) -> dict:
        """The fields of the result, by `deflated` or `hutchinson`."""
        spec = self.spec
        deflation, room = self._deflation()
        layers = list(self.sizes.values()) if spec.by_layer else []
        probes = (
            ControlledProbes(self.w, room, layers, spec.diagonal)
            if room
            else PlainProbes(self.w, layers, spec.diagonal)
        )
        budget, until = spec.max_matvecs - deflation.matvecs, spec.min_probes
        converged = False
        while not converged and len(probes) < budget:
            group, end = self.matvec.group, min(until, budget)
            for first in range(len(probes), end, group):
                drawn = [self.probe(number) for number in range(first, min(first + group, end))]
                images = self.matvec.rows(torch.stack([deflation.project(z) for z in drawn]))
                for z, y in zip(drawn, images, strict=True):
                    probes.add(z, deflation.project(y))
            until = len(probes) + max(1, len(probes) // _GROWTH)
            summary = probes.summary(details=False)
            converged = self._look(deflation.matvecs + len(probes), deflation.trace, summary)
        return self._fields(deflation, probes.summary(), converged, "deflated" if room else "hutchinson")

    def sketched(self) -> dict:
        """The fields of the result, by `hutch++` or `xtrace`."""
        budget = self.spec.max_matvecs
        count = min(budget // 3 * 2 if self.spec.method == "hutch++" else budget // 2, self.w.numel())
        probes = torch.stack([self.probe(i) for i in range(count)])
        found = (hutch_plus_plus if self.spec.method == "hutch++" else xtrace)(self.matvec.rows, probes)
        spent = count // 2 * 2 + count - count // 2 if self.spec.method == "hutch++" else 2 * count
        none = np.zeros(0)
        summary = Summary(found.samples.numpy(), found.standard_error, len(found.samples) - 1, none, none, none, none)
        converged = self._look(spent, 0.0, summary)
        return self._fields(no_deflation(self.w), summary, converged, self.spec.method)

    def _deflation(self) -> tuple[Deflation, int]:
        """The Krylov space, and how many probes are kept as control variates (0: none)."""
        spec, n = self.spec, self.w.numel()
        row = n * self.w.element_size()
        rows = int(spec.memory_gib * 2**30 / (row + n * _SIGN_BYTES))
        if spec.method != "deflated" or rows < _FEWEST_ROWS:
            return no_deflation(self.w), 0
        start = seeds.gaussian(seeds.stream(spec.seed, "trace", "start"), 1, self.w)[0]
        most = min(_MOST_STEPS, rows // 2, spec.max_matvecs // 2, spec.max_matvecs - spec.min_probes)
        deflation = deflate(self.matvec, start, spec.tolerance, most, spec.max_matvecs)
        return deflation, min(rows - len(deflation.basis), spec.max_matvecs - deflation.matvecs)

    def _look(self, matvecs: int, known: float, summary: Summary) -> bool:
        """Note where the estimate stands; whether that is good enough."""
        trace, error = known + summary.mean, summary.standard_error
        self.history.append((matvecs, trace, error))
        if self.progress is not None:
            self.progress(matvecs, self.spec.max_matvecs, f"{trace:.4g} ± {error:.2g}")
        return _reach(summary.degrees, error) <= _NORMAL * self.spec.tolerance * abs(trace)

    def _fields(self, deflation: Deflation, found: Summary, converged: bool, method: str) -> dict:
        matvecs, trace, error = self.history[-1]
        reach = _reach(found.degrees, error)
        exact = deflation.diagonal()
        layers = np.array([part.sum().item() for part in exact.split(list(self.sizes.values()))])
        diagonal = found.diagonal + exact.cpu().numpy() if self.spec.diagonal else found.diagonal
        return dict(
            trace=trace, standard_error=error, interval=(trace - reach, trace + reach), degrees=found.degrees,
            converged=bool(converged), matvecs=int(matvecs), method=method,
            deflated=len(deflation.basis), deflated_trace=deflation.trace,
            samples=found.samples + deflation.trace, history=np.array(self.history),
            layers=tuple(self.sizes) if self.spec.by_layer else (),
            layer_traces=found.blocks + layers if self.spec.by_layer else found.blocks,
            layer_errors=found.block_errors, diagonal=diagonal, diagonal_errors=found.diagonal_errors,
        )  # fmt: skip


def _reach(degrees: int, error: float) -> float:
    """Half the length of the 95 % interval, NaN without a degree of freedom."""
    return float(stdtrit(degrees, 0.975)) * error if degrees > 0 else float("nan")


def _with_exact(fields: dict, name: str, diagonal: np.ndarray, sizes: dict[str, int]) -> dict:
    """The fields with one layer's trace, and its part of the diagonal if that was asked for, as measured exactly."""
    layers, traces, errors = fields["layers"], fields["layer_traces"].copy(), fields["layer_errors"].copy()
    if name not in layers:
        layers, traces, errors = (*layers, name), np.r_[traces, 0.0], np.r_[errors, 0.0]
    at = layers.index(name)
    traces[at], errors[at] = diagonal.astype(np.float64).sum(), 0.0
    found = {
        "layers": layers,
        "layer_traces": traces,
        "layer_errors": errors,
        "matvecs": fields["matvecs"] + len(diagonal),
    }
    if len(fields["diagonal"]):
        names = list(sizes)
        start = sum(sizes[key] for key in names[: names.index(name)])
        part = slice(start, start + len(diagonal))
        for key, value in (("diagonal", diagonal), ("diagonal_errors", 0.0)):
            found[key] = fields[key].copy()
            found[key][part] = value
    return {**fields, **found}
