"""Two processes of torch.distributed against one: on the whole batch, or on its two halves as shards."""

import subprocess
import sys
from pathlib import Path

import data_parallel_child as child
import pytest
import torch

from landscape.training.run import train

SAME = ["plain", "sam", "asam, accumulation", "gsam", "friendly"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes ended with, by case."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, str(Path(child.__file__))]
    running = [
        subprocess.Popen([*command, str(rank), "2", str(folder)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return lambda name: [torch.load(folder / f"{name}-{rank}.pt", weights_only=False) for rank in (0, 1)]


def close(a: dict, b: dict, tolerance: float) -> None:
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", child.CASES)
def test_both_processes_end_with_the_same_bits_and_metrics(case, found):
    one, other = found(case)
    assert all(torch.equal(v, other["state"][k]) for k, v in one["state"].items())
    assert one["rows"] == other["rows"]


@pytest.mark.parametrize("case", SAME)
def test_one_ascent_of_all_is_that_of_one_process(case, found):
    alone = train(child.network(case), child.data_of(case), child.spec_of(case))
    close(found(case)[0]["state"], alone.model.state_dict(), 1e-10)
    for row, expected in zip(found(case)[0]["rows"], alone.history, strict=True):
        for key, value in row.items():
            assert value == (pytest.approx(expected[key], rel=1e-9) if expected[key] is not None else None)


@pytest.mark.parametrize("case", ["rank", "rank gsam"])
def test_an_ascent_per_rank_is_that_of_two_shards(case, found):
    model = child.network(case)
    alone = train(model, child.data_of(case), child.spec_of(case, sam_sync="same", sam_shard=5))
    close(found(case)[0]["state"], alone.model.state_dict(), 1e-10)
    same = train(model, child.data_of(case), child.spec_of(case, sam_sync="same"))
    assert (same.model[0].weight - alone.model[0].weight).abs().max() > 1e-4


@pytest.mark.parametrize("case", [name for name in child.CASES if "overflows" in name])
def test_no_process_steps_when_one_overflows(case, found):
    for result in found(case):
        assert torch.equal(result["state"]["0.weight"], child.network(case)[0].weight)
    assert not torch.equal(found("float16")[0]["state"]["0.weight"], child.network("float16")[0].weight)


def test_float16_is_that_of_one_process(found):
    alone = train(child.network("float16"), child.data_of("float16"), child.spec_of("float16")).model
    moved = (child.network("float16")[0].weight - alone[0].weight).abs().max()
    assert (found("float16")[0]["state"]["0.weight"] - alone[0].weight).abs().max() < 0.02 * moved


def test_what_processes_cannot_do_is_said_in_a_line(found):
    for size, later_size, folder in found("refused"):
        for message in (size, later_size):
            assert "batch_size = 1" in message
            assert "for 2 processes" in message
        assert "data_parallel" in folder
