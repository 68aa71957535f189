"""One Gauss-Newton product of a GPT-2-shaped model with its full vocabulary, and the memory it took.

python vocabulary_child.py WIDTH LAYERS ROWS: prints JSON on the last line. Run by tests/test_language_models.py.
"""

import json
import resource
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from landscape import seeds
from landscape.losses import loss_by_name
from landscape.problem import Problem


def main(width: int, layers: int, rows: int) -> None:
    torch.set_num_threads(1)
    with seeds.global_stream(0, "vocabulary"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=width // 64))
    ids = seeds.permutation(seeds.stream(0, "tokens"), 50257)[: rows * 128].view(rows, 128)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    problem = Problem(model, loss_by_name("causal_lm"), [batch])
    del model
    v = seeds.gaussian(seeds.stream(0, "v"), 1, problem.weights)[0]
    began = time.perf_counter()
    product = problem.ggn(problem.weights)(v)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    quadratic = (v.double() * product.double()).sum().item()
    print(json.dumps({"parameters": v.numel(), "tokens": problem.size, "before_gib": before, "peak_gib": peak,
                      "seconds": seconds, "quadratic": quadratic}))  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
