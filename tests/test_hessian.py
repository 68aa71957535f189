"""Eigenvalues of real networks and of problems with a prescribed Hessian, against dense solvers and PyHessian."""

import copy
import dataclasses
import functools
import importlib.util
import itertools

import numpy as np
import pytest
import torch
from matrices import SPECTRA, wanted
from problems import network, prescribed
from torch import nn

from landscape import hessian, results
from landscape.crosscheck import pyhessian_eigenvalues
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import HessianSpec

NAMES = ("mlp", "cnn_with_batch_norm", "transformer")


@functools.cache
def dense(name):
    case = network(name)
    return case.hessian(case.weights).numpy()


@pytest.mark.parametrize(("count", "ends"), [(10, "largest"), (3, "smallest"), (4, "magnitude"), (3, "both")])
@pytest.mark.parametrize("name", NAMES)
def test_networks_in_float64(name, count, ends):
    H = dense(name)
    expected = wanted(np.linalg.eigvalsh(H), count, ends)
    result = hessian.measure(
        network(name).problem(), HessianSpec(count=count, ends=ends, tolerance=1e-9, vectors=True, sampling_error=False)
    )
    assert result.converged.all()
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-8)
    V = result.vectors
    assert (np.linalg.norm(V @ H - result.eigenvalues[:, None] * V, axis=1) <= result.residuals).all()
    np.testing.assert_allclose(V @ V.T, np.eye(len(V)), atol=1e-13)


@pytest.mark.parametrize(("count", "ends"), [(10, "largest"), (3, "smallest")])
@pytest.mark.parametrize("name", NAMES)
def test_networks_in_float32(name, count, ends):
    H = dense(name)
    expected = wanted(np.linalg.eigvalsh(H), count, ends)
    result = hessian.measure(
        network(name).problem(dtype=torch.float32),
        HessianSpec(count=count, ends=ends, vectors=True, sampling_error=False),
    )
    assert result.converged.all()
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-4)
    V = result.vectors.astype(np.float64)
    assert (np.linalg.norm(V @ H - result.eigenvalues[:, None] * V, axis=1) <= result.residuals).all()
    assert (np.abs(result.eigenvalues - expected) <= result.residuals).all()


@pytest.mark.parametrize("name", ["repeated", "clustered", "tiny", "low_rank", "opposite"])
def test_prescribed_hessians(name):
    problem, A = prescribed(SPECTRA[name])
    result = hessian.measure(problem, HessianSpec(count=4, ends="both", tolerance=1e-9))
    assert result.converged.all()
    np.testing.assert_allclose(result.eigenvalues, wanted(np.linalg.eigvalsh(A.numpy()), 4, "both"), atol=1e-8)


def test_at_given_weights():
    case = network("mlp")
    w = case.weights * 0.5
    result = hessian.measure(case.problem(), HessianSpec(count=2, tolerance=1e-8), weights=w)
    expected = np.linalg.eigvalsh(case.hessian(w).numpy())[::-1][:2]
    np.testing.assert_allclose(result.eigenvalues, expected, rtol=1e-8)
    assert result.conditions["loss"] == pytest.approx(case.mean_loss(w).item())


def test_the_seed_decides_the_start_and_nothing_else():
    problem = network("mlp").problem()
    first, again, other = (hessian.measure(problem, HessianSpec(count=1, tolerance=1e-2, seed=s)) for s in (0, 0, 1))
    assert first.eigenvalues[0] == again.eigenvalues[0]
    assert first.eigenvalues[0] != other.eigenvalues[0]
    assert first.eigenvalues[0] == pytest.approx(other.eigenvalues[0], rel=1e-3)


@pytest.mark.slow
def test_sampling_errors_predict_the_scatter_over_samples():
    """Rayleigh quotients at fixed vectors scatter over bootstrap samples as the standard errors say."""
    case = network("mlp", examples=240)
    problem = case.problem(batch_size=50)
    result = hessian.measure(problem, HessianSpec(count=3, vectors=True))
    V = torch.from_numpy(result.vectors)
    per_example = []
    for x, y in zip(case.inputs.split(1), case.targets.split(1), strict=True):
        matvec = Problem(case.model, case.loss, [(x, y)]).hessian(case.weights)
        per_example.append([float(v @ matvec(v)) for v in V])
    expected = np.std(per_example, axis=0, ddof=1) / 240**0.5
    np.testing.assert_allclose(np.mean(per_example, axis=0), result.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(result.sampling_errors, expected, rtol=0.5)


def test_standard_errors_of_equal_and_unequal_groups():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2000, 60))
    counts = torch.tensor([1.0, 2.0, 3.0, 4.0] * 6, dtype=torch.float64)
    edges = np.r_[0, np.cumsum(counts.numpy()).astype(int)]
    means = np.stack([draws[:, a:b].mean(1) for a, b in itertools.pairwise(edges)], 1)
    errors = hessian.standard_errors(counts, torch.from_numpy(means)).numpy()
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(60**-0.5, rel=0.05)
    equal = hessian.standard_errors(torch.full((60,), 1.0, dtype=torch.float64), torch.from_numpy(draws))
    np.testing.assert_allclose(equal.numpy(), draws.std(1, ddof=1) / 60**0.5)


def test_one_group_has_no_standard_error():
    assert (
        hessian.standard_errors(torch.ones(1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)).isnan().all()
    )


def test_progress_is_told_and_the_result_survives_its_file(tmp_path):
    told = []
    problem, _ = prescribed(SPECTRA["outliers"])
    result = hessian.measure(problem, HessianSpec(count=2, vectors=True), progress=lambda *a: told.append(a))
    assert told[-1] == (result.matvecs, None, "2 eigenvalues converged")
    results.save(result, tmp_path / "r.safetensors")
    loaded = results.load(tmp_path / "r.safetensors")
    for item in dataclasses.fields(result):
        if isinstance(value := getattr(result, item.name), np.ndarray):
            np.testing.assert_array_equal(getattr(loaded, item.name), value)
    assert (loaded.spec, loaded.matvecs) == (result.spec, result.matvecs)


def test_an_unconverged_result_says_so():
    problem, _ = prescribed(SPECTRA["outliers"])
    result = hessian.measure(problem, HessianSpec(count=3, max_matvecs=8, tolerance=1e-8))
    assert result.matvecs == 8
    assert not result.converged.any()
    assert result.conditions["complete"] is False


def test_memory_that_cannot_hold_the_basis_is_refused():
    problem, _ = prescribed(SPECTRA["outliers"])
    with pytest.raises(InputError, match="basis_gib"):
        hessian.measure(problem, HessianSpec(count=5, basis_gib=1e-6))


def test_weights_that_are_not_finite_are_refused():
    problem, _ = prescribed(SPECTRA["outliers"])
    with pytest.raises(InputError, match="loss at the weights"):
        hessian.measure(problem, HessianSpec(count=1), weights=problem.weights * float("nan"))


# -- PyHessian -------------------------------------------------------------------------------------

needs_pyhessian = pytest.mark.skipif(importlib.util.find_spec("pyhessian") is None, reason="pyhessian is not installed")


@needs_pyhessian
@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_pyhessian_agrees_on_ragged_batches(batch_norm):
    problem = network("cnn_with_batch_norm").problem(batch_size=16, batch_norm=batch_norm)
    state = torch.get_rng_state()
    check = pyhessian_eigenvalues(problem, 2, tolerance=1e-9)
    ours = hessian.measure(problem, HessianSpec(count=2, ends="magnitude", tolerance=1e-6, sampling_error=False))
    np.testing.assert_allclose(check.eigenvalues, ours.eigenvalues, rtol=1e-4)
    assert check.products > 4
    assert torch.equal(state, torch.get_rng_state())


class Partly(nn.Module):
    """A network with a frozen parameter, and with a layer that it does not use."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body, self.idle = body, nn.Linear(2, 2).double()
        body.qkv.bias.requires_grad_(False)

    def forward(self, x):
        return self.body(x)


@needs_pyhessian
def test_pyhessian_copes_with_attention_and_with_frozen_and_idle_parameters():
    case = network("transformer")
    model = Partly(copy.deepcopy(case.model))
    problem = Problem(model, case.loss, [(case.inputs, case.targets)])
    check = pyhessian_eigenvalues(problem, 1, tolerance=1e-8)
    ours = hessian.measure(problem, HessianSpec(count=1, ends="magnitude", tolerance=1e-6))
    assert check.eigenvalues[0] == pytest.approx(ours.eigenvalues[0], rel=1e-4)


@needs_pyhessian
def test_pyhessian_refuses_inputs_that_are_not_one_tensor():
    problem = Problem(
        nn.Bilinear(2, 2, 2),
        loss_by_name("cross_entropy"),
        [((torch.ones(3, 2), torch.ones(3, 2)), torch.zeros(3).long())],
    )
    with pytest.raises(InputError, match="one tensor"):
        pyhessian_eigenvalues(problem, 1)


def test_not_exhaustive_spares_the_second_chain_and_says_so():
    problem = network("mlp").problem()
    thorough = hessian.measure(problem, HessianSpec(count=3))
    quick = hessian.measure(problem, HessianSpec(count=3, exhaustive=False))
    np.testing.assert_allclose(quick.eigenvalues, thorough.eigenvalues, rtol=1e-6)
    assert quick.matvecs < thorough.matvecs
    assert quick.converged.all()
    assert thorough.conditions["complete"]
    assert not quick.conditions["complete"]
