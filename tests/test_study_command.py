"""`landscape study` as a user meets it: run, show, plan, refuse; and killed at random moments."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import run

TEXT = """
[study]
name = "tiny"
seeds = 2
[source]
model = "mlp"
model_args = { widths = [4] }
[train]
epochs = 2
batch_size = 256
[grid]
learning_rate = [0.05, 0.2]
[problem]
examples = 100
[measure.trace]
min_probes = 2
tolerance = 1.0
[table]
columns = ["test accuracy (%)", "trace"]
"""


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    Path("tiny.toml").write_text(TEXT)


def test_folders_of_runs_for_other_commands():
    assert "no run of tiny is done" in run("study", "runs", "tiny.toml", code=2).stderr
    run("study", "tiny.toml")
    folders = run("study", "runs", "tiny.toml").stdout.split()
    assert len(folders) == 4
    assert all((Path(folder) / "config.json").is_file() for folder in folders)
    one = run("study", "runs", "tiny.toml", "--where", "learning_rate=5e-2", "--where", "seed=1").stdout.split()
    assert [Path(folder).name.rpartition("-")[0] for folder in one] == ["learning_rate=0.05_seed=1"]
    assert "rate=0.05" in run("inspect", one[0]).stdout
    refused = run("study", "runs", "tiny.toml", "--where", "rate=1", code=2).stderr
    assert "--where = 'rate' is not legal: it must be one of learning_rate, seed" in refused
    assert "has seed=7" in run("study", "runs", "tiny.toml", "--where", "seed=7", code=2).stderr


def test_run_show_and_go_on():
    plan = run("study", "tiny.toml", "--dry-run").stdout
    assert "4 runs into tiny, 0 done, 0 failed, 4 to do" in plan
    assert not Path("tiny").exists()
    assert "no run of tiny is done yet" in run("study", "show", "tiny.toml", code=2).stderr
    first = run("study", "tiny.toml").stdout
    assert "learning_rate=0.05" in first
    assert "mean ± standard error over seeds" in first
    assert "train loss" not in first
    assert {path.name for path in Path("tiny").iterdir()} >= {
        "study.toml",
        "study.safetensors",
        "runs.csv",
        "cells.csv",
    }
    for place in ("tiny.toml", "tiny"):
        assert run("study", "show", place).stdout == first
    assert run("study", "run", "tiny.toml").stdout == first
    assert "4 done, 0 failed, 0 to do" in run("study", "tiny.toml", "--dry-run").stdout
    shown = run("study", "show", "tiny", "--csv").stdout
    assert list(csv.reader(shown.splitlines())) == list(csv.reader(Path("tiny/cells.csv").read_text().splitlines()))
    assert "tiny: mean ± standard error" in run("table", "tiny/study.safetensors").stdout
    rows = list(csv.DictReader(run("table", "tiny/study.safetensors", "--format", "csv").stdout.splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "0", "1"]
    run("figure", "tiny/study.safetensors", "--set", "y=trace")
    assert Path("tiny/study.png").exists()


def test_failures_are_told_and_decide_the_exit_code():
    Path("bad.toml").write_text(TEXT.replace("0.2]", "1e30]"))
    result = run("study", "bad.toml", "-o", "elsewhere", code=1)
    assert "2 (2 FAILED)" in result.stdout
    assert result.stdout.count("training diverged") == 2
    assert "landscape: 2 of 4 runs failed." in result.stderr
    run("study", "bad.toml", "-o", "elsewhere", "--retry", code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.toml"], "absent.toml does not exist"),
        (["tiny.toml", "--jobs", "2", "--cluster", "local:2"], "left out with --cluster"),
        (["tiny.toml", "--cluster", "slurm"], "tcp://HOST:PORT, local:N"),
        (["tiny.toml", "--jobs", "0"], "0 is not in the range x>=1"),
        (["show", "."], "holds no study"),
        (["show", "study.safetensors"], "landscape table study.safetensors"),
        (["tiny.toml", "-o", "x.toml"], "a folder"),
    ],
)
def test_refusals_are_one_line(words, message):
    lines = run("study", *words, code=2).stderr.strip().splitlines()
    assert message in lines[-1]


COMMAND = [sys.executable, "-c", "from landscape_cli.main import landscape; landscape()", "study", "tiny.toml"]


def table(folder: str) -> list[dict[str, str]]:
    with Path(folder, "runs.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("executor", [(), ("--jobs", "2")], ids=["serial", "processes"])
def test_killed_five_times_at_random_it_ends_with_the_same_table(executor):
    Path("tiny.toml").write_text(TEXT.replace("seeds = 2", "seeds = 8").replace("epochs = 2", "epochs = 20"))
    moments, kills = random.Random(0), 0
    while kills < 5:
        process = subprocess.Popen([*COMMAND, "-o", "killed", *executor], stderr=subprocess.DEVNULL)
        before = len(list(Path("killed").glob("runs/*/*")))
        while process.poll() is None and len(list(Path("killed").glob("runs/*/*"))) == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed: make the study longer"
        kills += 1
    assert not Path("killed/runs.csv").exists()
    assert subprocess.run([*COMMAND, "-o", "killed", *executor], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert subprocess.run([*COMMAND, "-o", "whole"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert len(table("whole")) == 16
    assert table("killed") == table("whole")
