"""The Hessian's trace: the running estimate with its standard error, probe by probe."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.errors import InputError
from landscape.results import TraceResult

from .groups import result_names
from .layout import legend_below, new_figure, settle
from .scales import limits, scale_axis
from .style import look, style


def draw(results: Sequence[TraceResult], *, names: Sequence[str] | None = None, width: str = "single") -> Figure:
    """The trace ± one standard error at each look, against the Hessian-vector products used so far.

    results: trace results; names: one each. The last point of a curve is the reported estimate, its bar the
    95 % interval.
    """
    if not results or not all(isinstance(result, TraceResult) for result in results):
        raise InputError("trace needs trace results (`landscape trace`). Leave the other results out.")
    labels = result_names(results, names)
    with style():
        figure = new_figure(width, 2.1)
        axes = figure.add_subplot()
        edges = []
        for number, result in enumerate(results):
            products, mean, error = history(result)
            as_ = look(number)
            axes.fill_between(products, mean - error, mean + error, color=as_.colour, alpha=0.2, linewidth=0)
            axes.plot(products, mean, color=as_.colour, linestyle=as_.line)
            axes.plot(products[-1:], mean[-1:], color=as_.colour, marker=as_.marker)
            interval = np.where(np.isfinite(result.interval), result.interval, result.trace)
            axes.vlines(products[-1], *interval, color=as_.colour, linewidth=0.9)
            edges += [mean - error, mean + error, interval]
        bottom, top, _ = limits(np.concatenate(edges), "linear")
        scale_axis(axes.yaxis, bottom, top, "linear")
        axes.set(xlabel="Hessian-vector products", ylabel="trace of the Hessian")
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        entries = [
            (
                Line2D([], [], color=look(i).colour, linestyle=look(i).line, marker=look(i).marker),
                label + ("" if result.converged else " (not converged)"),
            )
            for i, (label, result) in enumerate(zip(labels, results, strict=True))
        ]
        legend_below(figure, entries, "estimate ± standard error; bar: 95 % interval")
        return settle(figure)


def history(result: TraceResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(products, trace, standard error) at each look, the error 0 where there is none yet."""
    looks = result.history if len(result.history) else running(result.samples)
    products, mean, error = looks.T
    return products, mean, np.where(np.isfinite(error), error, 0)


def running(samples: np.ndarray) -> np.ndarray:
    """(looks, 3) products, mean and standard error after 2, 3, … samples, for a result that holds no history."""
    if len(samples) < 2:
        return np.array([[1, samples[0], 0.0]])
    return np.array([[k, samples[:k].mean(), samples[:k].std(ddof=1) / k**0.5] for k in range(2, len(samples) + 1)])
