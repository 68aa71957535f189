"""One Hessian-vector product, in seconds and in units of a gradient: our engines against three other packages.

    python -m benchmarks.product [mlp] [gpt] [resnet] [--repeats N] [--json]

mlp: a digits perceptron, 1,437 examples. gpt: a four-layer transformer, 2,048 characters. resnet: a public
ResNet-20 with 128 images. seconds: median of single products, interleaved. gradients: the same in units of an
eager gradient, `torch.autograd.grad` of the mean loss on the same batches in the model's own memory format.
prepare: seconds of the first two calls with all that they prepare, compilation included; kept_mib: what it keeps.
error: ‖Hv − truth‖ / ‖truth‖ at a random v, the truth by double backward in float64.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.harness import available_problems, because, conditions, note, options, report, synchronise
from benchmarks.models import digits_problem, gpt, gpt_problem, resnet20_problem
from benchmarks.peers import PRODUCTS, available, model_and_batches
from benchmarks.references import exact_product
from landscape import seeds
from landscape.aliases import Matvec
from landscape.problem import Problem
from landscape.products.product import Product
from landscape.products.terms import hessian_terms

ENGINES = ("recompute", "retained", "folded", "compiled")

SETTINGS: dict[str, Callable[[], Problem]] = {
    "mlp": digits_problem,
    "gpt": lambda: gpt_problem(gpt(), torch.float32, sequences=32),
    "resnet": lambda: resnet20_problem(128),
}


def eager_gradient(problem: Problem) -> Callable[[], object]:
    """The gradient of the mean loss as anybody takes it."""
    model, batches = model_and_batches(problem)
    parameters, share = list(model.parameters()), 1 / len(batches)

    def run() -> list[torch.Tensor]:
        total = [torch.zeros_like(p) for p in parameters]
        for inputs, targets in batches:
            loss = F.cross_entropy(model(inputs), targets)
            torch._foreach_add_(total, torch.autograd.grad(loss, parameters), alpha=share)
        return total

    return run


def engine_product(problem: Problem, engine: str) -> Product:
    """The problem's product by another engine than its own."""
    divisible = problem.batch_norm == "running"
    terms = hessian_terms(problem._total, problem.has_batch_norm and divisible)
    w = problem.weights
    return Product(terms, lambda: problem.parts(w), w, problem.size, engine, divisible)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device is done."""
    synchronise(device)
    begun = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - begun


def compare(
    name: str,
    problem: Problem,
    repeats: int = 5,
    engines: Sequence[str] = ENGINES,
    peers: bool = True,
    exact: bool = True,
    budget: float | None = None,
) -> dict[str, Any]:
    """Everybody's product on one problem; `ours` is the engine that `auto` chooses.

    exact: errors against float64, otherwise against our recompute. budget: seconds of first calls and repeats
    after which no further contender is started.
    """
    device, began = problem.weights.device, time.perf_counter()
    v = seeds.gaussian(seeds.stream(0, "benchmark product"), 1, problem.weights)[0]
    plain = engine_product(problem, "recompute")
    truth = exact_product(problem, v) if exact else plain(v).double()
    makers: dict[str, Callable[[], Matvec]] = {
        "ours": lambda: engine_product(problem, "auto"),
        **{f"ours, {engine}": lambda engine=engine: engine_product(problem, engine) for engine in engines},
        **{package: lambda package=package: PRODUCTS[package](problem) for package in (available() if peers else [])},
    }
    failed: dict[str, str] = {}
    rows: dict[str, dict[str, float]] = {}
    products: dict[str, Matvec] = {}
    chosen = ""
    for key, make in makers.items():
        if budget is not None and time.perf_counter() - began > budget and rows:
            failed[key] = "no time left"
            note(f"{name}: {key} is left out, no time left")
            continue
        _forget(device)
        try:
            begun = time.perf_counter()
            product = make()
            product(v)
            found = product(v)
            synchronise(device)
            prepare = time.perf_counter() - begun
        except Exception as reason:
            if key == "ours":
                raise
            failed[key] = because(reason)
            note(f"{name}: {key} failed and is left out ({failed[key]})")
            continue
        rows[key] = {"prepare": prepare, "error": _distance(found, truth)}
        if isinstance(product, Product):
            rows[key]["kept_mib"] = product.kept_bytes / 2**20
            chosen = product.chosen if key == "ours" else chosen
        rows[key] |= _peak(lambda product=product: product(v), device)
        if device.type == "cuda" or budget is not None:  # what a contender keeps must not crowd out the next
            runs = [timed(lambda product=product: product(v), device) for _ in range(repeats)]
            rows[key]["seconds"] = statistics.median(runs)
            del product
        else:
            products[key] = product
    gradient = eager_gradient(problem)
    gradient()
    seconds: dict[str, list[float]] = {key: [] for key in ("gradient", *products)}
    for _ in range(repeats):
        seconds["gradient"].append(timed(gradient, device))
        for key, product in products.items():
            seconds[key].append(timed(lambda product=product: product(v), device))
    unit = statistics.median(seconds.pop("gradient"))
    for key, taken in seconds.items():
        rows[key]["seconds"] = statistics.median(taken)
    for row in rows.values():
        row["gradients"] = row["seconds"] / unit
    ours, rivals = rows.pop("ours"), {key: rows.pop(key) for key in PRODUCTS if key in rows}
    return {
        "name": "product",
        "problem": f"{name}, n = {problem.weights.numel()}, {problem.size} terms, {problem.weights.dtype}, "
                   f"gradient {1000 * unit:.4g} ms",
        "ours": ours, "variants": rows, "peers": rivals,
        "ratio": min((row["seconds"] for row in rivals.values()), default=float("nan")) / ours["seconds"]
                 if rivals else None,
        "conditions": {**conditions(), "repeats": repeats, "gradient_seconds": unit, "engine": chosen,
                       **({"failed": failed} if failed else {})},
    }  # fmt: skip


def _distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    return (torch.linalg.vector_norm(found.double() - truth) / torch.linalg.vector_norm(truth)).item()


def _forget(device: torch.device) -> None:
    gc.collect()  # PyHessian's graphs are in cycles
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _peak(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """The GPU memory that a product takes at most, with what is kept for it and all else that is there."""
    if device.type != "cuda":
        return {}
    torch.cuda.reset_peak_memory_stats(device)
    run()
    synchronise(device)
    return {"peak_mib": torch.cuda.max_memory_allocated(device) / 2**20}


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__, list(SETTINGS), argv)
    for name, problem in available_problems(SETTINGS, chosen.settings):
        report([compare(name, problem, chosen.repeats)], chosen.json)


if __name__ == "__main__":
    sys.exit(main())
