"""Where the runs of a study are computed: on a Dask cluster.

    tcp://host:8786   a running scheduler, whose workers see the study's folder
    local:N           N worker processes of this machine, each with its own GPU where there are any
    slurm.toml        workers that Slurm starts: the arguments of dask-jobqueue's SLURMCluster, and jobs, their number

A worker that is killed costs its tasks one attempt; the scheduler gives them to another one.
"""

import logging
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from landscape.devices import visible_gpus
from landscape.errors import InputError, illegal
from landscape.files import read_bytes
from landscape.study_executors import Ended, Function

_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss|inproc)://.+")
_LEGAL = "tcp://HOST:PORT, local:N or a .toml file for Slurm"


@dataclass(frozen=True)
class DaskCluster:
    """The cluster that a text names. Raises `InputError` when the text is none, or dask is not installed."""

    text: str

    def __post_init__(self) -> None:
        if not (_ADDRESS.fullmatch(self.text) or re.fullmatch(r"local:[1-9]\d*", self.text)):
            if not self.text.endswith(".toml"):
                raise illegal("--cluster", self.text, _LEGAL, "")
            slurm_arguments(self.text)
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise InputError(
                "a cluster needs dask. Install it: pip install 'landscape-sharpness[cluster]', or use --jobs N."
            ) from None

    def __call__(self, function: Function, tasks: Sequence[Any]) -> Iterator[Ended]:
        """Each task on a worker; in the end one on each worker at a time."""
        from distributed import as_completed

        with _client(self.text) as client:
            futures = {client.submit(function, task, pure=False): number for number, task in enumerate(tasks)}
            suspects: list[int] = []
            for future in as_completed(list(futures)):
                number = futures.pop(future)
                outcome, why = _end(future)
                future.release()
                if why == _KILLED:
                    suspects.append(number)
                else:
                    yield number, outcome, why
            for number in suspects:  # the scheduler blames tasks that only waited at a worker that died: now alone
                yield number, *_end(client.submit(function, tasks[number], pure=False))


_KILLED = "its worker was killed, and so was every other one that tried"


def _end(future: Any) -> tuple[Any, str]:
    """The outcome of a task, or why there is none."""
    from distributed import KilledWorker

    try:
        return future.result(), ""
    except KilledWorker:
        return None, _KILLED
    except Exception as error:  # of the cluster or of pickling: the runs' own are outcomes
        return None, f"the cluster gave no outcome ({type(error).__name__}: {error})"


def slurm_arguments(path: str) -> tuple[dict[str, Any], int]:
    """The arguments of SLURMCluster in a TOML file, and how many workers Slurm shall start (`jobs`, default 1)."""
    try:
        arguments = tomllib.loads(read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}. Mend the line.") from None
    jobs = arguments.pop("jobs", 1)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise illegal(f"{path}: jobs", jobs, "a whole number at least 1", "It is the number of workers.")
    arguments.setdefault("processes", 1)
    return arguments, jobs


@contextmanager
def _client(text: str) -> Iterator[Any]:
    from distributed import Client

    if _ADDRESS.fullmatch(text):
        try:
            client = Client(text, timeout=30)
        except (OSError, ValueError) as error:
            raise InputError(f"no scheduler answers at {text} ({error}). Start it, or check the address.") from None
        with client:
            yield client
        return
    with _cluster(text) as cluster, Client(cluster) as client:
        yield client


def _cluster(text: str) -> Any:
    if text.startswith("local:"):
        return _local(int(text.removeprefix("local:")))
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise InputError(
            "a Slurm cluster needs dask-jobqueue. Install it: pip install 'landscape-sharpness[cluster]'."
        ) from None
    arguments, jobs = slurm_arguments(text)
    try:
        cluster = SLURMCluster(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{text}: {error}. See the arguments of dask_jobqueue.SLURMCluster.") from None
    cluster.scale(jobs=jobs)
    return cluster


def _local(count: int) -> Any:
    """Worker processes with one thread each, every one with its own GPU."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = visible_gpus()

    def options(slot: int) -> dict[str, Any]:
        own = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
        quiet = {"DASK_LOGGING__DISTRIBUTED": "error"}
        return {"nthreads": 1, "memory_limit": 0, "env": {**quiet, **own}, "host": "127.0.0.1"}

    return SpecCluster(
        workers={slot: {"cls": Nanny, "options": options(slot)} for slot in range(count)},
        scheduler={"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}},
        silence_logs=logging.ERROR,  # type: ignore[arg-type]
    )
