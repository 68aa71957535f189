"""Print-quality figures from result files: one recipe per figure, each a pure function of results.

    from landscape.results import load
    from landscape_figures import draw, save_figure
    save_figure(draw([load("line.landscape")]), "line")      # line.pdf, line.png

`animate` films a training over its plane, `write_page` makes an interactive page of a scan.

No window system, no global matplotlib state, no torch.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from landscape.errors import InputError, illegal
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
    Result,
    SharpnessResult,
    StudyResult,
    SurfaceResult,
    TraceResult,
    TrackResult,
)

from . import (
    audit,
    barriers,
    comparison,
    correlation,
    curvature_line,
    density,
    dependence,
    edges,
    eigenvalues,
    measures,
    merge_tree,
    parametric,
    plane,
    planes,
    ratio_map,
    sharpness_bars,
    study,
    surface_3d,
    surface_pair,
    trace,
    track,
)
from .animation import animate
from .coordinates import has_own_marks, is_line, is_plane
from .groups import EIGENVALUES, SHARPNESS, chosen_columns
from .page import write_page
from .save import save_figure
from .style import style

__all__ = ["RECIPES", "animate", "draw", "recipe_for", "recipe_help", "save_figure", "style", "write_page"]

RECIPES: dict[str, Callable[..., Figure]] = {
    "eigenvalues": eigenvalues.draw,
    "parametric": parametric.draw,
    "curvature_line": curvature_line.draw,
    "plane": plane.draw,
    "planes": planes.draw,
    "ratio_map": ratio_map.draw,
    "surface_3d": surface_3d.draw,
    "surface_pair": surface_pair.draw,
    "sharpness_bars": sharpness_bars.draw,
    "comparison": comparison.draw,
    "correlation": correlation.draw,
    "measures": measures.draw,
    "audit": audit.draw,
    "trace": trace.draw,
    "density": density.draw,
    "track": track.draw,
    "edges": edges.draw,
    "dependence": dependence.draw,
    "merge_tree": merge_tree.draw,
    "study": study.draw,
    "barriers": barriers.draw,
}
"""Recipe name -> function of a list of results and keyword options."""


def draw(results: Sequence[Result], recipe: str | None = None, **options: Any) -> Figure:
    """The figure of some results, by the named recipe or by the one that fits their kinds.

    options: keyword arguments of the recipe (`recipe_help` shows them).
    Raises `InputError` when no recipe fits, or the recipe or an option is unknown.
    """
    if not results:
        raise InputError("a figure needs at least one result. Name result files.")
    name = recipe or recipe_for(results)
    if name not in RECIPES:
        raise illegal("recipe", name, f"one of {', '.join(RECIPES)}", "Leave it out to have it chosen.")
    known = list(inspect.signature(RECIPES[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise illegal(f"option of {name}", option, f"one of {', '.join(known)}", "Remove it.")
    return RECIPES[name](list(results), **options)


def recipe_for(results: Sequence[Result]) -> str:
    """The recipe that fits these results. Raises `InputError` with the list of recipes when none does."""
    kinds = {type(result) for result in results}
    first = results[0]
    if kinds == {HessianResult}:
        return "eigenvalues"
    if kinds == {SharpnessResult}:
        return "sharpness_bars"
    if kinds == {DensityResult}:
        return "density"
    if kinds == {TraceResult}:
        return "trace"
    if kinds == {TrackResult}:
        return "track" if len(results) == 1 else "edges"
    if kinds == {PathResult}:
        return "barriers"
    if kinds == {MeasuresResult}:
        return "measures"
    if kinds == {AuditResult} and len(results) == 1:
        return "audit"
    if kinds == {CorrelationResult} and len(results) == 1:
        return "correlation"
    if kinds == {DependenceResult} and len(results) == 1:
        return "dependence"
    if BasinResult in kinds and kinds <= {BasinResult, SurfaceResult}:
        return "merge_tree"
    if kinds == {StudyResult} and len(results) == 1:
        return "study"
    if isinstance(first, ComparisonResult) and len(results) == 1:
        if chosen_columns(first, SHARPNESS):
            return "sharpness_bars"
        return "eigenvalues" if chosen_columns(first, EIGENVALUES) else "comparison"
    if kinds == {SurfaceResult}:
        if all(is_line(result) for result in results):
            return "parametric"
        if all(is_plane(result) for result in results) and len(results) <= 4:
            return "plane" if len(results) == 1 and has_own_marks(first) else "surface_pair"
    found = ", ".join(result.kind for result in results)
    raise InputError(f"no recipe draws these results together ({found}). Recipes:\n{recipe_help()}")


def recipe_help() -> str:
    """One line for each recipe: its name and the first line of its documentation."""
    width = max(map(len, RECIPES))
    return "\n".join(
        f"  {name:{width}}  {(inspect.getdoc(function) or '').splitlines()[0]}" for name, function in RECIPES.items()
    )
