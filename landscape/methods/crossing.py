"""Where the mean of random samples, increasing in x, crosses a target: bisection by sequential tests.

At each x samples are drawn until their mean differs from the target by three standard errors, so that a step of the
bisection is taken on evidence and not after a fixed count. The i-th sample may use the same random numbers at every x.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr, stdtrit

FEWEST = 10
"""Samples before the first test: with fewer, a standard error is itself a guess."""

ERRORS = 3.0
"""Standard errors of a normal distribution that decide; with few samples as many of Student's as are as unlikely."""

_GROWTH = 4
"""Tests come a quarter of the samples apart: a test after each would stop on lucky ones."""

_STEP = 4.0
_FARTHEST = 2.0**40
_BEYOND = 1.2
"""Standard errors, relative to those that decide, by which an end of the interval should be away from the target."""

_STEPS = 4
"""What is undecided grows by no less than this part of the way to the end: few tests of `most` samples are needed."""

_NEAR = 1.5
"""An end is looked for anew while it is so many times farther away than it need be."""


@dataclass(frozen=True)
class Crossing:
    """The mean is below the target at `lower` and above it at `upper`, each by `ERRORS` standard errors.

    converged: upper/lower ≤ 1 + tolerance. lower = 0 or upper = inf: no such x was found. samples: of all x.
    """

    lower: float
    upper: float
    converged: bool
    samples: int

    @property
    def middle(self) -> float:
        """The geometric mean of the two."""
        return math.sqrt(self.lower) * math.sqrt(self.upper)

    @property
    def relative_error(self) -> float:
        """One standard error of log x, when the interval is taken as `ERRORS` of them to either side."""
        return math.log(self.upper / self.lower) / (2 * ERRORS) if self.lower > 0 else math.inf


def crossing(
    sample: Callable[[float, int], float], target: float, start: float, tolerance: float, most: int
) -> Crossing:
    """The x > 0 at which E[sample(x, i)] = target; the samples i = 0, 1, … at one x are independent.

    Steps by factors of four from `start` until both signs are seen, then halves log(upper/lower). Where `most`
    samples do not decide, the target is met within the error; the search then goes on at both sides of what is
    undecided, which the interval keeps, so that it may stay wider than `tolerance`.
    """
    search = _Search(sample, target, most)
    search.bracket(start)
    while search.lower > 0 and search.upper < math.inf and search.ratio > 1 + tolerance:
        x = search.next()
        if x is None:
            break
        search.test(x)
    taken = sum(map(len, search.taken.values()))
    return Crossing(search.lower, search.upper, search.ratio <= 1 + tolerance, taken)


@dataclass
class _Search:
    sample: Callable[[float, int], float]
    target: float
    most: int
    lower: float = 0.0
    upper: float = math.inf
    undecided: tuple[float, float] | None = None
    taken: dict[float, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.upper / self.lower if self.lower > 0 else math.inf

    def bracket(self, start: float) -> None:
        """Look outwards from `start` for a smaller x that is below and a larger one that is above."""
        x = start
        self.test(x)
        while self.lower == 0 and x > start / _FARTHEST:
            x /= _STEP
            self.test(x)
        x = max(start, self.lower, self.undecided[1] if self.undecided else 0.0)
        while self.upper == math.inf and x < start * _FARTHEST:
            x *= _STEP
            self.test(x)

    def next(self) -> float | None:
        """Where to test next: the middle, or where a test just outside of what is undecided may decide.

        None when both ends are as near to what is undecided as tests of `most` samples reach.
        """
        if self.undecided is None:
            return math.sqrt(self.lower) * math.sqrt(self.upper)
        for inner, end in zip(self.undecided, (self.lower, self.upper), strict=True):
            gap = math.log(end / inner)
            reach = max(self._reach(inner, end), abs(gap) / _STEPS)
            if abs(gap) > _NEAR * reach:
                return inner * math.exp(math.copysign(reach, gap))
        return None

    def _reach(self, inner: float, end: float) -> float:
        """|log x − log inner| for the x towards `end` that most likely decides, by the slope between the two.

        The slope is that of the samples that both have, so that noise which is the same at both does not count.
        """
        values, others = np.array(self.taken[inner]), np.array(self.taken[end])
        shared, side = min(len(values), len(others)), math.copysign(1.0, end - inner)
        rise = side * float(np.mean(others[:shared] - values[:shared]))
        needed = _BEYOND * _bar(len(values)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
        needed -= side * (float(np.mean(values)) - self.target)
        return max(needed, 0.0) / rise * abs(math.log(end / inner)) if rise > 0 else math.inf

    def test(self, x: float) -> None:
        sign = self._sign(x)
        if sign < 0:
            self.lower = x
        elif sign > 0:
            self.upper = x
        elif self.undecided:
            self.undecided = min(x, self.undecided[0]), max(x, self.undecided[1])
        else:
            self.undecided = x, x
        if self.undecided and not self.lower < self.undecided[0] <= self.undecided[1] < self.upper:
            self.undecided = None

    def _sign(self, x: float) -> int:
        values, until = self.taken.setdefault(x, []), FEWEST
        while len(values) < self.most:
            values += [self.sample(x, i) for i in range(len(values), min(until, self.most))]
            count, away = len(values), float(np.mean(values)) - self.target
            if abs(away) > _bar(count) * float(np.std(values, ddof=1)) / count**0.5:
                return 1 if away > 0 else -1
            until = count + count // _GROWTH
        return 0


def _bar(count: int) -> float:
    """As many standard errors of `count` samples as are as unlikely as `ERRORS` of a normal distribution."""
    return float(stdtrit(count - 1, ndtr(ERRORS)))
