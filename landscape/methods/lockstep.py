"""Several iterative methods side by side, their evaluations taken together.

A method is a generator: it yields the point that it wants evaluated, is sent (value, gradient), and returns its
outcome. Run one after the other, methods evaluate a point at a time; in lockstep, each round evaluates one point
of every method that still runs, as one batch.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Evaluated = tuple[float, Tensor]
Outcome = TypeVar("Outcome")
Method = Generator[Tensor, Evaluated, Outcome]
"""Yields points (n,), is sent (f, ∇f) there, returns an outcome."""

EvaluateSeveral = Callable[[Float[Tensor, "k n"]], tuple[Sequence[float], Float[Tensor, "k n"]]]
"""The values and gradients at k points."""


def alone(method: Method[Outcome], function: Callable[[Tensor], Evaluated]) -> Outcome:
    """Run one method to its end; function(z) gives (f, ∇f)."""
    try:
        point = next(method)
        while True:
            point = method.send(function(point))
    except StopIteration as end:
        return end.value


def lockstep(
    methods: Sequence[Method[Any]], several: EvaluateSeveral, seen: Callable[[Tensor, float, Tensor], Evaluated]
) -> list[Any]:
    """Run all methods to their ends, a point of each at a time; their outcomes in order.

    seen(z, f, ∇f) is told of every evaluation, and gives what the method is sent.
    """
    outcomes: list[Any] = [None] * len(methods)
    waiting: dict[int, Tensor] = {}

    def advance(number: int, sent: Evaluated | None) -> None:
        try:
            waiting[number] = next(methods[number]) if sent is None else methods[number].send(sent)
        except StopIteration as end:
            outcomes[number] = end.value

    for number in range(len(methods)):
        advance(number, None)
    while waiting:
        round_, points = list(waiting), list(waiting.values())
        waiting.clear()
        values, gradients = several(torch.stack(points))
        for number, point, value, gradient in zip(round_, points, values, gradients, strict=True):
            advance(number, seen(point, value, gradient))
    return outcomes
