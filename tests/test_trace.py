import dataclasses

import numpy as np
import pytest
import torch
from matrices import SPECTRA
from problems import network, prescribed

from landscape import trace
from landscape.errors import InputError
from landscape.spec import TraceSpec


@pytest.mark.parametrize("name", ["mlp", "cnn_with_batch_norm", "transformer"])
def test_the_trace_of_a_network_within_its_error(name):
    case = network(name)
    exact = case.hessian(case.weights).trace().item()
    result = trace.measure(case.problem(), TraceSpec(tolerance=0.05, seed=1))
    assert result.converged
    assert abs(result.trace - exact) < 4 * result.standard_error
    assert result.standard_error <= 0.05 * abs(result.trace)


def test_float32_agrees_with_float64_probe_by_probe():
    spec = TraceSpec(max_probes=12)
    single, double = (trace.measure(network("mlp").problem(dtype=d), spec) for d in (torch.float32, torch.float64))
    np.testing.assert_allclose(single.samples, double.samples, rtol=1e-4)


def test_the_standard_error_decides_when_to_stop():
    problem, _ = prescribed(SPECTRA["low_rank"])
    rough, fine = (trace.measure(problem, TraceSpec(tolerance=t, max_probes=4000)) for t in (0.3, 0.06))
    assert fine.matvecs > 10 * rough.matvecs
    np.testing.assert_array_equal(fine.samples[: len(rough.samples)], rough.samples)
    assert fine.samples[:-5].std(ddof=1) / (len(fine.samples) - 5) ** 0.5 > 0.06 * abs(fine.samples[:-5].mean())


def test_two_equal_means_do_not_end_it():
    """The first two probes of the identity agree exactly; there are still `min_probes` of them."""
    problem, _ = prescribed(SPECTRA["identity"])
    result = trace.measure(problem, TraceSpec(min_probes=7))
    assert result.matvecs == 7
    assert result.trace == pytest.approx(60)


def test_a_budget_that_ends_too_soon_is_said():
    problem, _ = prescribed(SPECTRA["opposite"])
    told = []
    result = trace.measure(problem, TraceSpec(tolerance=1e-4, max_probes=13), progress=lambda *a: told.append(a))
    assert not result.converged
    assert result.matvecs == len(result.samples) == 13
    assert told[-1][:2] == (13, 13)


def test_at_given_weights():
    case = network("mlp")
    w = case.weights * 0.5
    result = trace.measure(case.problem(), TraceSpec(tolerance=0.1), weights=w)
    assert abs(result.trace - case.hessian(w).trace().item()) < 4 * result.standard_error
    assert result.conditions["loss"] == pytest.approx(case.mean_loss(w).item())


def test_a_budget_below_the_minimum_is_refused():
    problem, _ = prescribed(SPECTRA["three"])
    with pytest.raises(InputError, match="max_probes"):
        trace.measure(problem, TraceSpec(min_probes=10, max_probes=5))


def test_the_record_keeps_its_spec():
    problem, _ = prescribed(SPECTRA["three"])
    spec = TraceSpec(seed=3)
    assert dataclasses.asdict(trace.measure(problem, spec).spec) == dataclasses.asdict(spec)
