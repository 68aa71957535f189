"""The benchmarks run at small sizes, their errors mean what they say, and their records have the agreed fields."""

import json

import numpy as np
import pytest
import torch
from matrices import fresh, symmetric

from benchmarks import (
    eigenvalues,
    ensemble,
    gpu,
    harness,
    models,
    peers,
    product,
    progressive,
    references,
    sam_step,
    surface,
)
from benchmarks.host_reads import HostReads, reads_of_lanczos
from landscape import hessian, seeds
from landscape.checkpoints import prepare as build
from landscape.data import Dataset, Split
from landscape.errors import InputError
from landscape.methods.hutchinson import hutchinson
from landscape.methods.quadrature import by_rows
from landscape.spec import HessianSpec, ProblemSpec

FIELDS = {"name", "problem", "ours", "peers", "ratio", "conditions"}
PACKAGES = ("pyhessian", "hessian_eigenthings", "curvlinops")


def check_record(record):
    """A record survives JSON and has seconds and error for everybody."""
    record = json.loads(json.dumps(record))
    assert set(record) >= FIELDS
    for row in (record["ours"], *record["peers"].values(), *record.get("variants", {}).values()):
        assert row["seconds"] > 0
        assert row["error"] >= 0
    assert {"torch", "threads", "machine"} <= set(record["conditions"])
    return record


@pytest.fixture(scope="module")
def digits():
    return models.digits_problem(epochs=1)


@pytest.fixture(scope="module")
def truth(digits, tmp_path_factory):
    return references.reference("digits", digits, 3, tmp_path_factory.mktemp("results"))


# -- problems --------------------------------------------------------------------------------------


def test_gpt2_has_the_size_of_gpt2():
    with torch.device("meta"):
        model = models.GPT(50257, 768, 12, 12, 3072, 1024, tied=True)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    assert sum(p.numel() for p in models.ResNet18().parameters()) == 11_173_962


def test_problems_on_real_data_say_what_is_missing(monkeypatch):
    monkeypatch.delenv("LANDSCAPE_DATA", raising=False)
    with pytest.raises(InputError, match="LANDSCAPE_DATA"):
        models.resnet20_problem()
    with pytest.raises(InputError, match="LANDSCAPE_DATA"):
        models.gpt(steps=1)


def test_the_gpt_is_trained_once(data_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("LANDSCAPE_DATA", str(data_folder))
    monkeypatch.setattr(models.tempfile, "gettempdir", lambda: str(tmp_path))
    first, again = models.gpt(steps=2, batch=2), models.gpt(steps=2, batch=2)
    assert len(list(tmp_path.iterdir())) == 1
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    problem = models.gpt_problem(first, torch.float32, sequences=1)
    assert problem.size == models.CONTEXT
    assert problem.weights.numel() == 423_424


@pytest.mark.slow
def test_the_resnet_is_the_published_one(checkpoint_folder, data_folder, monkeypatch):
    monkeypatch.setenv("LANDSCAPE_DATA", str(data_folder))
    problem = models.resnet20_problem(64, 32)
    assert (problem.size, problem.weights.numel()) == (64, 269_722)
    assert problem.evaluate(problem.weights).accuracy > 0.95


# -- records ---------------------------------------------------------------------------------------


def test_references_are_kept_and_belong_to_their_weights(digits, truth, tmp_path, capsys):
    result = hessian.measure(digits, HessianSpec(count=3, tolerance=1e-5, sampling_error=False))
    assert truth.error(result.eigenvalues) < 1e-4
    twin = digits.double()
    exact = hessian.measure(twin, HessianSpec(count=3, tolerance=1e-9, sampling_error=False)).eigenvalues
    np.testing.assert_allclose(truth.largest, exact, rtol=0, atol=1e-8 * exact[0])
    assert truth.error(result.eigenvalues[[2, 0, 1]]) == truth.error(result.eigenvalues)
    assert truth.error(result.eigenvalues * [1, 1, 0.5]) == pytest.approx(
        0.5 * result.eigenvalues[2] / result.eigenvalues[0], rel=1e-3
    )
    kept = tmp_path / "reference-digits.json"
    references.reference("digits", digits, 1, tmp_path)
    record = json.loads(kept.read_text())
    kept.write_text(json.dumps({**record, "largest": [7.0]}))
    assert references.reference("digits", digits, 1, tmp_path).largest == [7.0]
    references.reference("digits", models.digits_problem(epochs=2), 1, tmp_path)
    assert "belongs to other weights" in capsys.readouterr().err
    assert json.loads(kept.read_text())["largest"] != [7.0]


def test_eigenvalues_without_peers(digits, truth):
    record = check_record(eigenvalues.compare("digits", digits, truth, count=3, repeats=1, peers=False))
    assert record["peers"] == {}
    assert record["ratio"] is None
    assert record["ours"]["error"] <= 2 * eigenvalues.PEERS_ERROR
    assert record["variants"]["ours, prepared"]["products"] == record["ours"]["products"]


def test_a_prepared_problem_records_once_and_stays_exact(digits):
    kept = eigenvalues.prepared(digits)
    w = kept.weights
    assert kept.hessian(w) is kept.hessian(w)
    assert kept.hessian(w.clone()) is not kept.hessian(w.clone())
    twin = kept.double()
    v = seeds.gaussian(seeds.stream(0, "v"), 1, twin.weights)[0]
    assert twin.hessian(twin.weights)(v).dtype == torch.float64
    torch.testing.assert_close(twin.hessian(twin.weights)(v).float(), digits.hessian(digits.weights)(v.float()))


@pytest.mark.parametrize("package", PACKAGES)
def test_products_of_peers_are_ours(package, digits):
    pytest.importorskip(package)
    v = seeds.gaussian(seeds.stream(0, "v"), 1, digits.weights)[0]
    found = peers.PRODUCTS[package](digits)(v)
    torch.testing.assert_close(found.double(), references.exact_product(digits, v), rtol=1e-3, atol=1e-5)


def test_eigenvalues_of_peers(digits, truth):
    found = {}
    if harness.installed("pyhessian"):
        found["magnitude"] = peers.pyhessian_eigenvalues(digits, 3)
    if harness.installed("hessian_eigenthings"):
        found["largest"] = peers.eigenthings_eigenvalues(digits, 3, 30)
        assert found["largest"].products == 30
    if harness.installed("curvlinops"):
        found["ARPACK"] = peers.curvlinops_eigenvalues(digits, 3, 1e-3)
    for ends, result in found.items():
        assert truth.error(result.eigenvalues, "magnitude" if ends == "magnitude" else "largest") < 0.05
        assert result.products > 3


def test_products_by_engine(digits):
    record = check_record(product.compare("digits", digits, 1, ("recompute", "retained", "folded"), peers=False))
    assert set(record["variants"]) == {"ours, recompute", "ours, retained", "ours, folded"}
    assert record["ours"]["kept_mib"] > 0
    assert record["conditions"]["engine"].startswith("folded")
    assert max(row["error"] for row in (record["ours"], *record["variants"].values())) < 1e-4


@pytest.mark.slow
def test_the_gpu_script_on_a_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(product, "available", list)
    monkeypatch.setattr(gpu, "installed", lambda package: False)
    gpu.main(["--device", "cpu", "--tiny", "--repeats", "1", "--json"], tmp_path)
    (file,) = tmp_path.iterdir()
    records = [check_record(record) for record in json.loads(file.read_text())]
    assert records == [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["name"] for record in records] == ["product", "eigenvalues"] * 2
    assert {record["conditions"].get("host_reads") for record in records[::2]} == {0}


def test_a_machine_without_a_gpu_is_told_so(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    gpu.main([], tmp_path)
    assert "no GPU here" in capsys.readouterr().err


def test_the_race_leaves_out_a_peer_that_fails(capsys):
    def failing():
        raise RuntimeError("no double backward")

    rivals = {"accurate": lambda: {"error": 0.1}, "rough": lambda: {"error": 0.5}, "broken": failing}
    record = check_record(harness.race("name", "problem", lambda: {"error": 0.2}, rivals, repeats=2))
    assert set(record["peers"]) == {"accurate", "rough"}
    assert record["conditions"]["failed"] == {"broken": "RuntimeError: no double backward"}
    assert record["ratio"] == record["peers"]["accurate"]["seconds"] / record["ours"]["seconds"]
    with pytest.raises(RuntimeError):
        harness.race("name", "problem", failing, {})


def test_what_takes_long_is_run_once(monkeypatch):
    monkeypatch.setattr(harness, "PATIENCE", -1.0)
    runs = []
    before = {"slow": (3.0, {"error": 0.1, "peak_mib": 0.0})}
    rivals = {"slow": lambda: runs.append(1) or {"error": 0.1}}
    record = check_record(harness.race("name", "problem", lambda: {"error": 0.2}, rivals, 4, before=before))
    assert record["peers"]["slow"]["seconds"] == 3.0
    assert (runs, record["ours"]["runs"]) == ([], 1)


def test_peers_are_given_what_they_need(digits, truth):
    pytest.importorskip("hessian_eigenthings")
    pytest.importorskip("curvlinops")
    matvec, w = digits.hessian(digits.weights), digits.weights
    steps = eigenvalues.lanczos_steps(matvec, w, 3, truth)
    assert truth.error(peers.eigenthings_eigenvalues(digits, 3, steps).eigenvalues) < 2e-5
    tolerance = eigenvalues.arpack_tolerance(matvec, w, 3, truth)
    assert truth.error(peers.curvlinops_eigenvalues(digits, 3, tolerance).eigenvalues) < 2e-5


def test_an_unknown_setting_is_refused(capsys):
    with pytest.raises(SystemExit):
        eigenvalues.main(["mpl"])
    assert "choose of mlp, gpt, resnet" in capsys.readouterr().err


@pytest.mark.parametrize(("enough", "least"), [(1.0, 1), (0.5, 2), (0.0, 3)])
def test_the_least_work_that_is_enough(enough, least):
    tried = []

    def error(rung):
        tried.append(rung)
        return {1: 0.9, 2: 0.45}.get(rung, 0.39)

    assert eigenvalues.least(range(1, 100), error, enough) == least
    assert len(set(tried)) == len(tried) < 16


# -- no waiting for the device ---------------------------------------------------------------------


def test_reads_are_counted():
    x = torch.arange(3.0)
    with HostReads() as reads:
        x.sum().item()
        bool(x[0] > 1)
        x.tolist()
        x.numpy()
        float(x[1])
        x @ x
    assert {"item", "__bool__", "tolist", "numpy", "__float__", "_local_scalar_dense"} <= set(reads.names)
    with HostReads() as reads:
        x @ x
    assert reads.count == 0
    assert x.sum().item() == 3.0


@pytest.mark.parametrize("engine", ["folded", "recompute", "retained"])
@pytest.mark.parametrize("steps", [2, 20])
def test_steps_of_lanczos_read_nothing(engine, steps, digits):
    matvec = product.engine_product(digits, engine)
    start = seeds.gaussian(seeds.stream(0, "start"), 1, digits.weights)[0]
    matvec(start)
    assert reads_of_lanczos(matvec, start, steps) == 0


def test_lanczos_on_a_matrix_reads_nothing():
    A = symmetric(np.linspace(-1, 1, 60))
    assert reads_of_lanczos(lambda v: A @ v, fresh(A[0])(0), 30) == 0


def test_reads_of_a_trace_do_not_grow_with_the_probes():
    A = symmetric(np.linspace(-1, 1, 60))
    counts = []
    for probes in (4, 64):
        z = seeds.rademacher(seeds.stream(0, "probes"), probes, A[0])
        with HostReads() as reads:
            hutchinson(by_rows(lambda v: A @ v), z)
        counts.append(reads.count)
    assert counts[0] == counts[1] < 8


def test_progressive_counts_its_work():
    result = progressive.compare(models.digits_problem(torch.float32), 2)
    assert set(result) == {"name", "problem", "ours", "peers", "ratio", "conditions"}
    assert result["ours"]["converged"]
    assert result["ours"]["error"] < 0.02
    assert result["ratio"] == pytest.approx(result["peers"]["plain Lanczos"]["work"] / result["ours"]["work"])


# -- surfaces --------------------------------------------------------------------------------------


def test_every_loop_over_a_plane_evaluates_the_points_it_says(digits):
    plane = surface.Plane.of(digits, 3)
    for run in (surface.ours, lambda p: surface.plain_loop(p, 500), lambda p: surface.parameter_loop(p, 500)):
        assert run(plane)()["error"] < 1e-5
    shifted = plane.achieved(np.arange(9.0).reshape(3, 3), plane.symmetric)()
    assert shifted["error"] > 0.1


@pytest.mark.parametrize(("package", "run"), [("loss_landscapes", surface.by_loss_landscapes),
                                              ("landscaper", surface.by_landscaper)])  # fmt: skip
def test_other_tools_evaluate_the_points_it_says(digits, package, run):
    pytest.importorskip(package)
    assert run(surface.Plane.of(digits, 3), 500)()["error"] < 1e-2


# -- steps of SAM ----------------------------------------------------------------------------------


def test_steps_of_sam_are_told_apart(monkeypatch):
    monkeypatch.setattr(sam_step, "STEPS", 5)
    model, data = build(ProblemSpec(model="f1", data="digits"), seed=0)
    record = check_record(sam_step.compare(model, data, repeats=2, batch_size=64))
    assert set(record["variants"]) == {"plain", *sam_step.VARIANTS} - {"sam"}
    assert record["variants"]["plain"]["cost"] == 1
    assert record["ours"]["cost"] > record["variants"]["every 5"]["cost"]
    for row in (record["ours"], *record["variants"].values()):
        assert 0 < row["error"] < 1e-4


def test_steps_of_sam_say_what_is_missing(monkeypatch, capsys):
    monkeypatch.delenv("LANDSCAPE_DATA", raising=False)
    sam_step.main(["--repeats", "1"])
    assert "LANDSCAPE_DATA" in capsys.readouterr().err


def test_the_tabular_grid_together_and_alone(monkeypatch):
    monkeypatch.setattr(ensemble, "RATES", (1e-3, 3e-3))
    monkeypatch.setattr(ensemble, "DECAYS", (0.0, 1e-2))
    x = seeds.gaussian(seeds.stream(0, "table"), 60, torch.empty(16))
    data = Dataset("made up", Split(x[:50], x[:50, :1]), Split(x[50:], x[50:, :1]), "regression", 1, "", {})
    assert len(ensemble.grid(data, 2)) == 2 * 2 * 2 * 4 * 3
    record = check_record(ensemble.compare(data, 2, 1))
    peer = record["peers"]["one after the other, extrapolated"]
    assert peer["sample"] == 12
    assert peer["seconds"] > peer["measured"]
    assert record["ours"]["error"] < 1e-4
    assert record["ours"]["members"] == 96
