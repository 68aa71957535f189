"""Products and leading eigenvalues of large networks on a GPU: our engines and other packages, in eight minutes.

    python -m benchmarks.gpu [resnet18] [gpt2] [--device cuda] [--minutes 8] [--tiny] [--json]

resnet18: ResNet-18 (n = 11.2e6) on 50,000 synthetic images of 32×32 after some steps of SGD. gpt2: GPT-2's shape
(n = 124e6) with random weights on synthetic tokens. Of each: products by engine and by package on a part of the
data, in seconds and in units of an eager gradient, with the peak of memory; the reads of the host in Lanczos steps
(torch stops at the first on CUDA); and the top 5 eigenvalues on all data, hessian-eigenthings' at as many products.
errors: of products relative to ours that keep nothing; of our eigenvalues the largest residual bound / λ1, of
others' the largest distance from ours / λ1. All in float32 without TF32. Writes benchmarks/results/gpu-DEVICE.json.
--tiny takes networks and data small enough for a CPU, for a trial of the script.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import product as products
from benchmarks.harness import RESULTS, conditions, installed, note, options, peak_memory, report, synchronise
from benchmarks.host_reads import reads_of_lanczos
from benchmarks.models import ResNet18, gpt2
from benchmarks.peers import eigenthings_eigenvalues
from landscape import hessian, seeds
from landscape.aliases import Batch
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import HessianSpec

COUNT, TOLERANCE, LANCZOS_STEPS = 5, 1e-3, 12
ENGINES = ("recompute", "folded", "compiled")


@dataclass(frozen=True)
class Case:
    """all: the problem for eigenvalues; part: on fewer batches, for products."""

    name: str
    all: Problem
    part: Problem


def resnet18(device: torch.device, tiny: bool) -> Case:
    """Images are templates of their classes plus noise; the network is trained on some of them."""
    examples, batch, width, steps = (16, 8, 2, 2) if tiny else (50_000, 500, 64, 100)
    rng = seeds.stream(0, "resnet18 images")
    templates, targets = torch.randn(10, 3, 32, 32, generator=rng), torch.randint(10, (examples,), generator=rng)
    images = torch.randn(examples, 3, 32, 32, generator=rng).add_(templates[targets], alpha=0.3)
    data = list(zip(images.to(device).split(batch), targets.to(device).split(batch), strict=True))
    with seeds.global_stream(0, "resnet18"):
        model = ResNet18(width=width).to(device)
    _train(model, data, steps)
    return _case("resnet18", model, data, parts=1 if tiny else 10)


def gpt2_shape(device: torch.device, tiny: bool) -> Case:
    """Four batches of two sequences of 512 random tokens, and the same moved by one as targets."""
    sequences, batch, length = (2, 1, 16) if tiny else (8, 2, 512)
    model = gpt2(tiny).to(device)
    vocabulary = model.token.num_embeddings
    tokens = torch.randint(vocabulary, (sequences, length + 1), generator=seeds.stream(0, "gpt2 tokens")).to(device)
    data = list(zip(tokens[:, :-1].split(batch), tokens[:, 1:].split(batch), strict=True))
    return _case("gpt2", model, data, parts=1)


CASES: dict[str, Callable[[torch.device, bool], Case]] = {"resnet18": resnet18, "gpt2": gpt2_shape}


def _train(model: nn.Module, data: list[Batch], steps: int) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for step in range(steps):
        inputs, targets = data[step % len(data)]
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    model.zero_grad(set_to_none=True)


def _case(name: str, model: nn.Module, data: list[Batch], parts: int) -> Case:
    loss = loss_by_name("cross_entropy")
    return Case(name, Problem(model, loss, data), Problem(model, loss, data[:parts]))


def host_reads(case: Case) -> int:
    """Reads of the host in Lanczos steps, by the engine that keeps everything it needs."""
    problem = case.part
    product = products.engine_product(problem, "folded")
    start = seeds.gaussian(seeds.stream(0, "host reads"), 1, problem.weights)[0]
    product(start)
    return reads_of_lanczos(product, start, LANCZOS_STEPS)


def eigenvalues(case: Case, left: Callable[[], float]) -> dict[str, Any]:
    """Top eigenvalues once by each; a peer only if it ends in the time left, judged by the eager product."""
    problem = case.all
    ours, found = _once(problem, lambda: hessian.measure(
        problem, HessianSpec(count=COUNT, tolerance=TOLERANCE, sampling_error=False)
    ))  # fmt: skip
    largest = found.eigenvalues[0]
    ours |= {"error": float(found.residuals.max() / largest), "products": found.matvecs}
    peers, failed = {}, {}
    if installed("hessian_eigenthings"):
        plain = products.engine_product(problem, "recompute")
        once = products.timed(lambda: plain(problem.weights), problem.weights.device)
        if once * found.matvecs > left():
            failed["hessian-eigenthings"] = f"no time left for {found.matvecs} products of about {once:.2g} s"
            note(f"{case.name}: hessian-eigenthings is left out, {failed['hessian-eigenthings']}")
        else:
            row, theirs = _once(problem, lambda: eigenthings_eigenvalues(problem, COUNT, found.matvecs))
            gap = np.abs(np.sort(theirs.eigenvalues)[::-1] - found.eigenvalues).max()
            peers["hessian-eigenthings"] = {**row, "error": float(gap / largest), "products": theirs.products}
    best = min((row["seconds"] for row in peers.values()), default=None)
    return {
        "name": "eigenvalues", "problem": f"top {COUNT}, {case.name}, n = {problem.weights.numel()}, "
                                          f"{problem.size} terms, float32, tolerance {TOLERANCE:g}",
        "ours": ours, "peers": peers, "ratio": None if best is None else best / ours["seconds"],
        "conditions": {**_conditions(problem), "eigenvalues": found.eigenvalues.tolist(),
                       "converged": bool(found.converged.all()), **({"failed": failed} if failed else {})},
    }  # fmt: skip


def _once(problem: Problem, run: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    _tidy()
    begun = time.perf_counter()
    with peak_memory() as peak:
        found = run()
        synchronise(problem.weights.device)
        return {"seconds": time.perf_counter() - begun, "peak_mib": peak()}, found


def _tidy() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _conditions(problem: Problem) -> dict[str, Any]:
    device = problem.weights.device
    gpu: dict[str, Any] = {"device": str(device)}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        gpu = {"device": about.name, "memory_gib": round(about.total_memory / 2**30, 1), "cuda": torch.version.cuda,
               "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32}  # fmt: skip
    return {**conditions(), **gpu}


def results(names: Sequence[str], device: torch.device, tiny: bool, minutes: float, repeats: int) -> Iterator[dict]:
    """One record after the other, while there is time."""
    began = time.perf_counter()

    def left() -> float:
        return 60 * minutes - (time.perf_counter() - began)

    for number, name in enumerate(names):
        _tidy()
        case = CASES[name](device, tiny)
        share = left() / (len(names) - number)
        engines = ENGINES[:2] if tiny else ENGINES  # compiling takes longer than a trial should
        row = products.compare(name, case.part, repeats, engines, exact=tiny, budget=share / 3)
        row["conditions"] |= {**_conditions(case.part), "host_reads": host_reads(case), "host_steps": LANCZOS_STEPS - 1}
        yield row
        if row["conditions"]["gradient_seconds"] * 300 * case.all.size / case.part.size > left():
            note(f"{name}: no time left for eigenvalues")
            continue
        yield eigenvalues(case, left)
        del case


def main(argv: Sequence[str] | None = None, folder: Path = RESULTS) -> None:
    chosen = options(
        __doc__, list(CASES), argv,
        device={"default": "cuda", "help": "cuda, cuda:1, … or cpu with --tiny"},
        minutes={"type": float, "default": 8.0, "help": "time after which nothing further is started"},
        tiny={"action": "store_true", "help": "a trial of the script in seconds"},
    )  # fmt: skip
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        note("no GPU here: nothing to measure (--device cpu --tiny tries the script)")
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found = []
    for row in results(chosen.settings, device, chosen.tiny, chosen.minutes, chosen.repeats):
        found.append(row)
        report([row], chosen.json)
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    folder.mkdir(exist_ok=True)
    file = folder / f"gpu-{what.replace(' ', '-').lower()}{'-tiny' if chosen.tiny else ''}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    note(f"written: {file}")


if __name__ == "__main__":
    sys.exit(main())
