import dataclasses
import warnings

import numpy as np
import pytest
import torch
from matrices import SPECTRA
from problems import network, prescribed
from scipy.stats import wasserstein_distance
from torch import nn
from torch.func import functional_call, hessian

from landscape import density, seeds
from landscape.data.digits import read
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.results import DensityResult, load, save
from landscape.spec import DensitySpec


def distance(result: DensityResult, exact: np.ndarray) -> float:
    """Wasserstein-1 distance of the estimated from the exact spectrum, in units of max|λ|."""
    known, n = len(result.eigenvalues), result.size
    weights = np.r_[np.full(known, 1 / n), result.weights.mean(0) * (n - known) / n]
    points = np.r_[result.eigenvalues, result.nodes]
    return wasserstein_distance(points, exact, weights) / np.abs(exact).max()


@pytest.fixture(scope="module")
def digits_mlp() -> tuple[Problem, np.ndarray]:
    """A 64-12-10 perceptron after some training on the digits, in float64, and its spectrum by `torch.func`."""
    train = read()[0]
    inputs, targets = train.images[:500].reshape(500, 64).double() / 16, train.labels[:500]
    with seeds.global_stream(0, "digits mlp"):
        model = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)).double()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    problem = Problem(
        model, loss_by_name("cross_entropy"), [(inputs[:300], targets[:300]), (inputs[300:], targets[300:])]
    )

    def mean_loss(w: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(functional_call(model, problem.named(w), (inputs,)), targets)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.func's own use of torch.jit
        H = hessian(mean_loss)(problem.weights)
    return problem, torch.linalg.eigvalsh((H + H.T) / 2).numpy()


def test_the_spectrum_of_a_digits_network(digits_mlp):
    problem, exact = digits_mlp
    result = density.measure(problem, DensitySpec(steps=40, probes=2, seed=1))
    assert result.matvecs == 80
    assert result.size == len(exact) == 910
    # moments are traces of powers: tr H and ‖H‖²_F by the dense matrix
    for j in range(4):
        truth = (exact ** (j + 1)).mean()
        assert abs(result.moments[j] - truth) <= 4 * result.moment_errors[j] + 1e-9 * np.abs(exact).max() ** (j + 1)
    assert result.moment_errors[1] < 0.02 * result.moments[1]
    # the resolved eigenvalues are eigenvalues, each once
    nearest = np.abs(result.eigenvalues[:, None] - exact).argmin(1)
    assert len(set(nearest)) == len(nearest) >= 20
    assert (np.abs(result.eigenvalues - exact[nearest]) <= result.residuals).all()
    # the density integrates to one and is that of the exact spectrum within its band
    grid = np.linspace(exact[0] - 10 * result.width, exact[-1] + 10 * result.width, 6000)
    height, error = result.density(grid)
    assert np.trapezoid(height, grid) == pytest.approx(1, abs=1e-3)
    kernel = np.exp(-0.5 * ((grid[:, None] - exact) / result.width) ** 2) / result.width / (2 * np.pi) ** 0.5
    truth = kernel.mean(1)
    assert np.trapezoid(np.abs(height - truth), grid) < 0.05
    assert (np.abs(height - truth) > 4 * error + 0.01 * truth.max()).mean() < 0.02
    for level in (0.3, 0.1, 0.03, 0.01):
        count, error = result.count_above(level * exact[-1])
        assert abs(count - (exact > level * exact[-1]).sum()) <= 4 * error + 1e-6
    share, error = result.negative_mass()
    assert abs(share - (exact < 0).mean()) < 4 * error


def test_resolved_eigenvalues_make_the_spectrum_at_least_twice_as_accurate(digits_mlp):
    """Against plain quadrature of the same number of products, which is what other packages have."""
    problem, exact = digits_mlp

    def mean_distance(**how) -> float:
        return np.mean([distance(density.measure(problem, DensitySpec(seed=i, **how)), exact) for i in range(3)])

    plain, ours = mean_distance(steps=30, probes=2, deflate=False), mean_distance(steps=60, probes=1)
    assert ours < 0.5 * plain
    assert mean_distance(steps=30, probes=1, outliers=6) < plain


@pytest.mark.parametrize("name", SPECTRA)
def test_named_spectra(name):
    """As many products as dimensions: the distance is that of the probes' noise, and none where all is resolved.

    Two probes know the share F of eigenvalues below x to within √(F(1−F)/62) ≤ 0.064, over a range of at most
    2·max|λ|: a distance of 0.13·max|λ| is one standard deviation everywhere, and 0.25 two.
    """
    spectrum = SPECTRA[name]
    problem, _ = prescribed(spectrum)
    result = density.measure(problem, DensitySpec(steps=30, probes=2))
    assert distance(result, spectrum) < 0.25 if spectrum.any() else not result.moments.any()
    scale = np.abs(spectrum).max() or 1.0
    for j in (0, 1):
        error = 5 * result.moment_errors[j] + 0.02 * scale ** (j + 1)
        assert abs(result.moments[j] - (spectrum ** (j + 1)).mean()) <= error
    assert result.width > 0
    total = result.weights.sum(1)
    np.testing.assert_allclose(total, np.ones(2) if len(result.nodes) else np.zeros(2), atol=1e-12)
    assert len(result.eigenvalues) < len(spectrum) or not len(result.nodes)


@pytest.mark.parametrize("name", ["outliers", "clustered", "all_negative", "opposite"])
def test_a_space_of_all_dimensions_is_exact(name):
    spectrum = SPECTRA[name]
    problem, _ = prescribed(spectrum)
    result = density.measure(problem, DensitySpec(steps=60, probes=1))
    assert distance(result, spectrum) < 1e-9
    assert result.count_above(-0.1)[0] == pytest.approx((spectrum > -0.1).sum())
    np.testing.assert_allclose(result.moments[:2], [spectrum.mean(), (spectrum**2).mean()], rtol=1e-9)
    assert not result.moment_errors.any()


def test_outliers_are_searched_for_and_counted():
    """Three equal eigenvalues: one probe sees one of them, the search sees all."""
    spectrum = np.r_[3.0, 3.0, 3.0, -2.0, SPECTRA["outliers"][5:]]
    problem, _ = prescribed(spectrum)
    told = []
    spec = DensitySpec(steps=10, probes=1, outliers=4, deflate=False)
    result = density.measure(problem, spec, progress=lambda *a: told.append(a))
    np.testing.assert_allclose(result.eigenvalues, [3, 3, 3, -2], atol=1e-3)
    assert result.complete
    assert result.matvecs > 14
    assert told[-1][0] == result.matvecs
    assert result.nodes.max() < 0.5
    assert result.count_above(1.0) == (3, 0)


def test_probes_do_not_depend_on_how_many_there_are_and_seeds_matter():
    problem, _ = prescribed(SPECTRA["outliers"])
    one, two = (density.measure(problem, DensitySpec(steps=4, probes=p, deflate=False)) for p in (1, 2))
    np.testing.assert_allclose(one.weights[0] @ one.nodes**3, two.weights[0] @ two.nodes**3)
    other = density.measure(problem, DensitySpec(steps=4, probes=1, deflate=False, seed=1))
    assert abs(other.moments[0] - one.moments[0]) > 1e-3


def test_float32_agrees_with_float64():
    spec = DensitySpec(steps=20)
    single, double = (density.measure(network("mlp").problem(dtype=d), spec) for d in (torch.float32, torch.float64))
    assert (np.abs(single.moments - double.moments) <= 5 * np.hypot(single.moment_errors, double.moment_errors)).all()
    np.testing.assert_allclose(single.eigenvalues[:3], double.eigenvalues[:3], rtol=1e-5)
    assert single.conditions["dtype"] == "float32"


def test_at_given_weights():
    case = network("mlp")
    w = case.weights * 0.5
    exact = torch.linalg.eigvalsh(case.hessian(w)).numpy()
    result = density.measure(case.problem(), DensitySpec(steps=100), weights=w)
    assert distance(result, exact) < 0.01
    assert result.conditions["loss"] == pytest.approx(case.mean_loss(w).item())


def test_the_width_is_relative_and_may_be_set():
    problem, _ = prescribed(SPECTRA["outliers"])
    result = density.measure(problem, DensitySpec(steps=30))
    assert result.width == pytest.approx(0.005 * 10.5)
    coarse = density.measure(problem, DensitySpec(steps=5, probes=1, deflate=False))
    assert coarse.width == pytest.approx((coarse.nodes[-1] - coarse.nodes[0]) / 4)
    assert density.measure(problem, DensitySpec(steps=3, width=0.7)).width == 0.7
    scaled, _ = prescribed(1e-6 * SPECTRA["outliers"])
    assert density.measure(scaled, DensitySpec(steps=30)).width == pytest.approx(1e-6 * 0.005 * 10.5)


def test_what_is_saved_is_loaded(tmp_path):
    problem, _ = prescribed(SPECTRA["outliers"])
    result = density.measure(problem, DensitySpec(steps=5))
    save(result, tmp_path / "d")
    back = load(tmp_path / "d")
    assert isinstance(back, DensityResult)
    for item in dataclasses.fields(result):
        if item.name not in ("provenance", "conditions"):
            np.testing.assert_equal(getattr(back, item.name), getattr(result, item.name))
    assert back.negative_mass() == result.negative_mass()


def test_bad_input_is_one_line():
    problem, _ = prescribed(SPECTRA["outliers"])
    with pytest.raises(InputError, match=r"basis_gib = 1e-09 is less than .* Raise it"):
        density.measure(problem, DensitySpec(basis_gib=1e-9))
    with pytest.raises(InputError, match="the loss at the weights is nan"):
        density.measure(problem, DensitySpec(), weights=problem.weights * float("nan"))
    with pytest.raises(InputError, match="steps = 1"):
        DensitySpec(steps=1)
