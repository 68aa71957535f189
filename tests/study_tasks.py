"""Tasks for the executors' tests, which other processes import."""

import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number**2


def die(task: tuple[str, int]) -> int:
    """Killed as often as the task says, which the file counts; then its own process id."""
    path, deaths = Path(task[0]), task[1]
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    if len(path.read_text()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(path.read_text())


def gone(_: int) -> None:
    """A process that ends by itself in the middle of a task."""
    os._exit(3)


def gpu(_: int) -> str | None:
    time.sleep(0.5)  # so that each process gets one
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def sleepy(path: str) -> None:
    """Says which process it is, and goes on for long."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)
