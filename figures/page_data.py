"""What the interactive page of a scan knows: its quantities with their ticks, and plotly's figure to show them in."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import RegularGridInterpolator

from landscape.results import SurfaceResult

from .coordinates import aspect_of, axis_names
from .quantities import choices, missing, values_of
from .scales import limits, log_levels, logarithms, number
from .style import COLOUR_MAP, FAINT, INK, LOOKS, SIGNED_MAP, VERMILLION

_LEVELS = 12


def quantities(result: SurfaceResult) -> list[dict[str, Any]]:
    """Each quantity of the scan as plain data for the page's script: name, values, and how each scale shows it.

    values: grid rows along y (a plane) or the numbers along x (a line), None where there is no number.
    """
    found = []
    for name in choices(result):
        grid, words = values_of(result, name)
        split, _, measure = name.partition(" ")
        paired = split in ("train", "test") and bool(measure)
        (logs,), logarithmic = logarithms([grid])
        plain = np.where(np.isfinite(grid), grid, np.nan)
        scales = {"linear": _scale(result, plain, False)}
        if logarithmic:
            scales["log"] = _scale(result, logs, True)
        found.append({
            "name": name, "words": words, "split": split if paired else "", "measure": measure if paired else name,
            "values": _listed(plain.T), "lowest": 10 ** float(np.nanmin(logs)) if logarithmic else None,
            "scales": scales, "note": _note(result, grid),
        })  # fmt: skip
    return found


def _scale(result: SurfaceResult, height: np.ndarray, logarithmic: bool) -> dict[str, Any]:
    """Ticks with their words, ends, spacing of the contours, and the heights of marks and training."""
    finite = height[np.isfinite(height)]
    low, high = limits(height, "linear", margin=0.0)[:2]
    if logarithmic:
        ticks = np.log10(log_levels(10.0**low, 10.0**high, 6))
    else:
        ticks = np.asarray(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    lines = np.asarray(MaxNLocator(_LEVELS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    signed = not logarithmic and bool(finite.min(initial=0) < 0 < finite.max(initial=0))
    reach = max(abs(low), abs(high))
    return {
        "ticks": ticks.tolist(), "texts": [number(10.0**tick if logarithmic else tick) for tick in ticks.tolist()],
        "start": float(lines[0]), "end": float(lines[-1]), "size": float(lines[1] - lines[0]),
        "low": -reach if signed else low, "high": reach if signed else high,
        "colours": _colours(SIGNED_MAP if signed else COLOUR_MAP),
        "marks": _listed(_at(result, height, result.marks)),
        "trajectory": _listed(_at(result, height, result.trajectory)),
    }  # fmt: skip


def _colours(name: str) -> list[list[Any]]:
    """A map of matplotlib's as plotly writes it."""
    return [[place, to_hex(colormaps[name](place))] for place in np.linspace(0, 1, 17).tolist()]


def _at(result: SurfaceResult, height: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Heights of the surface over some of its points (m, axes); NaN at holes and outside."""
    if not len(points):
        return np.zeros(0)
    return RegularGridInterpolator(result.coordinates, height, bounds_error=False)(points)


def _listed(values: np.ndarray) -> Any:
    """Nested lists with None for what is no number; seven digits, which is more than a screen or a float32 shows."""
    if values.ndim > 1:
        return [_listed(row) for row in values]
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]


def _note(result: SurfaceResult, grid: np.ndarray) -> str:
    gaps = [f"{int(cells.sum())} of {cells.size} points {why}" for why, cells in missing(result, grid).items()]
    return ", ".join(gaps) + ": shown as holes" if gaps else ""


def plane_figure(result: SurfaceResult) -> dict[str, Any]:
    """Surface, contours, marks and training of a plane, for plotly; the script fills in the chosen quantity."""
    grid: dict[str, Any] = {"x": result.x.tolist(), "y": result.y.tolist(), "hoverinfo": "text"}
    grid["colorbar"] = {"title": {"side": "right"}, "len": 0.8}
    lines = {"z": {"show": True, "color": INK, "width": 1}}
    figure = go.Figure([
        go.Surface(lighting={"ambient": 0.75, "specular": 0.05}, contours=lines, **grid),
        go.Contour(line={"color": INK, "width": 0.8}, **grid),
    ])  # fmt: skip
    figure.add_traces(_points(result.trajectory, {"mode": "lines+markers", "line": {"color": INK, "width": 3},
                                                  "marker": {"color": "white", "size": 3,
                                                             "line": {"color": INK, "width": 1}}}))  # fmt: skip
    figure.add_traces(_points(result.marks, {"mode": "markers", "marker": {"color": VERMILLION, "size": 6}}))
    first, second = ({"title": {"text": escaped(name)}} for name in axis_names(result))
    box = {"aspectratio": {"x": 1, "y": 1, "z": 0.7}, "camera": {"eye": {"x": -1.4, "y": -1.6, "z": 0.95}}}
    figure.update_layout(
        template="none", showlegend=False, uirevision="keep", margin={"l": 60, "r": 10, "t": 10, "b": 50},
        font={"color": INK}, hoverlabel={"align": "left"},
        xaxis={**first, "range": [grid["x"][0], grid["x"][-1]]},
        yaxis={**second, "range": [grid["y"][0], grid["y"][-1]]},
        scene={"xaxis": first, "yaxis": second, "zaxis": {"title": {"text": ""}}, **box},
    )  # fmt: skip
    if aspect_of(result):
        figure.update_yaxes(scaleanchor="x", constrain="domain")
        figure.update_xaxes(constrain="domain")
    return figure.to_plotly_json()


def _points(places: np.ndarray, how: dict[str, Any]) -> list[Any]:
    """Points (m, 2) in space and on the plane."""
    x, y = places.reshape(-1, 2).T.tolist()
    return [kind(x=x, y=y, hoverinfo="text", **how) for kind in (go.Scatter3d, go.Scatter)]


def line_figure(result: SurfaceResult, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """One curve for each quantity of a line, for plotly; the script shows those of the chosen measure.

    entries: of `quantities`.
    """
    figure = go.Figure()
    for entry in entries:
        as_ = LOOKS[1 if entry["split"] == "test" else 0]
        figure.add_scatter(
            x=result.x.tolist(), y=entry["values"], name=escaped(entry["words"]), mode="lines+markers",
            line={"color": as_.colour, "dash": "dash" if entry["split"] == "test" else "solid"},
            marker={"symbol": "square-open" if entry["split"] == "test" else "circle"},
        )  # fmt: skip
    for place, label in zip(result.marks[:, 0].tolist(), result.labels, strict=True):
        figure.add_vline(
            x=place, line={"color": FAINT, "dash": "dot", "width": 1}, annotation_text=escaped(label),
            annotation_yref="paper", annotation_y=1, annotation_yanchor="bottom", annotation_xanchor="center",
        )  # fmt: skip
    figure.update_layout(
        template="none", uirevision="keep", margin={"l": 70, "r": 20, "t": 40, "b": 50}, font={"color": INK},
        showlegend=True, legend={"orientation": "h", "y": 1.12}, hovermode="x unified",
        xaxis={"title": {"text": escaped(axis_names(result)[0])}}, yaxis={"showgrid": True, "exponentformat": "power"},
    )  # fmt: skip
    return figure.to_plotly_json()


def escaped(text: str) -> str:
    """Text as plotly shows it literally: its own small markup knows entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
