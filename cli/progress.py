"""Progress on standard error: silent when that is no terminal, and for the first two seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[..., None]
_PATIENCE = 2.0


@contextmanager
def progress(label: str) -> Iterator[Report | None]:
    """A callable (done, total=None, note="") that draws a bar, or None when nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
    )
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=None, note="")
    begun = time.monotonic()
    shown = False

    def report(done: int, total: int | None = None, note: str = "") -> None:
        nonlocal shown
        if not shown and time.monotonic() - begun > _PATIENCE:
            bar.start()
            shown = True
        bar.update(task, completed=done, total=total, note=note)

    try:
        yield report
    finally:
        if shown:
            bar.stop()
