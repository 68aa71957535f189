"""What stands below a study's table: what is not done, what failed and why, what has no meaning for some runs."""

from landscape.results import StudyResult


def study(result: StudyResult) -> list[str]:
    """Lines of text."""
    lines = [f"{len(set(result.runs))} runs, {result.seconds:.0f} seconds of computing."]
    if any(cell.failed for cell in result.cells()):
        lines.append("Means are over the runs that have the number: where runs failed, they are of the others.")
    if result.pending:
        lines.append(f"INCOMPLETE: {result.pending} runs are not done; the same command goes on.")
    lines += [f"FAILED {run}: {why}" for run, why in result.failures.items()]
    lacking: dict[tuple[str, str], list[str]] = {}
    for run, measure, reason in result.undefined:
        lacking.setdefault((measure, reason), []).append(run.removeprefix("runs/"))
    for (measure, reason), runs in lacking.items():
        who = f"{len(set(runs))} runs" if len(set(runs)) > 3 else ", ".join(dict.fromkeys(runs))
        lines.append(f"No {measure} for {who}: {reason}")
    return lines
