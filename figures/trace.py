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
    """Running mean of Hutchinson's quadratic forms ± one standard error against the number of probes.

    results: trace results; names: one each. The last point of a curve is the reported estimate.
    """
    if not results or not all(isinstance(result, TraceResult) for result in results):
        raise InputError("trace needs trace results (`landscape trace`). Leave the other results out.")
    labels = result_names(results, names)
    with style():
        figure = new_figure(width, 2.1)
        axes = figure.add_subplot()
        edges = []
        for number, result in enumerate(results):
            probes, mean, error = running(result.samples)
            as_ = look(number)
            axes.fill_between(probes, mean - error, mean + error, color=as_.colour, alpha=0.2, linewidth=0)
            axes.plot(probes, mean, color=as_.colour, linestyle=as_.line)
            axes.plot(probes[-1:], mean[-1:], color=as_.colour, marker=as_.marker)
            edges += [mean - error, mean + error]
        bottom, top, _ = limits(np.concatenate(edges), "linear")
        scale_axis(axes.yaxis, bottom, top, "linear")
        axes.set(xlabel="probes", ylabel="trace of the Hessian")
        axes.grid(axis="y")
        entries = [
            (
                Line2D([], [], color=look(i).colour, linestyle=look(i).line, marker=look(i).marker),
                label + ("" if result.converged else " (not converged)"),
            )
            for i, (label, result) in enumerate(zip(labels, results, strict=True))
        ]
        legend_below(figure, entries, "mean of the probes so far ± standard error")
        return settle(figure)


def running(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(probes, mean, standard error) after 2, 3, … samples; after 1 if there is only one, without an error."""
    if len(samples) < 2:
        return np.ones(1), samples[:1].astype(float), np.zeros(1)
    counts = np.arange(2, len(samples) + 1)
    means = np.array([samples[:k].mean() for k in counts])
    errors = np.array([samples[:k].std(ddof=1) / k**0.5 for k in counts])
    return counts, means, errors
