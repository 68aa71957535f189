"""Timing side by side: interleaved repeats, medians, one object per benchmark."""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from landscape.errors import InputError
from landscape.problem import Problem

Achieved = Mapping[str, float]

Contender = Callable[[], Achieved | Callable[[], Achieved]]
"""Runs once and returns what it achieved, or a function that finds that out, whose time does not count: at least
`error`, and any counts worth showing."""

RESULTS = Path(__file__).parent / "results"

EQUAL = 1.1
"""Errors within this factor count as equal: the rounding of float32 gives everybody nearly the same."""

DISTRIBUTIONS = {
    "pyhessian": "pyhessian",
    "curvlinops": "curvlinops-for-pytorch",
    "hessian_eigenthings": "hessian-eigenthings",
    "scipy": "scipy",
    "loss_landscapes": "loss-landscapes",
    "landscaper": "landscaper",
}
"""Packages compared with, and what pip calls them."""


Attempt = tuple[float, dict[str, float]]
"""Seconds of one run, and what it achieved with the peak of memory."""

PATIENCE = 60.0
"""Seconds; what takes longer is run once, and that run counts."""


def attempt(run: Contender) -> Attempt:
    """One run."""
    begun = time.perf_counter()
    with peak_memory() as peak:
        achieved = run()
        seconds, taken = time.perf_counter() - begun, peak()
    return seconds, {**(achieved() if callable(achieved) else achieved), "peak_mib": taken}


def race(
    name: str,
    problem: str,
    ours: Contender,
    peers: Mapping[str, Contender],
    repeats: int = 5,
    variants: Mapping[str, Contender] | None = None,
    before: Mapping[str, Attempt] | None = None,
) -> dict[str, Any]:
    """Run all contenders in turn, `repeats` times; ratio = fastest peer at EQUAL or smaller error / ours.

    variants: other ways of ours, timed with the rest and left out of the ratio. A first round warms up and takes
    the peak of memory; for contenders in `before` that has been done. One that takes longer than PATIENCE there
    is not run again. A peer that fails is left out, and `conditions` says why.
    """
    contenders: dict[str, Contender] = {"ours": ours, **peers, **(variants or {})}
    first, failed = dict(before or {}), {}
    for key, run in contenders.items():
        try:
            first[key] = first.get(key) or attempt(run)
        except Exception as reason:
            if key not in peers:
                raise
            failed[key] = because(reason)
            note(f"{key} failed and is left out ({failed[key]})")
    seconds: dict[str, list[float]] = {key: [] for key in first}
    for _ in range(repeats):
        for key, taken in seconds.items():
            if first[key][0] <= PATIENCE:
                taken.append(attempt(contenders[key])[0])
    rows = {
        key: {"seconds": statistics.median(taken or [first[key][0]]), **first[key][1], "runs": max(len(taken), 1)}
        for key, taken in seconds.items()
    }
    row = rows.pop("ours")
    competing = {key: rows.pop(key) for key in peers if key in rows}
    accurate = [other["seconds"] for other in competing.values() if other["error"] <= max(EQUAL * row["error"], 1e-12)]
    return {
        "name": name,
        "problem": problem,
        "ours": row,
        "variants": rows,
        "peers": competing,
        "ratio": min(accurate) / row["seconds"] if accurate else None,
        "conditions": {**conditions(), "repeats": repeats, **({"failed": failed} if failed else {})},
    }


def because(reason: Exception) -> str:
    """The first line of what went wrong."""
    return f"{type(reason).__name__}: {str(reason).splitlines()[0] if str(reason) else ''}"


def conditions() -> dict[str, Any]:
    """Machine, threads and versions."""
    versions = {key: found for key, name in DISTRIBUTIONS.items() if (found := _version(name))}
    return {
        "torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(),
        "machine": _processor(), "system": platform.platform(), **versions,
    }  # fmt: skip


def installed(package: str) -> bool:
    """Whether a peer is there; says so in one line when it is not."""
    if find_spec(package) is None:
        note(f"{package} is not installed and is skipped (pip install {DISTRIBUTIONS[package]})")
        return False
    return True


def note(line: str) -> None:
    """A line that is no result."""
    print(line, file=sys.stderr, flush=True)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Yields a function that gives the MiB taken at most inside the block, beyond what was taken before it.

    On a GPU the allocator's own count. Elsewhere the resident memory of the process, which Linux lets a process
    reset; memory that the allocator had kept from before is not seen. NaN where neither can be had.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield lambda: (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        yield lambda: float("nan")
        return
    before = _status("VmRSS")
    yield lambda: max(0.0, _status("VmHWM") - before) / 2**10


def options(description: str | None, settings: Sequence[str], argv: Sequence[str] | None, **more: Any):
    """--repeats, --json, the settings to run (default all), and `more`: flag without dashes -> add_argument's."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    if settings:
        parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"of {', '.join(settings)}; default all")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds after the one that warms up")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    for flag, arguments in more.items():
        parser.add_argument(f"--{flag.replace('_', '-')}", **arguments)
    chosen = parser.parse_args(argv)
    if settings:
        unknown = sorted({*chosen.settings} - {*settings})
        if unknown:
            parser.error(f"unknown setting {', '.join(unknown)}: choose of {', '.join(settings)}")
        chosen.settings = chosen.settings or list(settings)
    return chosen


def available_problems(
    settings: Mapping[str, Callable[[], Problem]], names: Sequence[str]
) -> Iterator[tuple[str, Problem]]:
    """The problems of these settings, one after the other; a line for each whose data are not there."""
    for name in names:
        try:
            yield name, settings[name]()
        except InputError as reason:
            note(f"{name} is skipped: {reason}")


def report(results: list[dict[str, Any]], as_json: bool | None = None) -> None:
    """A table on standard output, or one object per line (default: where the command line has --json)."""
    for result in results:
        if "--json" in sys.argv if as_json is None else as_json:
            print(json.dumps(result), flush=True)
            continue
        ratio = (
            "no peer is as accurate"
            if result["ratio"] is None
            else f"{result['ratio']:.2f} times the fastest as accurate"
        )
        print(f"\n{result['name']}: {result['problem']} ({ratio})")
        print("  " + ", ".join(f"{k} {v}" for k, v in result["conditions"].items()))
        for key, row in {"ours": result["ours"], **result.get("variants", {}), **result["peers"]}.items():
            rest = "  ".join(f"{k} {v:.3g}" for k, v in row.items() if k != "seconds")
            print(f"  {key:32} {row['seconds']:9.4f} s  {rest}", flush=True)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()


def _status(key: str) -> float:
    """A count of KiB out of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return float(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
