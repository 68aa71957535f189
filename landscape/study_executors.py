"""Where the runs of a study are computed: in this process, or in several of this machine.

An executor takes a function and tasks, and yields (number of the task, its outcome, or why there is none) as they
end, in any order. Each process is told its own GPU where there are any.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

Function = Callable[[Any], Any]
Ended = tuple[int, Any, str]
"""Number of the task, what the function returned, and why it returned nothing ("" where it did)."""

Executor = Callable[[Function, Sequence[Any]], Iterator[Ended]]

ATTEMPTS = 2
"""How often a task is begun before the death of its process is its own fault."""


def in_this_process(function: Function, tasks: Sequence[Any]) -> Iterator[Ended]:
    """One task after the other."""
    for number, task in enumerate(tasks):
        yield number, function(task), ""


@dataclass(frozen=True)
class LocalProcesses:
    """`count` processes of this machine. One that is killed costs its task one attempt, and is replaced.

    They end with this process, however it ends. The function and the tasks are pickled; what the function raises
    ends its process.
    """

    count: int

    def __call__(self, function: Function, tasks: Sequence[Any]) -> Iterator[Ended]:
        waiting = deque((number, 1) for number in range(len(tasks)))
        workers = [_Worker(slot, function) for slot in range(min(self.count, len(tasks)))]
        try:
            while waiting or any(worker.busy for worker in workers):
                for worker in workers:
                    if waiting and not worker.busy:
                        number, attempt = waiting.popleft()
                        worker.give(number, attempt, tasks[number])
                for ready in connection.wait([worker.pipe for worker in workers if worker.busy]):
                    worker = next(one for one in workers if one.pipe is ready)
                    number, attempt = worker.number, worker.attempt
                    try:
                        outcome = worker.take()
                    except (EOFError, OSError):
                        why = worker.death()
                        workers[workers.index(worker)] = _Worker(worker.slot, function)
                        if attempt < ATTEMPTS:
                            waiting.appendleft((number, attempt + 1))
                        else:
                            yield number, None, f"its process {why}, at each of {attempt} attempts"
                    else:
                        yield number, outcome, ""
        finally:
            for worker in workers:
                worker.stop()


@dataclass
class _Worker:
    """A process, and the task that it has."""

    slot: int
    function: Function
    busy: bool = False
    number: int = -1
    attempt: int = 0
    pipe: Any = field(init=False)
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would copy torch's threads' locks, and CUDA's state
        self.pipe, theirs = spawning.Pipe()
        self.process = spawning.Process(target=_work, args=(theirs, self.function, _gpu(self.slot)), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, number: int, attempt: int, task: Any) -> None:
        self.busy, self.number, self.attempt = True, number, attempt
        with suppress(OSError):  # dead already: reading says so, too
            self.pipe.send(task)

    def take(self) -> Any:
        outcome = self.pipe.recv()
        self.busy = False
        return outcome

    def death(self) -> str:
        """How the process ended, in words."""
        self.process.join(10)
        code = self.process.exitcode
        self.stop()
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"

    def stop(self) -> None:
        self.pipe.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def _work(pipe: Any, function: Function, gpu: str | None) -> None:
    """The life of a process: tasks from the pipe, outcomes into it, until either end is closed."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(function(task))
        except KeyboardInterrupt:
            return


def _end_with_parent() -> None:
    """A process whose parent was killed would go on training, and hold its run's folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _gpu(slot: int) -> str | None:
    """The GPU of a process: each the next one, round and round. None where there is none."""
    from landscape.devices import visible_gpus  # with torch: only where processes are started

    devices = visible_gpus()
    return devices[slot % len(devices)] if devices else None
