"""One process of a data-parallel training; run by test_data_parallel.py.

python data_parallel_child.py RANK PROCESSES FOLDER CASE; writes FOLDER/<CASE>-<RANK>.pt.
"""

import contextlib
import datetime
import sys
from pathlib import Path

import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.run import train

CASES: dict[str, dict] = {
    "plain": {"rho": 0.0},
    "sam": {},
    "asam, accumulation": {"adaptive": True, "micro_batch": 2},
    "gsam": {"sam_variant": "gsam", "optimiser": "adam", "learning_rate": 0.01},
    "friendly": {"sam_variant": "friendly", "sam_every": 2},
    "rank": {"sam_sync": "rank", "batch_size": 10},
    "rank gsam": {"sam_sync": "rank", "batch_size": 10, "sam_variant": "gsam"},
    "float16": {"precision": "float16"},
    "float16, one overflows": {"precision": "float16", "epochs": 1, "batch_size": 50},
    "float16, one of two ascents overflows": {
        "precision": "float16",
        "epochs": 1,
        "batch_size": 50,
        "sam_sync": "rank",
    },
    "batch norm": {},
    "dropout": {},
}


def toy_data(dtype=torch.float64, scale=1.0) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 60, torch.empty(4, dtype=dtype))
    y = scale * x[:, :3] ** 2
    return Dataset("toy", Split(x[:50], y[:50]), Split(x[50:], y[50:]), "regression", 3, "", {})


def network(case: str, rank: int = 0) -> nn.Module:
    """Initial weights of rank 0, and on other ranks others, which must not matter."""
    with seeds.global_stream(1 + rank, "network"):
        norm = nn.BatchNorm1d(8) if case == "batch norm" else nn.Identity()
        drop = nn.Dropout(0.5) if case == "dropout" else nn.Identity()
        model = nn.Sequential(nn.Linear(4, 8), norm, nn.Tanh(), drop, nn.Linear(8, 3))
        return model if "float16" in case else model.double()


def spec_of(case: str, **changes) -> TrainSpec:
    options = {"epochs": 4, "batch_size": 11, "learning_rate": 0.05, "rho": 0.1, "clip_norm": 0.5, **CASES[case]}
    return TrainSpec(**{**options, **changes})


def data_of(case: str) -> Dataset:
    data = toy_data(torch.float32, 0.1) if "float16" in case else toy_data()
    if "overflows" in case:  # in the share of the last process alone
        data.train.targets[seeds.permutation(seeds.stream(0, "order", 1), 50)[-1]] = 1e9
    return data


def main(rank: int, processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=processes,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    for case in CASES:
        trained = train(network(case, rank), data_of(case), spec_of(case, data_parallel=True))
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trained.history]
        torch.save({"state": trained.model.state_dict(), "rows": rows}, folder / f"{case}-{rank}.pt")

    def stop(done: int, *_) -> None:
        if done == 13:  # in the third of four epochs
            raise KeyboardInterrupt

    in_folder = network("sam", rank), data_of("sam"), spec_of("sam", data_parallel=True), folder / "run"
    with contextlib.suppress(KeyboardInterrupt):
        train(*in_folder, progress=stop, pause=0.0)
    committed = len((folder / "run" / "metrics.jsonl").read_text().splitlines())
    torch.distributed.barrier()
    resumed = train(*in_folder, pause=0.0)
    torch.save({"state": resumed.model.state_dict(), "committed": committed}, folder / f"resumed-{rank}.pt")
    refused = []
    grows = {"batch_size": 10, "batch_milestones": (2,), "batch_factor": 4.9}  # to 49 of 50 examples
    for options, place in (({"batch_size": 7}, None), (grows, None), ({"rho": 0.3}, folder / "run")):
        try:
            train(network("sam"), toy_data(), spec_of("sam", data_parallel=True, **options), place)
        except InputError as error:
            refused.append(f"{type(error).__name__}: {error}")
    torch.save(refused, folder / f"refused-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
