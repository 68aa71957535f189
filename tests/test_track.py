"""Series of checkpoints: closed forms, the order of files, resumption, edges by hand, the fit against numpy."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference_models
import torch
from commands import refused, run
from problems import network, prescribed
from torch import nn

from landscape import hessian
from landscape.errors import InputError
from landscape.methods.log_fit import fit_logarithm
from landscape.methods.stability import gradient_descent_edge, sharpness_aware_edge
from landscape.problem import Problem
from landscape.results import TrackResult, load
from landscape.series import open_series
from landscape.spec import HessianSpec, ProblemSpec, TrackSpec
from landscape.track import Snapshot, measure
from landscape.track_resume import Step

SPECTRUM = np.array([5.0, 3.0, 2.0, 0.5, 0.1, 0.0, -0.2, -1.0])


# -- edges and fit -----------------------------------------------------------------------------------------


def grows(matrix: np.ndarray) -> bool:
    return bool(np.abs(np.linalg.eigvals(matrix)).max() > 1 + 1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_edge_is_where_torchs_sgd_starts_to_diverge_on_a_quadratic(beta, decay, nesterov):
    """The map of (w, buffer) under one optimiser step, taken from torch itself, has spectral radius 1 at the edge."""
    if nesterov and not beta:
        pytest.skip("torch refuses Nesterov without momentum")
    rate = 0.2
    edge = gradient_descent_edge(rate, beta, nesterov, decay)

    def one_step(curvature: float) -> np.ndarray:
        columns = []
        for w0, v0 in ((1.0, 0.0), (0.0, 1.0)):
            w = nn.Parameter(torch.tensor(w0, dtype=torch.float64))
            sgd = torch.optim.SGD([w], lr=rate, momentum=beta, nesterov=nesterov, weight_decay=decay)
            if beta:
                sgd.state[w]["momentum_buffer"] = torch.tensor(v0, dtype=torch.float64)
            (0.5 * curvature * w.square()).backward()
            sgd.step()
            columns.append([w.item(), sgd.state[w]["momentum_buffer"].item() if beta else 0.0])
        return np.array(columns).T

    assert not grows(one_step(edge * (1 - 1e-6)))
    assert grows(one_step(edge * (1 + 1e-6)))


def test_the_sam_edge_is_the_published_formula_and_where_sam_stops_contracting():
    """By hand: η = 0.5, ρ = 0.1, ‖g‖ = 2 gives 10·(√1.8 − 1) = 3.4164…, against 2/η = 4."""
    assert sharpness_aware_edge(2 / 0.5, 0.1, 2.0) == pytest.approx(3.4164078649987383, rel=1e-12)
    for rate, rho, norm in [(0.3, 0.05, 0.7), (1e-3, 0.5, 1e-4), (2.0, 1e-9, 3.0)]:
        published = norm / (2 * rho) * (math.sqrt(1 + 8 * rho / (rate * norm)) - 1)
        edge = sharpness_aware_edge(gradient_descent_edge(rate), rho, norm)
        assert edge == pytest.approx(published, rel=1e-6)
        w = norm / edge  # one dimension: the gradient at w is edge·w
        stepped = w - rate * edge * (w + rho)
        assert abs(stepped) == pytest.approx(w, rel=1e-9)
    assert sharpness_aware_edge(4.0, 0.0, 2.0) == 4.0
    assert sharpness_aware_edge(4.0, 0.1, 0.0) == 0.0
    assert math.isnan(gradient_descent_edge(0.0))
    assert math.isnan(gradient_descent_edge(math.nan))


def test_the_fit_is_that_of_numpy():
    rng = np.random.default_rng(0)
    t = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200.0])
    y = 0.3 + 1.7 * np.log(np.maximum(t, 1)) + 0.1 * rng.standard_normal(9)
    y[4] = np.nan
    for first, last in [(None, None), (2.0, 100.0)]:
        found = fit_logarithm(t, y, first, last)
        used = np.isfinite(y) & (t >= (first or 1)) & (t <= (last or 200))
        slope, intercept = np.polyfit(np.log(t[used]), y[used], 1)
        assert (found.intercept, found.slope) == pytest.approx((intercept, slope))
        assert found.r2 == pytest.approx(np.corrcoef(np.log(t[used]), y[used])[0, 1] ** 2)
        assert (found.points, found.range) == (used.sum(), (t[used].min(), t[used].max()))
    assert math.isnan(fit_logarithm(t[:3], y[:3]).r2)
    assert math.isnan(fit_logarithm(t, np.ones(9)).r2)


# -- measurements ------------------------------------------------------------------------------------------


def snapshots_of(problem: Problem, weights: list[torch.Tensor], **common) -> list[Snapshot]:
    name = next(iter(problem.named(problem.weights)))

    def state(w):
        return lambda: {name: w.view(problem.model.state_dict()[name].shape)}

    return [Snapshot(f"s{i}", f"digest {i}", state(w), float(10 * i), **common) for i, w in enumerate(weights)]


def quadratic(count: int = 5) -> tuple[Problem, torch.Tensor, list[torch.Tensor]]:
    problem, A = prescribed(SPECTRUM)
    rng = torch.Generator().manual_seed(0)
    return problem, A, [torch.randn(8, generator=rng, dtype=torch.float64) for _ in range(count)]


def test_a_quadratic_in_closed_form():
    problem, A, weights = quadratic()
    taken = Step(learning_rate=0.1, momentum=0.5, rho=0.2)
    found = measure(problem, TrackSpec(count=2, trace=True, trace_tolerance=1e-6, tolerance=1e-8),
                    snapshots_of(problem, weights, taken=taken))  # fmt: skip
    assert found.complete
    assert found.converged.all()
    np.testing.assert_allclose(found.eigenvalues, np.tile([5.0, 3.0], (5, 1)), rtol=1e-8)
    np.testing.assert_allclose(found.traces, SPECTRUM.sum(), rtol=1e-6)
    np.testing.assert_allclose(found.losses, [0.5 * float(w @ A @ w) for w in weights])
    norms = np.array([float((A @ w).norm()) for w in weights])
    np.testing.assert_allclose(found.gradient_norms, norms)
    np.testing.assert_allclose(found.distances, [float((w - weights[0]).norm()) for w in weights])
    np.testing.assert_allclose(found.edges, 30.0)
    np.testing.assert_allclose(found.sam_edges, norms / 0.4 * (np.sqrt(1 + 4 * 0.2 * 30 / norms) - 1))
    assert found.axis[0] == "step"
    slope, intercept = np.polyfit(np.log([10, 20, 30, 40]), found.distances[1:], 1)
    assert found.fit == pytest.approx((intercept, slope))
    assert found.fit_range == (10.0, 40.0)
    assert found.origin == "the initial weights"
    assert "(2+2β)/η, β = 0.5" in found.edge_formula


def test_every_checkpoint_has_its_own_batch_norm_statistics():
    case = network("cnn_with_batch_norm")
    problem, state = case.problem(), case.model.state_dict()
    other = {k: v * 1.3 if v.is_floating_point() else v for k, v in state.items()}
    pair = [Snapshot(n, n, lambda s=s: s, float(i)) for i, (n, s) in enumerate({"a": state, "b": other}.items())]
    found = measure(problem, TrackSpec(count=2, tolerance=1e-7), pair)
    for row, content in enumerate((state, other)):
        model = reference_of(case.model, content)
        batches = list(zip(case.inputs.split(16), case.targets.split(16), strict=True))
        alone = hessian.measure(Problem(model, case.loss, batches), HessianSpec(count=2, tolerance=1e-7))
        np.testing.assert_allclose(found.eigenvalues[row], alone.eigenvalues, rtol=1e-6)
        assert found.losses[row] == pytest.approx(alone.conditions["loss"])
    assert torch.equal(problem.weights, case.weights)


def reference_of(model: nn.Module, state: dict) -> nn.Module:
    import copy

    twin = copy.deepcopy(model)
    twin.load_state_dict(state)
    return twin


def test_with_state_moves_fixed_parameters_too_and_refuses_another_model():
    case = network("mlp")
    whole = case.problem()
    part = whole.restricted(["4.*"])
    state = {k: 2 * v for k, v in case.model.state_dict().items()}
    moved = part.with_state(state)
    assert moved.value(moved.weights) == pytest.approx(case.mean_loss(2 * case.weights).item())
    assert part.value(part.weights) == pytest.approx(case.mean_loss(case.weights).item())
    with pytest.raises(InputError, match="not of this problem's model"):
        part.with_state({"weight": torch.ones(3)})


def test_a_checkpoint_whose_loss_is_not_finite_says_so_and_the_series_goes_on():
    problem, _, weights = quadratic(4)
    weights[1] = weights[1] * float("inf")
    snapshots = snapshots_of(problem, weights)
    snapshots[2] = Snapshot("s2", "", lambda: pytest.fail("read"), 20.0, trouble="s2 is damaged")
    found = measure(problem, TrackSpec(count=1), snapshots)
    assert "not finite" in found.troubles[1]
    assert found.troubles[2] == "s2 is damaged"
    np.testing.assert_array_equal(np.isnan(found.losses), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(found.eigenvalues[:, 0]), [False, True, True, False])
    assert found.complete


class KilledError(Exception):
    pass


def kill_at(number: int):
    def progress(done: int, total: int | None, note: str) -> None:
        assert total == 5
        if done == number:
            raise KilledError

    return progress


def same(one: TrackResult, other: TrackResult) -> None:
    for name in ("eigenvalues", "residuals", "losses", "distances", "gradient_norms", "matvecs", "traces", "done"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.fit, one.fit_r2) == (other.fit, other.fit_r2)


def test_a_killed_series_ends_with_the_same_numbers(tmp_path):
    problem, _, weights = quadratic()
    spec, snapshots, path = TrackSpec(count=2, trace=True), snapshots_of(problem, weights), tmp_path / "t"
    whole = measure(problem, spec, snapshots)
    for number in (2, 4):
        with pytest.raises(KilledError):
            measure(problem, spec, snapshots, partial=path, progress=kill_at(number))
        left = load(path)
        assert isinstance(left, TrackResult)
        assert left.done.sum() == number
        assert left.vectors.shape == (2, 8)
    same(measure(problem, spec, snapshots, partial=path), whole)
    stored = load(path)
    same(stored, whole)
    assert stored.vectors.size == 0
    asked = []
    same(measure(problem, spec, snapshots, partial=path, progress=lambda *a: asked.append(a)), whole)
    assert asked == []


_CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_track
test_track.torch.set_num_threads(1)
problem, _, weights = test_track.quadratic()
def die(done, total, note):
    if done == int(sys.argv[3]) and note.endswith("converged"):
        os.kill(os.getpid(), signal.SIGKILL)
test_track.measure(problem, test_track.TrackSpec(count=2), test_track.snapshots_of(problem, weights),
                   partial=sys.argv[2], progress=die)
"""


def test_a_process_killed_amid_a_checkpoint_has_kept_those_before(tmp_path):
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(tmp_path / "t"), "3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    left = load(tmp_path / "t")
    assert isinstance(left, TrackResult)
    assert left.done.tolist() == [True, True, True, False, False]
    problem, _, weights = quadratic()
    snapshots = snapshots_of(problem, weights)
    whole = measure(problem, TrackSpec(count=2), snapshots)
    same(measure(problem, TrackSpec(count=2), snapshots, partial=tmp_path / "t"), whole)


def test_a_warm_start_finds_the_same_eigenvalues_with_fewer_products():
    problem, _ = prescribed(20 * 0.8 ** np.arange(60))
    w = torch.ones(60, dtype=torch.float64)
    snapshots = snapshots_of(problem, [w] * 4)
    warm, cold = (measure(problem, TrackSpec(count=3, tolerance=1e-8, warm=on), snapshots) for on in (True, False))
    np.testing.assert_allclose(warm.eigenvalues, np.tile([20, 16, 12.8], (4, 1)), rtol=1e-8)
    np.testing.assert_allclose(warm.eigenvalues, cold.eigenvalues, rtol=1e-8)
    assert warm.matvecs[0] == cold.matvecs[0]
    assert (warm.matvecs[1:] < cold.matvecs[1:]).all()


def test_a_series_may_grow_and_its_fit_may_change_without_measuring_again(tmp_path):
    problem, _, weights = quadratic()
    snapshots, path = snapshots_of(problem, weights), tmp_path / "t"
    measure(problem, TrackSpec(count=1), snapshots[:3], partial=path)
    measured = []
    grown = measure(problem, TrackSpec(count=1, fit_from=20, learning_rate=0.25), snapshots, partial=path,
                    progress=lambda done, *_: measured.append(done))  # fmt: skip
    assert min(measured) == 3
    assert grown.complete
    assert grown.fit_range == (20.0, 40.0)
    np.testing.assert_array_equal(grown.edges, 8.0)


def test_another_series_is_refused(tmp_path):
    problem, _, weights = quadratic()
    snapshots, path = snapshots_of(problem, weights), tmp_path / "t"
    measure(problem, TrackSpec(count=1), snapshots, partial=path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="count: 1 in the file, 2 now"):
        measure(problem, TrackSpec(count=2), snapshots, partial=path)
    with pytest.raises(InputError, match="digests"):
        measure(problem, TrackSpec(count=1), [*snapshots[:3], Snapshot("x", "x", snapshots[3].state, 35.0)],
                partial=path)  # fmt: skip
    assert path.read_bytes() == before
    assert measure(problem, TrackSpec(count=2), snapshots, partial=path, overwrite=True).eigenvalues.shape == (5, 2)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((0.0,), "at least two"),
        ((0.0, 0.0), "ascending"),
        ((2.0, 1.0), "ascending"),
        ((math.nan, 1.0), "needs its step"),
    ],
)
def test_a_series_without_an_order_is_refused(steps, says):
    problem, _, weights = quadratic(1)
    state = snapshots_of(problem, weights)[0].state
    with pytest.raises(InputError, match=says):
        measure(problem, TrackSpec(), [Snapshot(str(i), "", state, step) for i, step in enumerate(steps)])


# -- files, their order, and the command -------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run with a warm-up and a falling learning rate, and another one of another width."""
    place = tmp_path_factory.mktemp("series")
    common = ("--model", "mlp", "--batch-size", 500, "--lr", 0.2, "--save-every", 1)
    run("train", place / "run", *common, "--model-arg", "widths=6", "--epochs", 4, "--schedule", "step",
        "--milestone", 3, "--warmup-epochs", 1, "--momentum", 0.5, "--rho", 0.05)  # fmt: skip
    run("train", place / "other", *common, "--model-arg", "widths=5", "--epochs", 1)
    run("train", place / "longer", *common, "--model-arg", "widths=6", "--epochs", 2)
    return place


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_knows_its_steps_rates_and_start(folder):
    series = open_series([folder / "run"])
    assert [s.epoch for s in series.snapshots] == [0, 1, 2, 3, 4]
    assert [s.step for s in series.snapshots] == [0, 3, 6, 9, 12]
    rates = [s.taken.learning_rate for s in series.snapshots]
    assert rates == pytest.approx([0.2 / 3, 0.2, 0.2, 0.2, 0.02])
    assert {(s.taken.momentum, s.taken.rho) for s in series.snapshots} == {(0.5, 0.05)}
    assert series.initial is not None
    shuffled = open_series([folder / "run@3", folder / "run@1", folder / "run" / "checkpoints" / "epoch_000[24]*"])
    assert [s.epoch for s in shuffled.snapshots] == [1, 2, 3, 4]


def test_the_command_saves_what_it_shows(folder):
    shown = run("track", folder / "run", "--count", 2, "--json")
    printed, found = json.loads(shown.stdout), load("run-track.safetensors")
    assert isinstance(found, TrackResult)
    np.testing.assert_allclose(printed["eigenvalues"], found.eigenvalues)
    recorded = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(found.distances[1:], [row["distance"] for row in recorded], rtol=1e-5)
    assert found.distances[0] == 0
    np.testing.assert_allclose(found.edges, 3 / found.learning_rates)
    assert (found.sam_edges < found.edges).all()
    alone = json.loads(run("hessian", f"{folder / 'run'}@2", "--count", 2, "--json").stdout)
    np.testing.assert_allclose(found.eigenvalues[2], alone["eigenvalues"], rtol=1e-3)
    assert found.accuracies[2] == pytest.approx(alone["conditions"]["accuracy"])
    out = run("track", folder / "run", "--count", 2, "-o", "run-track.safetensors").stdout  # complete: shown again
    assert "5 of 5 checkpoints" in out
    assert "SAM's edge" in out
    assert "‖w−w₀‖ ≈" in out
    run("track", folder / "run", "--count", 1)
    assert Path("run-track-2.safetensors").exists()
    run("figure", "run-track.safetensors", "-o", "picture")
    assert Path("picture.png").stat().st_size > 1000


def test_an_interrupted_command_resumes(folder, monkeypatch):
    whole = run("track", folder / "run", "--count", 1, "-o", "whole", "--trace").stdout
    calls, gradient = [], Problem.value_and_gradient

    def interrupted(problem, w):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return gradient(problem, w)

    with monkeypatch.context() as patch:
        patch.setattr(Problem, "value_and_gradient", interrupted)
        run("track", folder / "run", "--count", 1, "--trace", code=130)
    assert load("run-track.safetensors").done.sum() == 2
    assert "INCOMPLETE" in run("inspect", "run-track.safetensors").stdout
    assert run("track", folder / "run", "--count", 1, "--trace").stdout.splitlines()[:8] == whole.splitlines()[:8]
    same(load("whole"), load("run-track.safetensors"))


def test_a_file_that_is_not_finite_is_a_row_without_numbers(folder):
    for epoch in (1, 2, 3):
        state = open_series([folder / "run"]).snapshots[epoch].state()
        if epoch == 2:
            state = {k: v * float("nan") if v.is_floating_point() else v for k, v in state.items()}
        torch.save(dict(state), f"net-epoch{epoch:02d}.pt")
    words = ("track", "net-*.pt", "--model", "mlp", "--model-arg", "widths=6", "--data", "digits", "--count", 1)
    shown = run(*words, "-o", "t")
    found = load("t")
    assert isinstance(found, TrackResult)
    assert "NaN" in found.troubles[1]
    assert "net-epoch02.pt" in shown.stdout
    np.testing.assert_array_equal(found.epochs, [1, 2, 3])
    assert found.axis[0] == "epoch"
    assert "no learning rate is known" in shown.stdout
    assert found.origin == "the checkpoint net-epoch01.pt"
    run("track", "net-*.pt", *words[2:], "--steps", "5,10,15", "--lr", 0.5, "--initial", folder / "run@0", "-o", "s")
    stepped = load("s")
    np.testing.assert_array_equal(stepped.steps, [5, 10, 15])
    np.testing.assert_array_equal(stepped.edges, 4.0)
    assert stepped.origin == "the initial weights"
    assert stepped.distances[0] > 0
    run("figure", "s", "-o", "picture")


@pytest.mark.parametrize(
    ("names", "steps", "epochs"),
    [
        (("m8_epoch9", "m8_epoch10"), None, (9, 10)),
        (("epoch=0-step=7.ckpt", "epoch=1-step=14.ckpt"), (7, 14), (0, 1)),
        (("checkpoint-500/model.pt", "checkpoint-1500/model.pt"), (500, 1500), None),
        (("w_2.pt", "w_10.pt"), (2, 10), None),
        (("global_step20_v2.pt", "global_step3_v2.pt"), (3, 20), None),
    ],
)
def test_steps_are_told_from_names(names, steps, epochs):
    _, _, weights = quadratic(2)
    for name, w in zip(names, weights, strict=True):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weight": w.view(1, 8)}, name)
    series = open_series(names, LINEAR)
    for name, expected in (("step", steps), ("epoch", epochs)):
        found = [getattr(s, name) for s in series.snapshots]
        assert found == list(expected) if expected else all(math.isnan(v) for v in found)
    assert series.notes[0].startswith(("step of each", "epoch of each", "step and epoch of each"))


LINEAR = ProblemSpec(model=f"{__file__}:linear", data=f"{__file__}:numbers")


def linear() -> nn.Module:
    return nn.Linear(8, 1, bias=False)


def numbers():
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    return x, x.sum(1, keepdim=True), x, x.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("track", "nothing"), "does not exist"),
        (("track", "nothing*"), "nothing matches"),
        (("track", "."), "not a run folder"),
        (("track", "{run}@1"), "at least two"),
        (("track", "{run}@1", "{run}@1"), "named twice"),
        (("track", "{run}", "{other}@1"), "another model"),
        (("track", "{run}@1", "{longer}@2"), "different settings"),
        (("track", "{run}@1", "{longer}@2", "--steps", "5,5"), "both of step 5"),
        (("track", "{run}", "--steps", "1,2"), "5 numbers"),
        (("track", "{run}", "--steps", "a,b"), "list of numbers"),
        (("track", "{run}", "--initial", "{other}@0"), "another model"),
        (("track", "{run}", "--count", 0), "count = 0"),
        (("track", "{run}", "--fit-from", 9, "--fit-until", 3), "fit_until"),
        (("track", "{run}", "-o", "{run}/config.json"), "--overwrite"),
        (("track", "a.pt", "b.pt", "--model", "mlp", "--model-arg", "widths=6", "--data", "digits"), "not clear"),
    ],
)
def test_bad_input_is_one_line(folder, words, says):
    for name in ("a.pt", "b.pt"):
        torch.save(dict(open_series([folder / "run"]).snapshots[1].state()), name)
    places = {name: folder / name for name in ("run", "other", "longer")}
    assert says in refused(*(w.format(**places) if isinstance(w, str) else w for w in words))


def test_what_the_edges_leave_out_is_noted(folder):
    run("train", "clipped", "--model", "mlp", "--model-arg", "widths=4", "--epochs", 1, "--clip-norm", 0.5,
        "--label-smoothing", 0.1)  # fmt: skip
    shown = run("track", "clipped", "--count", 1).stderr
    assert "--label-smoothing 0.1 gives the run's" in shown
    assert "clipped to 0.5" in shown


def test_adam_has_no_edge_and_no_readable_file_is_refused(folder):
    run("train", "adam", "--model", "mlp", "--model-arg", "widths=4", "--epochs", 1, "--optimiser", "adam")
    shown = run("track", "adam", "--count", 1).stdout
    assert "No edge of stability: adam's" in shown
    Path("x1.pt").write_bytes(b"no")
    Path("x2.pt").write_bytes(b"no")
    assert "no checkpoint of the series can be read" in refused("track", "x1.pt", "x2.pt")


def test_a_trajectory_that_others_trained(checkpoint_folder, data_folder):
    spec = ProblemSpec(model=f"{reference_models.__file__}:dense", data="mnist", data_args=(("normalise", "half"),),
                       data_folder=str(data_folder), examples=500, device="cpu")  # fmt: skip
    series = open_series([checkpoint_folder / "mnist_trajectory" / "*_epoch0[1-3]"], spec)
    found = measure(series.problem, TrackSpec(count=1), series.snapshots, series.initial)
    np.testing.assert_array_equal(found.epochs, [1, 2, 3])
    assert found.converged.all()
    assert (np.diff(found.distances) > 0).all()
    assert np.isnan(found.edges).all()
