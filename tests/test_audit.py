"""The audit: what moves under transformations that keep the function, with measures whose answer is known."""

import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_units import problem_of
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from landscape import audit, hessian, seeds
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.measures import Row, several
from landscape.problem import Problem
from landscape.results import VERDICTS, AuditResult, MeasuresResult, SharpnessResult, load, save
from landscape.spec import HessianSpec, MeasuresSpec, SharpnessSpec
from landscape_cli import tables
from landscape_cli.main import landscape

QUICK = SharpnessSpec(epsilons=(1e-3,), dimension=5, iterations=10, trials=3, restarts=1)


def norm(subject):
    return [Row("‖w‖", float(subject.w.norm()))]


def path_norm(subject):
    """√Σ over paths of Π w², biases as paths that start at a constant: forward with squared weights."""
    pieces = list(subject.problem.named(subject.w).values())
    v = torch.ones(pieces[0].shape[1], dtype=subject.w.dtype)
    for weight, bias in zip(pieces[::2], pieces[1::2], strict=True):
        v = weight.square() @ v + bias.square()
    return [Row("path norm", float(v.sum().sqrt()), invariant=("relu",))]


def largest_eigenvalue(subject):
    spec = HessianSpec(count=1, tolerance=1e-6, sampling_error=False, seed=subject.spec.measure_seed)
    return [Row("λ1", float(hessian.measure(subject.problem, spec, subject.w).eigenvalues[0]))]


def folded_norm(subject):
    """‖w‖/√(σ² + ε) of each channel before the batch norm, summed: what the layer does to its input."""
    scale = (subject.problem.buffers()["1.running_var"] + 1e-5).sqrt()
    rows = subject.problem.named(subject.w)["0.weight"].flatten(1).norm(dim=1)
    return [Row("folded norm", float((rows / scale).sum()), invariant=("batch-norm",))]


def noisy(subject, more=1):
    """Mean and standard error of a quadratic at random points, and one such point alone.

    With `more` the draws are longer than the weights, so that nobody knows which belongs to which.
    """
    rng, n = seeds.stream(subject.spec.measure_seed, "noise"), len(subject.w)
    draws = seeds.gaussian(rng, 200, subject.w.new_empty(n + more))[:, :n]
    values = (subject.w * (1 + draws)).square().sum(1)
    return [
        Row("mean", float(values.mean()), float(values.std() / len(values) ** 0.5)),
        Row("one draw", float(values[0])),
    ]


def liar(subject):
    return [Row("‖w‖ as invariant", float(subject.w.norm()), invariant=("relu", "batch-norm"))]


def first_weight(subject):
    return [Row("w[0]", float(subject.w[0]))]


def distance(subject):
    return [Row("distance", float((subject.w - subject.initial).norm()))]


@pytest.fixture
def register(monkeypatch):
    """Give measures the names of some that the spec knows."""

    def registered(*functions):
        names = ("norm", "path-norm", "eigenvalues", "average-case", "distance")[: len(functions)]
        for name, function in zip(names, functions, strict=True):
            monkeypatch.setitem(several.FILES, name, function)
        return MeasuresSpec(measures=names)

    return registered


def verdicts(result: AuditResult) -> dict[str, dict[str, str]]:
    return {name: dict(zip(result.kinds, row, strict=True))
            for name, row in zip(result.names, result.verdicts, strict=True)}  # fmt: skip


def both(verdict: str, **others: str) -> dict[str, str]:
    """The same verdict for one factor a layer and one factor a unit."""
    return {"relu-layer": verdict, "relu": verdict, **{k.replace("_", "-"): v for k, v in others.items()}}


def test_what_moves_and_what_does_not(register):
    result = audit.measure(problem_of("mlp"), register(norm, path_norm, largest_eigenvalue))
    assert verdicts(result) == {
        "‖w‖": both("moves", permutation="invariant"),
        "path norm": both("invariant", permutation="invariant"),
        "λ1": both("moves", permutation="invariant"),
    }
    assert result.broken == ()
    assert result.measures == ("norm", "path-norm", "eigenvalues")
    np.testing.assert_array_equal(result.claims, [[False, False, True], [True, True, True], [False, False, True]])
    np.testing.assert_allclose(result.changes, np.abs(result.values_after / result.values[:, None] - 1), atol=1e-15)
    assert (result.changes[:, 2] < 1e-9).all()
    assert (result.changes[[0, 2], :2] > 0.1).all()
    assert (result.output_changes <= 1e-10).all()
    assert result.groups == tuple((k, g, n) for k in result.kinds for g, n in (("0.weight", 5), ("2.weight", 4)))


def test_dinhs_factor_moves_the_largest_eigenvalue_as_it_must(register):
    """With w' = Dw the Hessian is D⁻¹HD⁻¹ (Dinh et al. 2017, section 3), here from a dense Hessian."""
    problem, spec = problem_of("mlp"), register(largest_eigenvalue)
    (x, y), shapes = (torch.cat(parts) for parts in zip(*problem.batches, strict=True)), problem.named(problem.weights)

    def mean_loss(w):
        pieces = dict(zip(shapes, w.split([s.numel() for s in shapes.values()]), strict=True))
        outputs = functional_call(problem.model, {k: pieces[k].view(s.shape) for k, s in shapes.items()}, (x,))
        return F.cross_entropy(outputs, y)

    H = torch.autograd.functional.hessian(mean_loss, problem.weights)
    factors = {"0.weight": 8, "0.bias": 8, "2.weight": 1, "2.bias": 8, "4.weight": 1 / 8, "4.bias": 1}
    D = torch.cat([torch.full((s.numel(),), factors[k], dtype=torch.float64) for k, s in shapes.items()])
    expected = torch.linalg.eigvalsh(H / D[:, None] / D)[-1]
    result = audit.measure(problem, spec, alpha=8.0)
    assert result.values[0] == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=1e-6)
    assert result.values_after[0, 0] == pytest.approx(float(expected), rel=1e-6)


def test_batch_norm_rescaling(register):
    result = audit.measure(problem_of("norm_cnn"), register(norm, folded_norm))
    assert result.kinds == ("relu-layer", "relu", "batch-norm", "permutation")
    assert verdicts(result)["folded norm"]["batch-norm"] == "invariant"
    assert verdicts(result)["‖w‖"] == both("moves", batch_norm="moves", permutation="invariant")


def test_false_claims_are_broken(register):
    result = audit.measure(problem_of("norm_cnn"), register(liar, first_weight))
    assert set(result.broken) == {("‖w‖ as invariant", k) for k in ("relu-layer", "relu", "batch-norm")} | {
        ("w[0]", "permutation")
    }
    assert verdicts(result)["‖w‖ as invariant"]["permutation"] == "invariant"
    assert "4 BROKEN" in shown(result)


def test_claims_hold_to_a_percent_and_permutations_to_rounding(register):
    problem = problem_of("mlp")

    def drifting(by):
        return lambda s: [Row("drift", 1.0 + by * (not torch.equal(s.w, problem.weights)), invariant=("relu",))]

    for by, relu, permutation in (
        (5e-6, "invariant", "invariant"),
        (5e-3, "invariant", "BROKEN"),
        (0.02, "BROKEN", "BROKEN"),
    ):
        result = audit.measure(problem, register(drifting(by)))
        assert verdicts(result)["drift"] == both(relu, permutation=permutation)
    problem = problem_of("mlp", torch.float32)
    result = audit.measure(problem, register(drifting(5e-4)))
    assert verdicts(result)["drift"]["permutation"] == "invariant"


def test_numbers_from_draws_may_move_as_other_seeds_move_them(register):
    result = audit.measure(problem_of("mlp"), register(noisy))
    found = verdicts(result)
    assert found["mean"]["permutation"] == found["one draw"]["permutation"] == "within error"
    assert found["mean"]["relu"] == "moves"
    assert (result.spreads > 1e-3).all()
    assert "other seeds" in shown(result)
    fixed = audit.measure(problem_of("mlp"), register(norm))
    assert np.isnan(fixed.spreads).all()  # nothing called for it


def test_draws_for_each_weight_move_with_it(register):
    result = audit.measure(problem_of("mlp"), register(lambda subject: noisy(subject, more=0)))
    found = verdicts(result)
    assert found["mean"]["permutation"] == found["one draw"]["permutation"] == "invariant"
    assert found["one draw"]["relu"] == "moves"
    assert np.isnan(result.spreads).all()


def test_permutations_take_the_initial_weights_along(register):
    problem = problem_of("mlp")
    initial = seeds.gaussian(seeds.stream(0, "initial"), 1, problem.weights)[0]
    result = audit.measure(problem, register(distance), initial=initial)
    assert verdicts(result)["distance"] == both("moves", permutation="invariant")


def test_missing_numbers_and_zeros():
    before = np.array([np.nan, 0.0, 1.0, np.inf, 0.0])
    after = np.array([np.nan, 0.0, np.nan, np.inf, 1.0])
    np.testing.assert_array_equal(audit.difference(before, after), [0, 0, np.inf, 0, 1])


def test_a_number_that_vanishes_is_broken(register):
    problem = problem_of("mlp")
    result = audit.measure(
        problem, register(lambda s: [Row("gone", 1.0 if torch.equal(s.w, problem.weights) else float("nan"))])
    )
    assert verdicts(result)["gone"] == both("moves", permutation="BROKEN")


@pytest.mark.slow
def test_keskars_measure_moves_under_rescalings_alone():
    result = audit.measure(problem_of("mlp"), MeasuresSpec(), keskar=QUICK)
    assert result.broken == ()
    found = verdicts(result)
    assert found["sharpness full ε=0.001 (%)"]["relu"] == "moves"
    assert found["sharpness full ε=0.001 (%)"]["permutation"] in ("invariant", "within error")
    assert result.conditions["keskar"]["dimension"] == 5


def test_a_network_with_batch_norm_in_float32(register):
    problem = problem_of("cnn", torch.float32)
    result = audit.measure(problem, register(norm, largest_eigenvalue))
    assert result.kinds == ("relu-layer", "relu", "batch-norm", "permutation")
    assert result.broken == ()
    assert verdicts(result)["λ1"]["relu"] == verdicts(result)["λ1"]["batch-norm"] == "moves"


def test_nothing_to_transform_is_said(register):
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()
    batches = [(torch.randn(4, 6, dtype=torch.float64), torch.arange(4) % 3)]
    with pytest.raises(InputError, match="no units in the network"):
        audit.measure(Problem(model, loss_by_name("cross_entropy"), batches), register(norm))
    with pytest.raises(InputError, match=r"a.weight: used by setitem"):
        audit.measure(problem_of("in_place"), register(norm))


def test_a_result_is_saved_loaded_and_shown(tmp_path, register):
    result = audit.measure(problem_of("tanh"), register(norm, path_norm))
    save(result, tmp_path / "a")
    back = load(tmp_path / "a")
    assert isinstance(back, AuditResult)
    for name in ("names", "kinds", "verdicts", "groups", "left_out", "values", "changes", "claims", "spreads"):
        np.testing.assert_equal(getattr(back, name), getattr(result, name))
    assert {verdict for row in back.verdicts for verdict in row} <= set(VERDICTS)
    text = shown(back)
    assert "none broken" in text
    assert "permutation of 9 units" in " ".join(text.split())
    assert "Left out of rescaling: 0.weight (tanh is not positively homogeneous)" in text
    assert json.loads(tables.to_json(back))["verdicts"] == [["invariant"], ["invariant"]]


def shown(result) -> str:
    out = StringIO()
    with redirect_stdout(out):
        tables.show(result)
    return out.getvalue()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "run"
    command("train", folder, "--model", "mlp", "--model-arg", "widths=8", "--epochs", 1)
    return folder


def command(*words):
    result = CliRunner().invoke(landscape, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_the_command(run_folder, tmp_path, monkeypatch, register):
    monkeypatch.chdir(tmp_path)
    register(norm, path_norm, largest_eigenvalue, liar, distance)
    quick = ("--trials", 1, "--restarts", 1, "--iterations", 2, "--dimension", 5, "--epsilon", 1e-3, "--examples", 200)
    command("sharpness", run_folder, *quick, "-o", "plain")
    assert isinstance(load("plain"), SharpnessResult)
    out = command(
        "sharpness", run_folder, *quick, "--measure", "keskar", "--measure", "norm", "--measure", "distance", "-o", "m"
    ).stdout
    several_ = load("m")
    assert isinstance(several_, MeasuresResult)
    assert several_.groups == ("keskar", "keskar", "norm", "distance")
    assert several_.invariant == ((), (), (), ())
    assert "‖w‖" in out
    assert "converged" in out
    words = ("sharpness", run_folder, "--audit", "--examples", 200, "--measure", "norm", "--measure", "average-case")
    out = command(*words, "--measure", "distance").stdout
    result = load(tmp_path / f"{next(tmp_path.glob('*-audit.safetensors')).name}")
    assert result.broken == (("‖w‖ as invariant", "relu-layer"), ("‖w‖ as invariant", "relu"))
    assert "2 BROKEN" in out
    assert verdicts(result)["distance"]["permutation"] == "invariant"
    assert json.loads(command(*words, "--json").stdout)["kind"] == "audit"
