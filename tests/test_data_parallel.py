"""Two processes of torch.distributed against one: on the whole batch, or on its two halves as shards."""

import subprocess
import sys
from pathlib import Path

import data_parallel_child as child
import pytest
import torch
from safetensors.torch import load_file

from landscape.errors import InputError
from landscape.training.processes import joined
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


def test_a_stopped_run_goes_on_with_the_same_bits(found):
    whole = found("sam")[0]["state"]
    for result in found("resumed"):
        assert result["committed"] == 2
        assert all(torch.equal(v, whole[k]) for k, v in result["state"].items())


@pytest.mark.slow
def test_processes_of_torchrun_make_one_run(tmp_path):
    """The weights are those of one process but for rounding; one process alone speaks, and refuses for all."""
    common = ["--model", "mlp", "--epochs", "2", "--device", "cpu", "--rho", "0.05"]
    landscape = str(Path(sys.executable).with_name("landscape"))
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2", "--no-python"]

    def ran(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *common], capture_output=True, text=True, cwd=tmp_path, timeout=240)

    two = ran(*torchrun, landscape, "train", "two", "--data-parallel")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("epoch 2") == 1
    assert ran(landscape, "train", "one").returncode == 0
    one, other = (load_file(tmp_path / name / "checkpoints" / "epoch_0002.safetensors") for name in ("one", "two"))
    close(other, one, 1e-4)
    refused = ran(*torchrun, landscape, "train", "two", "--data-parallel", "--seed", "1")
    assert refused.returncode != 0
    assert refused.stderr.count("landscape: two holds a run of another configuration: train.seed is 0 there") == 1


def test_one_process_alone_says_how_to_start_several(tmp_path):
    with pytest.raises(InputError, match="torchrun --nproc-per-node N"), joined(torch.device("cpu"), True):
        pass
    with joined(torch.device("cpu"), False) as device:
        assert device.type == "cpu"


def test_what_processes_cannot_do_is_said_in_a_line(found):
    assert [folder.partition(":")[0] for *_, folder in found("refused")] == ["InputError", "FirstRankError"]
    for size, later_size, folder in found("refused"):
        for message in (size, later_size):
            assert "batch_size = 1" in message
            assert "for 2 processes" in message
        assert "another configuration: train.rho is 0.1 there and 0.3 here" in folder
