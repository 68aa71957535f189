"""`landscape path` as a user meets it: barriers of two and three runs, a trained curve, and every refusal."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import refused, run

from landscape.results import PathResult, load

QUICK = ["--points", 5, "--refinements", 2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        words = ["--model", "mlp", "--model-arg", "widths=8", "--epochs", 2, "--seed", seed]
        run("train", folder / f"r{seed}", *words)
    return {f"r{seed}": folder / f"r{seed}" for seed in range(3)}


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_barrier_and_a_curve(runs):
    done = run("path", "curve", runs["r0"], runs["r1"], "curve", "--epochs", 2, "--bends", 2, "--kind", "chain")
    assert "epoch 2" in done.stdout
    words = ["path", "barrier", f"first={runs['r0']}", f"second={runs['r1']}", "--align", "weights"]
    shown = run(*words, "--curve", "curve", *QUICK).output
    assert all(word in shown for word in ("raw", "aligned", "curve", "train error (%)", "hidden units"))
    result = load("barrier-first-second.safetensors")
    assert isinstance(result, PathResult)
    assert result.labels == ("first", "second")
    assert result.paths == ("raw", "aligned", "curve")
    assert len(result.provenance["checkpoints"]) == 2
    again = json.loads(run(*words, "--json", *QUICK).stdout)
    np.testing.assert_allclose(again["barriers"], result.barriers[:2])
    table = run("table", "barrier-first-second.safetensors", "--format", "csv").stdout.splitlines()
    assert table[0] == "path,quantity,barrier,known to,at t,above the higher end,length"
    assert len(table) == 1 + 3 * 4
    assert "raw" in run("inspect", "barrier-first-second.safetensors").output


def test_three_checkpoints_make_three_pairs(runs):
    run("path", "barrier", *runs.values(), "-o", "all.safetensors", *QUICK)
    pairs = [load(f"all-{a}-{b}.safetensors").labels for a, b in (("r0", "r1"), ("r0", "r2"), ("r1", "r2"))]
    assert pairs == [("r0", "r1"), ("r0", "r2"), ("r1", "r2")]
    assert "does not exist yet" in refused("path", "barrier", *runs.values(), "-o", "all.safetensors", *QUICK)


def test_recomputed_statistics_lower_the_barrier_and_their_lack_gets_a_warning():
    for seed in (0, 1):
        words = ["--model", "cnn", "--model-arg", "norm=batch", "--epochs", 2, "--lr", 0.05, "--seed", seed]
        run("train", f"n{seed}", *words)
    both = run("path", "barrier", "n0", "n1", "-o", "both.safetensors", *QUICK)
    assert "network has batch norm" not in both.stderr
    result = load("both.safetensors")
    assert isinstance(result, PathResult)
    assert result.paths == ("raw", "recalibrated")
    assert (result.barriers[1] < 0.6 * result.barriers[0]).all()
    told = run("path", "barrier", "n0", "n1", "--examples", 100, "--batch-norm", "interpolated", *QUICK)
    assert "note: this network has batch norm" in told.stderr
    assert "recalibrated" not in told.stdout


def test_refusals(runs):
    assert "at least two" in refused("path", "barrier", runs["r0"])
    assert "LABEL=CHECKPOINT" in refused("path", "barrier", runs["r0"], runs["r1"], runs["r0"])
    assert "holds no curve" in refused("path", "barrier", runs["r0"], runs["r1"], "--curve", runs["r2"])
    run("path", "curve", runs["r0"], runs["r1"], "curve", "--epochs", 1)
    assert "joins no two" in refused("path", "barrier", runs["r0"], runs["r2"], "--curve", "curve")
    assert "--model" in refused("hessian", "curve")
    assert "another configuration" in refused("path", "curve", runs["r0"], runs["r1"], "curve", "--epochs", 2)
