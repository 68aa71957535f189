"""Where runs are computed: every task once, in any order; a process that is killed costs its task one attempt."""

import builtins
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import dask
import pytest
import study_tasks

from landscape.errors import InputError
from landscape.study_cluster import DaskCluster, slurm_arguments
from landscape.study_executors import LocalProcesses, in_this_process

TESTS = Path(__file__).resolve().parent


def local_cluster():
    pytest.importorskip("distributed", reason="a Dask cluster: pip install 'landscape-sharpness[cluster]'")
    return DaskCluster("local:2")


EXECUTORS = {"serial": lambda: in_this_process, "processes": lambda: LocalProcesses(2), "dask": local_cluster}


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """The workers of Dask are new programs: they find the tasks by the environment."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_task_ends_once_with_its_own_outcome(name):
    ended = list(EXECUTORS[name]()(study_tasks.square, range(7)))
    assert sorted(ended) == [(k, k * k, "") for k in range(7)]


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_a_killed_worker_costs_only_its_task_which_is_retried(name, tmp_path):
    tasks = [(str(tmp_path / f"{k}"), 1 if k == 2 else 0) for k in range(5)]
    ended = {number: (outcome, why) for number, outcome, why in EXECUTORS[name]()(study_tasks.die, tasks)}
    assert ended.keys() == set(range(5))
    assert all(why == "" for _, why in ended.values())
    assert ended[2][0] == 2
    if name == "processes":  # Dask does a task again whose outcome was still on the worker
        assert [len((tmp_path / f"{k}").read_text()) for k in range(5)] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_a_task_that_always_kills_its_worker_is_given_up_and_the_others_go_on(name, tmp_path):
    """Two of them, so that with Dask others wait at the workers that die, and the scheduler blames them, too."""
    tasks = [(str(tmp_path / f"{k}"), 99 if k in (0, 1) else 0) for k in range(5)]
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        ended = {number: (outcome, why) for number, outcome, why in EXECUTORS[name]()(study_tasks.die, tasks)}
    assert ended.keys() == set(range(5))
    for k in (0, 1):
        assert ended[k][0] is None
        assert "killed" in ended[k][1]
    assert all(ended[k][0] >= 1 and ended[k][1] == "" for k in (2, 3, 4))


def test_how_a_process_ended_is_told():
    ((_, outcome, why),) = LocalProcesses(1)(study_tasks.gone, [0])
    assert outcome is None
    assert why == "its process ended with code 3, at each of 2 attempts"


def test_processes_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert {outcome for _, outcome, _ in LocalProcesses(2)(study_tasks.gpu, range(2))} == {"4", "7"}


def test_dask_workers_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert {outcome for _, outcome, _ in local_cluster()(study_tasks.gpu, range(4))} == {"4", "7"}


def test_processes_end_with_the_one_that_started_them(tmp_path):
    told = tmp_path / "pid"
    code = (
        "import sys, study_tasks; from landscape.study_executors import LocalProcesses\n"
        "if __name__ == '__main__': list(LocalProcesses(1)(study_tasks.sleepy, [sys.argv[1]]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(told)])
    _until(lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _until(lambda: not _alive(child))


def test_processes_end_when_their_outcomes_are_no_longer_wanted(tmp_path):
    outcomes = LocalProcesses(2)(_first_sleeps, [str(tmp_path / "pid"), ""])
    assert next(outcomes) == (1, None, "")
    _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    outcomes.close()
    assert not _alive(int((tmp_path / "pid").read_text()))


def _first_sleeps(path: str) -> None:
    if path:
        study_tasks.sleepy(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def _until(true, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- Dask ----------------------------------------------------------------------------------------------------


def test_a_running_scheduler_is_used():
    distributed = pytest.importorskip("distributed", reason="a Dask cluster: pip install distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        ended = list(DaskCluster(cluster.scheduler_address)(study_tasks.square, [3, 4]))
    assert sorted(ended) == [(0, 9, ""), (1, 16, "")]


SBATCH = """#!/bin/sh
# What Slurm would do, here and now.
for script; do :; done
cp "$script" "$0.script"
setsid bash "$0.script" >/dev/null 2>&1 &
echo $! > "$0.pid"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -- -"$1" 2>/dev/null || true
"""


@pytest.mark.slow
def test_slurm_starts_the_workers(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue", reason="a Slurm cluster: pip install dask-jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755 | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    settings = tmp_path / "slurm.toml"
    settings.write_text(
        f'jobs = 1\ncores = 1\nmemory = "1GB"\nwalltime = "00:10:00"\ninterface = "lo"\n'
        f'log_directory = "{tmp_path}"\nlocal_directory = "{tmp_path}"\n'
    )
    assert sorted(DaskCluster(str(settings))(study_tasks.square, [3, 4])) == [(0, 9, ""), (1, 16, "")]
    assert (tmp_path / "sbatch.pid").exists()


def test_slurm_arguments(tmp_path):
    settings = tmp_path / "slurm.toml"
    settings.write_text('jobs = 3\ncores = 2\nmemory = "4GB"\njob_extra_directives = ["--gres=gpu:1"]')
    assert slurm_arguments(str(settings)) == (
        {"cores": 2, "memory": "4GB", "job_extra_directives": ["--gres=gpu:1"], "processes": 1}, 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "content", "message"),
    [
        ("slurm", None, "must be tcp://HOST:PORT, local:N"),
        ("local:0", None, "must be tcp://HOST:PORT, local:N"),
        ("absent.toml", None, "does not exist"),
        ("bad.toml", "jobs = ", "not valid TOML"),
        ("bad.toml", "jobs = 0", "at least 1"),
    ],
)
def test_what_is_no_cluster_is_refused(text, content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(text).write_text(content)
    with pytest.raises(InputError, match=message):
        DaskCluster(text)


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="a Dask cluster: pip install distributed")

    def silent(*_, **__):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", silent)
    with pytest.raises(InputError, match="no scheduler answers at tcp:"):
        list(DaskCluster("tcp://127.0.0.1:1")(study_tasks.square, [1]))


def test_a_cluster_without_dask_says_what_to_install(monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "distributed":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="landscape-sharpness\\[cluster\\]"):
        DaskCluster("local:2")
