"""A study executed: its numbers are those of the run alone, failures stay where they are, nothing is done twice."""

import csv
import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from landscape import hessian, study, study_batches, study_job, study_run
from landscape.checkpoints import open_checkpoint, prepare
from landscape.data import batches
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.results import StudyResult, load
from landscape.spec import HessianSpec, ProblemSpec, TrainSpec
from landscape.study_executors import LocalProcesses
from landscape.study_file import read_study
from landscape.training.claim import claimed
from landscape.training.run import train

TEXT = """
[study]
name = "tiny"
seeds = 3
[source]
model = "mlp"
model_args = { widths = [4] }
data = "digits"
[train]
epochs = 2
save_every = 1
batch_size = 256
[grid]
learning_rate = [0.05, 0.2]
[problem]
examples = 200
[measure.hessian]
count = 2
"""
DIVERGES = TEXT.replace("[0.05, 0.2]", "[0.05, 1e30]")


def spec_of(text: str, folder: Path):
    (folder / "spec.toml").write_text(text)
    return read_study(folder / "spec.toml")


def without_seconds(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return study.execute(spec_of(TEXT, folder), folder / "out"), folder


TOGETHER = TEXT.replace("save_every = 1", "save_every = 2").replace("[grid]", "[grid]\nrho = [0.0, 0.1]")


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    return study.execute(spec_of(TOGETHER, folder), folder / "out"), folder


def test_small_networks_are_trained_together_and_equal_to_float_tolerance(stacked, tmp_path, monkeypatch):
    calls = []
    real = study_batches.train_together
    monkeypatch.setattr(study_batches, "train_together", lambda members, *a: calls.append(members) or real(members, *a))
    found = study.execute(spec_of(TOGETHER, tmp_path), tmp_path / "together")
    assert sorted(len(members) for members in calls) == [6, 6]  # with SAM, and without
    text = TOGETHER.replace("seeds = 3", "seeds = 3\ntogether = false")
    alone = study.execute(spec_of(text, tmp_path), tmp_path / "alone")
    assert len(calls) == 2
    for name in found.columns:
        if "seconds" not in name:
            np.testing.assert_allclose(column(found, name), column(alone, name), rtol=2e-4, err_msg=name)
    assert without_seconds(tmp_path / "together" / "runs.csv") == without_seconds(stacked[1] / "out" / "runs.csv")


def test_seconds_of_computing_are_those_of_training_too(stacked, done):
    for result in (stacked[0], done[0]):
        rows = [i for i, at in enumerate(result.at) if at == "last"]
        assert result.seconds > column(result, "training seconds")[rows].sum() > 0


def test_stacks_are_the_same_on_several_processes_and_after_a_loss(stacked, tmp_path):
    spec, whole = spec_of(TOGETHER, tmp_path), without_seconds(stacked[1] / "out" / "runs.csv")
    study.execute(spec, tmp_path / "processes", LocalProcesses(2))
    assert without_seconds(tmp_path / "processes" / "runs.csv") == whole
    shutil.copytree(stacked[1] / "out", tmp_path / "again")
    lost = sorted((tmp_path / "again" / "runs").iterdir())[2:9:3]
    for folder in lost:
        shutil.rmtree(folder)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "again" / "runs").glob("*/study.json")}
    study.execute(spec, tmp_path / "again")
    assert without_seconds(tmp_path / "again" / "runs.csv") == whole
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_runs_that_keep_checkpoints_between_are_trained_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(study_batches, "train_together", lambda *_: pytest.fail("not to be called"))
    study.execute(spec_of(TEXT, tmp_path), tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs").glob("*/checkpoints/epoch_0001.safetensors"))) == 6


def test_one_that_diverges_in_a_stack_is_a_failed_row(tmp_path):
    text = TOGETHER.replace("[0.05, 0.2]", "[0.05, 1e30]").replace("rho = [0.0, 0.1]", "")
    result = study.execute(spec_of(text, tmp_path), tmp_path / "out")
    assert [bool(why) for why in result.troubles] == [False] * 3 + [True] * 3
    assert all("training diverged in epoch 1" in why for why in result.troubles[3:])


def column(result: StudyResult, name: str) -> np.ndarray:
    return result.values[:, result.columns.index(name)]


def test_numbers_are_those_of_the_run_alone(done):
    result, _ = done
    problem = ProblemSpec(model="mlp", model_args=(("widths", "4"),), data="digits", examples=200)
    for row, (rate, seed) in enumerate((r, s) for r in (0.05, 0.2) for s in range(3)):
        spec = TrainSpec(epochs=2, save_every=1, batch_size=256, learning_rate=rate, seed=seed)
        model, dataset = prepare(problem, seed)
        alone = train(model, dataset, spec)
        assert dict(result.settings[row]) == {"learning_rate": rate, "seed": seed}
        for name, key, factor in (
            ("test accuracy (%)", "test_accuracy", 100), ("test loss", "test_loss", 1), ("step", "step", 1),
            ("distance ‖w−w₀‖", "distance", 1),
        ):  # fmt: skip
            # of all examples, though `examples` limits what is measured on
            assert column(result, name)[row] == pytest.approx(factor * alone.history[-1][key], rel=1e-6)
        whole = Problem(alone.model, loss_by_name("cross_entropy"), batches(dataset.train, 500))
        loss, accuracy = whole.evaluate(whole.weights)
        assert column(result, "train loss")[row] == pytest.approx(loss, rel=1e-5)
        assert column(result, "train accuracy (%)")[row] == pytest.approx(100 * accuracy, rel=1e-9)
        best = max(alone.history, key=lambda line: line["test_accuracy"])
        assert column(result, "best test accuracy (%)")[row] == 100 * best["test_accuracy"]
        assert column(result, "best epoch")[row] == best["epoch"]


def test_measurements_are_those_of_the_word_alone(done):
    result, folder = done
    for row, run in enumerate(result.runs):
        opened = open_checkpoint(folder / "out" / "runs" / run, ProblemSpec(examples=200, engine="recompute"))
        found = hessian.measure(opened.main, HessianSpec(count=2))
        assert column(result, "λ1")[row] == found.eigenvalues[0]
        assert column(result, "λ2")[row] == found.eigenvalues[1]
        assert result.errors[row, result.columns.index("λ1")] == found.sampling_errors[0]
        (kept,) = (folder / "out" / "runs" / run / "measured").iterdir()
        np.testing.assert_array_equal(load(kept).eigenvalues, found.eigenvalues)


def test_cells_are_means_with_standard_errors(done):
    result, folder = done
    with (folder / "out" / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [0.05, 0.2]
    for k, row in enumerate(rows):
        for name in ("λ1", "test loss"):
            values = column(result, name)[3 * k : 3 * k + 3].tolist()
            assert float(row[f"{name} mean"]) == pytest.approx(statistics.fmean(values), rel=1e-14)
            expected = statistics.stdev(values) / 3**0.5
            assert float(row[f"{name} standard error"]) == pytest.approx(expected, rel=1e-12)
            assert row[f"{name} count"] == "3"
        assert (row["runs"], row["failed"]) == ("3", "0")


def test_files_hold_the_result(done):
    result, folder = done
    found = load(folder / "out" / study.RESULT)
    assert isinstance(found, StudyResult)
    np.testing.assert_array_equal(found.values, result.values)
    assert found.runs == result.runs
    assert [c.label for c in found.cells()] == ["learning_rate=0.05", "learning_rate=0.2"]
    rows = without_seconds(folder / "out" / "runs.csv")
    assert [float(row["λ1"]) for row in rows] == column(result, "λ1").tolist()
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet: pip install 'landscape-sharpness[table]'")
    for name in ("runs", "cells"):
        table = parquet.read_table(folder / "out" / f"{name}.parquet").to_pylist()
        with (folder / "out" / f"{name}.csv").open(newline="") as file:
            for ours, theirs in zip(csv.DictReader(file), table, strict=True):
                assert {k: "" if v is None else str(v) for k, v in theirs.items()} == ours


def test_processes_give_the_same_table(done, tmp_path):
    _, folder = done
    study.execute(spec_of(TEXT, tmp_path), tmp_path / "out", LocalProcesses(2))
    for name in ("runs.csv", "cells.csv"):
        assert without_seconds(tmp_path / "out" / name) == without_seconds(folder / "out" / name)


@pytest.mark.slow
def test_dask_gives_the_same_table(done, tmp_path):
    pytest.importorskip("distributed", reason="a Dask cluster: pip install 'landscape-sharpness[cluster]'")
    from landscape.study_cluster import DaskCluster

    _, folder = done
    study.execute(spec_of(TEXT, tmp_path), tmp_path / "out", DaskCluster("local:2"))
    for name in ("runs.csv", "cells.csv"):
        assert without_seconds(tmp_path / "out" / name) == without_seconds(folder / "out" / name)


# -- failures ------------------------------------------------------------------------------------------------


def test_a_diverged_run_is_a_row_with_its_reason_and_the_others_go_on(done, tmp_path):
    whole, _ = done
    result = study.execute(spec_of(DIVERGES, tmp_path), tmp_path / "out")
    assert [bool(why) for why in result.troubles] == [False] * 3 + [True] * 3
    assert all("diverged" in why and "kept in its folder" in why for why in result.failures.values())
    assert np.isnan(result.values[3:]).all()
    np.testing.assert_array_equal(column(result, "λ1")[:3], column(whole, "λ1")[:3])
    good, bad = result.cells()
    assert (good.failed, bad.failed) == (0, 3)
    assert (bad.count == 0).all()
    rows = without_seconds(tmp_path / "out" / "runs.csv")
    assert [row["status"] for row in rows] == ["done"] * 3 + ["failed"] * 3


def test_failed_runs_are_left_alone_until_retry(tmp_path, monkeypatch):
    spec, broken = spec_of(TEXT, tmp_path), {"yes": True}
    original = study_run.train_alone

    def flaky(job):
        if broken["yes"] and job.run.train.seed == 1:
            raise RuntimeError("the disk\nis on fire")
        original(job)

    monkeypatch.setattr(study_run, "train_alone", flaky)
    first = study.execute(spec, tmp_path / "out")
    assert list(first.failures.values()) == ["RuntimeError: the disk is on fire"] * 2
    name = next(iter(first.failures))
    outcome = json.loads((tmp_path / "out" / "runs" / name / study_run.OUTCOME).read_text())
    assert "Traceback" in outcome["traceback"]
    broken["yes"] = False
    assert len(study.execute(spec, tmp_path / "out").failures) == 2
    assert not study.execute(spec, tmp_path / "out", retry=True).failures


def test_a_measurement_without_meaning_is_told_and_the_rest_measured(tmp_path):
    text = TEXT.replace("[measure.hessian]\ncount = 2", '[measure.measures]\nmeasures = ["path-norm", "norm"]').replace(
        "widths = [4]", 'widths = [4], activation = "tanh"'
    )
    result = study.execute(spec_of(text, tmp_path), tmp_path / "out")
    assert not result.failures
    assert {name for _, name, _ in result.undefined} == {"path-norm"}
    assert any("norm" in name for name in result.columns)


def test_a_run_that_stops_before_a_moment_says_so(tmp_path):
    text = TEXT.replace("epochs = 2", "epochs = 2\nuntil_loss = 1e9").replace("[measure.hessian]\ncount = 2", "")
    result = study.execute(spec_of(text + '[measure]\nat = [1, 2, "last"]', tmp_path), tmp_path / "out")
    assert all("ended after epoch 1, before epoch 2" in why for why in result.troubles)
    assert np.isfinite(column(result, "train loss")[0])


# -- going on ------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(done, tmp_path):
    spec = spec_of(TEXT, tmp_path)
    first = study.execute(spec, tmp_path / "out")
    folders = [tmp_path / "out" / "runs" / run for run in first.runs]
    (folders[0] / study_run.OUTCOME).unlink()
    times = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}
    told = []
    study.execute(spec, tmp_path / "out", report=lambda *words: told.append(words))
    assert told == [(6, 6, first.runs[0])]
    assert {path: path.stat().st_mtime_ns for path in times} == times  # also of the run whose outcome was lost
    assert without_seconds(tmp_path / "out" / "runs.csv") == without_seconds(done[1] / "out" / "runs.csv")


def test_another_measurement_trains_nothing_again(tmp_path):
    first = study.execute(spec_of(TEXT, tmp_path), tmp_path / "out")
    states = [tmp_path / "out" / "runs" / run / "state.safetensors" for run in first.runs]
    times = [path.stat().st_mtime_ns for path in states]
    more = spec_of(TEXT + '[measure]\nat = [0, "last"]\n[measure.trace]\nmin_probes = 2\ntolerance = 1.0\n', tmp_path)
    result = study.execute(more, tmp_path / "out")
    assert [path.stat().st_mtime_ns for path in states] == times
    assert result.at == ("0", "last") * 6
    assert np.isfinite(column(result, "trace")).all()
    np.testing.assert_array_equal(column(result, "λ1")[1::2], column(first, "λ1"))
    assert (column(result, "epoch")[::2] == 0).all()
    assert [cell.at for cell in result.cells()] == ["0", "last"] * 2


def test_pooling_over_a_factor(done):
    result, _ = done
    (cell,) = result.cells(by=())
    assert cell.count[0] == 6
    assert cell.mean[result.columns.index("λ1")] == pytest.approx(column(result, "λ1").mean())
    with pytest.raises(InputError, match="Choose one that varies"):
        result.cells(by=("rho",))


def test_folders_of_other_things_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds other files \(thesis.tex\)"):
        study.execute(spec_of(TEXT, tmp_path), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_run_that_another_process_trains_stays_to_do(tmp_path, monkeypatch):
    spec = spec_of(TEXT.replace("seeds = 3", "seeds = 1").replace("[0.05, 0.2]", "[0.05]"), tmp_path)
    (job,) = study.plan(spec, tmp_path / "out")
    monkeypatch.setattr(study_job, "PATIENCE", 0.0)
    with claimed(Path(job.folder)):
        outcome = study_run.perform(job)
    assert "another process is training" in outcome["reason"]
    assert study_run.read_outcome(job) is None
    assert study_run.perform(job)["status"] == "done"


WARM = """
[start]
batch_size = 64
epochs = 3
[grid]
start_epoch = [0, 3]
"""


def test_runs_start_from_the_checkpoints_of_another_run(tmp_path):
    """Keskar's Figure 5: a large batch from the iterates of a small one, equal to doing so by hand."""
    text = TEXT.replace("seeds = 3", "seeds = 2").replace("[grid]\nlearning_rate = [0.05, 0.2]", WARM)
    spec = spec_of(text, tmp_path)
    result = study.execute(spec, tmp_path / "out", LocalProcesses(2))
    assert not result.failures
    assert len(list((tmp_path / "out" / "starts").iterdir())) == 2, "one for each seed"
    table = dict(zip(result.runs, result.values, strict=True))
    for run in spec.runs:
        assert run.start is not None
        first = tmp_path / f"first-{run.train.seed}"
        problem = ProblemSpec.from_dict(run.source.to_dict())
        model, dataset = prepare(problem, run.train.seed)
        history = train(model, dataset, run.start.train, first).history
        begun = open_checkpoint(f"{first}@{run.start.epoch}", problem).model
        trained = train(begun, dataset, run.train)
        found = dict(zip(result.columns, table[run.name], strict=True))
        assert found["distance ‖w−w₀‖"] == pytest.approx(trained.history[-1]["distance"], rel=1e-12)
        assert found["start epoch"] == run.start.epoch
        if run.start.epoch:
            assert found["start test accuracy (%)"] == 100 * history[-1]["test_accuracy"]
        else:
            assert np.isnan(found["start test accuracy (%)"])


def test_a_start_that_fails_is_the_reason_of_each_run(tmp_path):
    text = TEXT.replace(
        "[grid]\nlearning_rate = [0.05, 0.2]", WARM.replace("epochs = 3", "epochs = 3\nlearning_rate = 1e30")
    )
    result = study.execute(spec_of(text, tmp_path), tmp_path / "out")
    assert len(result.failures) == 6
    assert all("diverged in epoch 1" in why for why in result.failures.values())
