"""What stands below the tables of scans, paths and basins."""

import numpy as np

from landscape.results import BasinResult, PathResult, SurfaceResult


def path(result: PathResult) -> list[str]:
    """What a barrier is, and what was done for the rows."""
    c = result.conditions
    lines = [
        "Barrier: max over t of f(t) − ((1−t)·f(0) + t·f(1)), at points evaluated; known to: how far the parabola "
        f"through the maximum disagrees. {result.evaluations} passes over data.",
    ]
    if "units_moved" in c:
        moved, units = (sum(group[k] for group in c["units_moved"]) for k in (1, 2))
        lines.append(f"Aligned by {result.spec.align}: {moved} of {units} hidden units took another place.")
        lines += [f"Not aligned: {name} ({reason})" for name, reason in c["units_left_out"]]
    if not np.isfinite(result.barriers[~np.isnan(result.barriers)]).all():
        lines.append("inf: a loss on the path is not finite.")
    return lines


def surface(result: SurfaceResult) -> list[str]:
    lines = [f"Evaluation: {result.evaluation}."] if result.evaluation else []
    if result.interpolated.any():
        evaluated = int((~result.interpolated).sum())
        lines.append(
            f"{evaluated} of {result.interpolated.size} points evaluated, the others interpolated: error at most "
            f"{100 * result.interpolation_error:.2g} % of the range at {result.held_out} points held out."
        )
    if result.half_error == result.half_error:
        lines.append(f"In bfloat16: losses off by at most {100 * result.half_error:.2g} % of their range on a sample.")
    if result.explained.size:
        shares = ", ".join(f"{100 * share:.1f} %" for share in result.explained)
        lines.append(f"Of the trajectory's variance the axes have {shares}.")
    return lines


def basin(result: BasinResult) -> list[str]:
    """What bounds mean, where points are, passes between them, the minima, and cells without a value."""
    lines = [
        "> : a lower bound, as the basin reaches the end of the scan or a point not evaluated; anisotropy is then that "
        "of the part seen.",
    ]
    for label, point, offset in zip(result.labels, result.points, result.offsets, strict=True):
        away = f", {offset:.3g} from the mark" if offset > 0 else ""
        lines.append(f"{label}: grid point ({', '.join(f'{x:.4g}' for x in point)}){away}")
    names, at_most = result.labels, "at most " if result.unknown else ""
    for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
        lines.append(f"Pass between {names[i]} and {names[j]}: {at_most}{result.passes[i, j]:.4g}")
    rest = result.persistence[np.isfinite(result.persistence)]
    more = f"; persistence of the others at most {rest.max():.3g}" if len(rest) else ""
    count = len(result.births)
    lines.append(f"{count} {'minimum' if count == 1 else 'minima'} in the merge tree{more}.")
    if result.outside:
        lines.append(f"Outside the scan, or without a finite value: {', '.join(result.outside)}.")
    if result.walls or result.unknown:
        lines.append(f"{result.walls} of {result.cells} points not finite (walls), {result.unknown} not evaluated.")
    return lines
