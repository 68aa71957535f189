"""The study of φ: every setting is measured as it would be alone, and the trained networks are found again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.optimize import minimize
from torch import nn

from landscape import demo, seeds, sharpness, study_keskar
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.results import load, save
from landscape.study_keskar import DTYPES, SPEC, Settings, measure
from landscape_cli.main import landscape

TINY = Settings(iterations=(1, 4), restarts=(1, 2), laws=("gaussian", "unit"), dimensions=(2, 3))
SMALL = replace(SPEC, trials=2, dimension=3)


def network() -> dict[str, Problem]:
    """A small tanh network after no training, in both kinds of arithmetic."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
        inputs = torch.randn(12, 4, dtype=torch.float64)
    targets = torch.arange(12) % 2
    return {
        dtype: Problem(
            model.to(kind := getattr(torch, dtype)), loss_by_name("cross_entropy"), [(inputs.to(kind), targets)]
        )
        for dtype in reversed(DTYPES)
    }


@pytest.fixture(scope="module")
def studied():
    return measure({"a": network()}, SMALL, TINY)


def test_every_setting_has_its_row(studied):
    assert set(zip(studied.factors, studied.spaces, studied.searches, studied.laws, strict=True)) == {
        ("iterations", "full", "whole", ""), ("iterations", "full", "climb", ""), ("restarts", "full", "whole", ""),
        ("dtype", "full", "whole", ""), ("iterations", "subspace", "whole", "gaussian"),
        ("restarts", "subspace", "whole", "gaussian"), ("dtype", "subspace", "whole", "gaussian"),
        ("law", "subspace", "whole", "gaussian"), ("law", "subspace", "whole", "unit"),
        ("dimension", "subspace", "whole", "gaussian"), ("dimension", "subspace", "whole", "orthonormal"),
    }  # fmt: skip
    assert studied.values.shape == (3 + 2 + 2 + 2 + 3 + 2 + 2 + 2 + 4, 2)


def test_rows_are_what_the_measurement_gives_alone(studied):
    i = studied.settings.index("unit")
    alone = sharpness.measure(network()["float32"], replace(SMALL, spaces=("subspace",), law="unit"))
    np.testing.assert_array_equal(studied.values[i], alone.values[0, 0])
    assert studied.evaluations[i] == alone.evaluations
    np.testing.assert_allclose(studied.sharpness, studied.values.mean(1))


def test_the_single_climb_is_scipys_and_never_above_the_whole_search(studied):
    problem = network()["float64"]
    found = study_keskar._climb(problem, replace(SMALL, spaces=("full",), iterations=4))
    x, loss = problem.weights, problem.evaluate(problem.weights).loss
    radius = 1e-3 * (x.abs() + 1)
    for trial, ours in enumerate(found.values):
        start = 0.1 * seeds.uniform(seeds.stream(0, "sharpness", "full", "starts", trial), 1, x)[0] * radius

        def falling(z: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = problem.value_and_gradient(x + torch.tensor(z))
            return -value, -gradient.numpy()

        bounds = np.stack([-radius.numpy(), radius.numpy()], 1)
        best = minimize(
            falling, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 4, "ftol": 0, "gtol": 0},
        )  # fmt: skip
        assert ours == pytest.approx(100 * (-best.fun - loss) / (1 + loss), rel=1e-9)
    keys = list(zip(studied.factors, studied.spaces, studied.searches, studied.settings, strict=True))
    climb, whole = (studied.values[keys.index(("iterations", "full", kind, "4"))] for kind in ("climb", "whole"))
    assert (climb <= whole + 1e-5).all()


@pytest.mark.slow
def test_networks_are_trained_once_and_the_result_survives_its_file(tmp_path, monkeypatch):
    quick = {label: replace(demo.RECIPES[label], epochs=1) for label in study_keskar.LABELS}
    monkeypatch.setattr(demo, "RECIPES", quick)
    settings = Settings(iterations=(1,), restarts=(1,), laws=("unit",), dimensions=(2,), dimension_laws=("unit",))
    spec = replace(SMALL, trials=1, restarts=1, iterations=1)
    first = study_keskar.run(tmp_path, spec, settings)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    second = study_keskar.run(tmp_path, spec, settings)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    np.testing.assert_array_equal(first.values, second.values)
    assert set(first.labels) == set(first.provenance["networks"]) == set(quick)
    save(first, tmp_path / "study.safetensors")
    back = load(tmp_path / "study.safetensors")
    assert (back.settings, back.laws, back.spec) == (first.settings, first.laws, first.spec)
    np.testing.assert_array_equal(back.values, first.values)
    shown = CliRunner().invoke(landscape, ["inspect", str(tmp_path / "study.safetensors")])
    assert shown.exit_code == 0, shown.output
    assert "large batch" in shown.output
