import dataclasses

import numpy as np
import pytest
import torch
from matrices import SPECTRA
from problems import network, prescribed

from landscape import trace
from landscape.blocks import exact_block
from landscape.errors import InputError
from landscape.products.product import Product
from landscape.spec import TraceSpec

METHODS = ("deflated", "hutchinson", "hutch++", "xtrace")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mlp", "cnn_with_batch_norm", pytest.param("transformer", marks=pytest.mark.slow)])
def test_the_trace_of_a_network_within_its_error(name, method):
    case = network(name)
    exact = case.hessian(case.weights).trace().item()
    result = trace.measure(case.problem(), TraceSpec(method=method, tolerance=0.08, max_matvecs=200, seed=1))
    assert result.converged
    assert result.method == method
    assert abs(result.trace - exact) < 4 * result.standard_error + 1e-9 * abs(exact)
    assert result.standard_error <= 0.08 * abs(result.trace)
    assert result.samples.mean() == pytest.approx(result.trace)
    assert result.interval[0] <= result.trace <= result.interval[1]
    assert tuple(result.history[-1]) == (result.matvecs, result.trace, result.standard_error)


class Multiplication(Product):
    """The product with a matrix, in the place of a recorded one."""

    def __init__(self, A):
        self.A = A

    def __call__(self, v):
        return self.A @ v

    def rows(self, vectors):
        return vectors @ self.A


@pytest.mark.parametrize("name", ["outliers", "opposite", "integers", "all_negative"])
def test_the_interval_holds_the_trace_as_often_as_it_says_in_spite_of_the_stop(name, monkeypatch):
    """100 seeds; the stop is on the error itself, which makes it a little too small when it is met."""
    problem, A = prescribed(SPECTRA[name], batch_size=60)
    monkeypatch.setattr(type(problem), "hessian", lambda self, w, many: Multiplication(A))  # the same, and faster
    found = [trace.measure(problem, TraceSpec(tolerance=0.1, max_matvecs=40, seed=seed)) for seed in range(100)]
    truth = A.trace().item()
    inside = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found])
    assert inside > 0.88
    errors = np.array([one.trace - truth for one in found])
    assert abs(errors.mean()) < 4 * errors.std() / 10


def test_deflation_needs_fewer_products():
    problem, _ = prescribed(np.r_[60.0, 50.0, 40.0, np.linspace(0.05, 0.1, 57)])
    plain, deflated = (trace.measure(problem, TraceSpec(method=m, tolerance=0.02)) for m in ("hutchinson", "deflated"))
    assert deflated.converged
    assert deflated.matvecs < 40
    assert plain.matvecs > 3 * deflated.matvecs
    assert deflated.deflated >= 3
    assert deflated.deflated_trace > 150


@pytest.mark.parametrize("method", ["deflated", "hutchinson"])
def test_layers_add_up_and_are_within_their_errors(method):
    case = network("mlp")
    H = case.hessian(case.weights)
    result = trace.measure(case.problem(), TraceSpec(method=method, tolerance=0.02, by_layer=True, diagonal=True))
    sizes = [p.numel() for p in case.model.parameters()]
    exact = np.array([part.sum().item() for part in H.diagonal().split(sizes)])
    assert result.layers == tuple(name for name, _ in case.model.named_parameters())
    assert result.layer_traces.sum() == pytest.approx(result.trace)
    assert (abs(result.layer_traces - exact) < 4.5 * result.layer_errors + 1e-12).all()
    pieces = np.split(result.diagonal, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose([piece.sum() for piece in pieces], result.layer_traces, rtol=1e-9, atol=1e-12)
    scores = (result.diagonal - H.diagonal().numpy()) / np.maximum(result.diagonal_errors, 1e-12)
    assert np.sqrt(np.square(scores).mean()) < 1.4


def test_layers_hold_over_sets_of_probes_when_memory_is_short():
    """Memory for 24 vectors of 193 weights: several sets of control variates, one estimate."""
    case = network("mlp")
    n = len(case.weights)
    memory = 24.5 * n * 9 / 2**30
    spec = TraceSpec(tolerance=1e-6, max_matvecs=90, by_layer=True, diagonal=True, memory_gib=memory)
    result = trace.measure(case.problem(), spec)
    assert result.method == "deflated"
    assert result.matvecs == 90
    assert len(result.samples) == 90 - result.deflated > 24
    assert result.layer_traces.sum() == pytest.approx(result.trace)
    assert result.diagonal.sum() == pytest.approx(result.trace)
    exact = case.hessian(case.weights).trace().item()
    assert abs(result.trace - exact) < 4.5 * result.standard_error
    plain = trace.measure(case.problem(), dataclasses.replace(spec, memory_gib=memory / 2))
    assert plain.method == "hutchinson"


@pytest.mark.parametrize("name", ["mlp", pytest.param("transformer", marks=pytest.mark.slow)])
def test_exact_blocks_are_those_of_the_dense_hessian(name):
    case = network(name)
    H, start = case.hessian(case.weights), 0
    for key, parameter in case.model.named_parameters():
        part = slice(start, start + parameter.numel())
        start = part.stop
        np.testing.assert_allclose(exact_block(case.problem(), key), H[part, part], rtol=1e-7, atol=1e-11)


def test_exact_layers_in_the_result():
    case = network("mlp")
    names = [name for name, _ in case.model.named_parameters()]
    H = case.hessian(case.weights).diagonal().numpy()
    spec = TraceSpec(by_layer=True, diagonal=True, exact=(names[-1], names[-1]), tolerance=0.1)
    result, without = (trace.measure(case.problem(), s) for s in (spec, dataclasses.replace(spec, exact=())))
    assert result.matvecs == without.matvecs + 3
    assert result.layer_traces[-1] == pytest.approx(H[-3:].sum())
    assert result.layer_errors[-1] == 0
    np.testing.assert_allclose(result.diagonal[-3:], H[-3:], rtol=1e-7)
    alone = trace.measure(case.problem(), TraceSpec(exact=(names[-1],), tolerance=0.1))
    assert alone.layers == (names[-1],)
    assert alone.layer_traces == pytest.approx([H[-3:].sum()])


def test_float32_agrees_with_float64_probe_by_probe():
    spec = TraceSpec(method="hutchinson", max_matvecs=12)
    single, double = (trace.measure(network("mlp").problem(dtype=d), spec) for d in (torch.float32, torch.float64))
    np.testing.assert_allclose(single.samples, double.samples, rtol=1e-4)


def test_the_standard_error_decides_when_to_stop():
    problem, _ = prescribed(SPECTRA["low_rank"])
    rough, fine = (
        trace.measure(problem, TraceSpec(method="hutchinson", tolerance=t, max_matvecs=4000)) for t in (0.3, 0.06)
    )
    assert fine.matvecs > 10 * rough.matvecs
    np.testing.assert_array_equal(fine.samples[: len(rough.samples)], rough.samples)
    assert (fine.history[:-1, 2] > 0.06 * abs(fine.history[:-1, 1])).all()
    assert (np.diff(fine.history[:, 0]) >= np.minimum(fine.history[:-1, 0] // 8, 1)).all()


@pytest.mark.parametrize("method", ["deflated", "hutchinson"])
def test_two_equal_means_do_not_end_it(method):
    """The first two probes of the identity agree exactly; there are still `min_probes` of them."""
    problem, _ = prescribed(SPECTRA["identity"])
    result = trace.measure(problem, TraceSpec(method=method, min_probes=7, tolerance=0.5))
    assert len(result.samples) == 7
    assert result.trace == pytest.approx(60, rel=0.1)


def test_a_budget_that_ends_too_soon_is_said():
    problem, _ = prescribed(SPECTRA["opposite"])
    told = []
    result = trace.measure(problem, TraceSpec(tolerance=1e-4, max_matvecs=23), progress=lambda *a: told.append(a))
    assert not result.converged
    assert result.matvecs == result.deflated + len(result.samples) == 23
    assert told[-1][:2] == (23, 23)


def test_at_given_weights():
    case = network("mlp")
    w = case.weights * 0.5
    result = trace.measure(case.problem(), TraceSpec(tolerance=0.1), weights=w)
    assert abs(result.trace - case.hessian(w).trace().item()) < 4 * result.standard_error
    assert result.conditions["loss"] == pytest.approx(case.mean_loss(w).item())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TraceSpec(min_probes=10, max_matvecs=5), "max_matvecs = 5"),
        (TraceSpec(method="xtrace", by_layer=True), "deflated or hutchinson"),
        (TraceSpec(method="hutch++", min_probes=2, max_matvecs=4), "at least 6"),
        (TraceSpec(exact=("nobody",)), "one of the model's parameters"),
        (TraceSpec(exact=("weight",), exact_limit=2), "Raise exact_limit"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_begun(spec, message):
    problem, _ = prescribed(SPECTRA["three"])
    with pytest.raises(InputError, match=message):
        trace.measure(problem, spec)


@pytest.mark.parametrize("method", METHODS)
def test_a_hessian_that_is_not_finite_is_refused(method):
    case = network("mlp")
    with pytest.raises(InputError, match="not finite"):
        trace.measure(case.problem(), TraceSpec(method=method, max_matvecs=30), weights=case.weights * float("nan"))


def test_the_record_keeps_its_spec():
    problem, _ = prescribed(SPECTRA["three"])
    spec = TraceSpec(seed=3)
    assert dataclasses.asdict(trace.measure(problem, spec).spec) == dataclasses.asdict(spec)
