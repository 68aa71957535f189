"""The line search of Moré and Thuente: a step with sufficient decrease and a flat enough slope.

J. J. Moré and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20
(1994). It works on numbers only; whoever calls it owns the vectors.
"""

import math
from collections.abc import Generator
from typing import Any, NamedTuple


class Trial(NamedTuple):
    """A step along the line, with the function's value and slope there, and what the caller keeps with it."""

    step: float
    value: float
    slope: float
    kept: Any = None


def search(
    value: float,
    slope: float,
    largest: float,
    decrease: float = 1e-3,
    curvature: float = 0.9,
    width: float = 0.1,
    evaluations: int = 20,
) -> Generator[float, tuple[float, float, Any], Trial | None]:
    """A step in (0, largest] for minimising φ: yields steps, is sent (φ(step), φ'(step), anything), returns the step.

    The first trial is 1.

    Asks for φ(t) ≤ φ(0) + decrease·t·φ'(0) and |φ'(t)| ≤ curvature·|φ'(0)|; at `largest` the first alone is
    enough. value, slope: φ(0) and φ'(0) < 0. Trials that are not finite bound the step from above. Returns
    `None` when no trial fell below φ(0); otherwise the last trial, or the best when evaluations ran out.
    """
    origin = best = Trial(0.0, value, slope)
    other, bracketed, auxiliary = origin, False, True
    lower, upper = 0.0, 5.0
    step, span, span_before = min(1.0, largest), largest, 2 * largest
    for _ in range(evaluations):
        trial = Trial(step, *(yield step))
        if not (math.isfinite(trial.value) and math.isfinite(trial.slope)):
            largest = step = best.step + (step - best.step) / 4
            continue
        bound = value + decrease * step * slope
        if trial.value <= bound and abs(trial.slope) <= curvature * -slope:
            return trial
        if step == largest and trial.value <= bound and trial.slope <= decrease * slope:
            return trial
        auxiliary = auxiliary and not (trial.value <= bound and trial.slope >= 0)
        tilt = decrease * slope if auxiliary and best.value >= trial.value > bound else 0.0
        best, other, bracketed, step = _narrowed(best, other, trial, bracketed, lower, upper, tilt)
        if bracketed:
            if abs(other.step - best.step) >= 0.66 * span_before:
                step = best.step + (other.step - best.step) / 2
            span, span_before = abs(other.step - best.step), span
            lower, upper = sorted((best.step, other.step))
        else:
            lower, upper = (step + factor * (step - best.step) for factor in (1.1, 4.0))
        step = min(max(step, 0.0), largest)
        if bracketed and (step <= lower or step >= upper or upper - lower <= width * upper):
            break
    return best if best.step > 0 and best.value < value else None


def _narrowed(
    best: Trial, other: Trial, trial: Trial, bracketed: bool, lower: float, upper: float, tilt: float
) -> tuple[Trial, Trial, bool, float]:
    """The next interval (best end, other end, whether a minimum lies between) and the next step (section 4)."""
    a, b, t = (Trial(e.step, e.value - tilt * e.step, e.slope - tilt) for e in (best, other, trial))
    opposite = t.slope * math.copysign(1.0, a.slope) < 0
    if t.value > a.value:  # case 1: a higher value, so a minimum lies between
        cubic, quadratic = _cubic(a, t), a.step + (t.step - a.step) * _quadratic(a, t)
        closer = abs(cubic - a.step) < abs(quadratic - a.step)
        step, bracketed = cubic if closer else cubic + (quadratic - cubic) / 2, True
    elif opposite:  # case 2: slopes of opposite sign
        cubic, secant = _cubic(t, a), _secant(a, t)
        step, bracketed = cubic if abs(cubic - t.step) > abs(secant - t.step) else secant, True
    elif abs(t.slope) < abs(a.slope):  # case 3: the slope is getting flatter
        step = _flatter(a, b, t, bracketed, lower, upper)
    elif bracketed:  # case 4: the slope is not getting flatter
        step = _cubic(t, b)
    else:
        step = upper if t.step > a.step else lower
    if t.value > a.value:
        return best, trial, bracketed, step
    return trial, (best if opposite else other), bracketed, step


def _flatter(a: Trial, b: Trial, t: Trial, bracketed: bool, lower: float, upper: float) -> float:
    cubic, secant = _cubic(t, a, beyond=upper if t.step > a.step else lower), _secant(a, t)
    if bracketed:
        step = cubic if abs(cubic - t.step) < abs(secant - t.step) else secant
        limit = t.step + 0.66 * (b.step - t.step)
        return min(limit, step) if t.step > a.step else max(limit, step)
    step = cubic if abs(cubic - t.step) > abs(secant - t.step) else secant
    return min(max(step, lower), upper)


def _secant(a: Trial, t: Trial) -> float:
    return t.step + t.slope / (t.slope - a.slope) * (a.step - t.step)


def _quadratic(a: Trial, t: Trial) -> float:
    return a.slope / ((a.value - t.value) / (t.step - a.step) + a.slope) / 2


def _cubic(a: Trial, b: Trial, beyond: float | None = None) -> float:
    """The minimiser of the cubic through two values and slopes, or `beyond` when it lies on the wrong side of a."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    root = scale * math.sqrt(max(0.0, (theta / scale) ** 2 - a.slope / scale * (b.slope / scale)))
    root = math.copysign(root, b.step - a.step)
    denominator = (root - a.slope) + root + b.slope
    ratio = (root - a.slope + theta) / denominator if denominator else math.inf
    if beyond is not None and not (ratio < 0 and root != 0):
        return beyond
    return a.step + ratio * (b.step - a.step)
