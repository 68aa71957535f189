"""Timing side by side: interleaved repeats, medians, one object per benchmark."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch

Contender = Callable[[], Mapping[str, float]]
"""Runs once and returns what it achieved: at least `error`, and any counts worth showing."""


def race(name: str, problem: str, ours: Contender, peers: Mapping[str, Contender], repeats: int = 5) -> dict[str, Any]:
    """Run all contenders in turn, `repeats` times; ratio = fastest peer at equal or smaller error / ours."""
    contenders = {"ours": ours, **peers}
    seconds: dict[str, list[float]] = {key: [] for key in contenders}
    found: dict[str, Mapping[str, float]] = {}
    for repeat in range(repeats + 1):
        for key, run in contenders.items():
            begun = time.perf_counter()
            found[key] = run()
            if repeat > 0:  # the first round warms up
                seconds[key].append(time.perf_counter() - begun)
    rows = {key: {"seconds": statistics.median(seconds[key]), **found[key]} for key in contenders}
    accurate = [rows[key]["seconds"] for key in peers if rows[key]["error"] <= max(rows["ours"]["error"], 1e-12)]
    return {
        "name": name,
        "problem": problem,
        "ours": rows.pop("ours"),
        "peers": rows,
        "ratio": min(accurate) / statistics.median(seconds["ours"]) if accurate else None,
        "conditions": {
            "torch": torch.__version__, "threads": torch.get_num_threads(), "repeats": repeats,
            "machine": platform.processor() or platform.machine(),
            "pyhessian": version("pyhessian"), "scipy": version("scipy"),
        },
    }  # fmt: skip


def report(results: list[dict[str, Any]]) -> None:
    """A table on standard output, or with --json one object per line."""
    for result in results:
        if "--json" in sys.argv:
            print(json.dumps(result))
            continue
        ratio = (
            "no peer is as accurate"
            if result["ratio"] is None
            else f"{result['ratio']:.2f} times the fastest as accurate"
        )
        print(f"\n{result['name']}: {result['problem']} ({ratio})")
        for key, row in {"ours": result["ours"], **result["peers"]}.items():
            rest = "  ".join(f"{k} {v:.3g}" for k, v in row.items() if k != "seconds")
            print(f"  {key:28} {row['seconds']:9.3f} s  {rest}")
