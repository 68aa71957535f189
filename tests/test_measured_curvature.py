"""Relative flatness, eigenvalues and trace as measures, against dense Hessians."""

import math

import numpy as np
import pytest
import torch
from problems import network, prescribed
from subjects import measured, rescaled_before_norm, rescaled_layer, rescaled_units, trained
from torch import nn

from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.measures import relative_flatness
from landscape.problem import Problem


def by_blocks(H: np.ndarray, W: np.ndarray) -> float:
    """Σ_{s,s'} ⟨w_s, w_s'⟩ tr H_{s,s'}, block by block."""
    neurons, inputs = W.shape
    blocks = H.reshape(neurons, inputs, neurons, inputs)
    return sum(W[s] @ W[t] * np.trace(blocks[s, :, t]) for s in range(neurons) for t in range(neurons))


def of_layer(name: str, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """The layer's block of the dense Hessian, and its weights."""
    case, start = network(name), 0
    for key, parameter in case.model.named_parameters():
        if key == layer:
            part = slice(start, start + parameter.numel())
            return case.hessian(case.weights)[part, part].numpy(), parameter.detach().numpy()
        start += parameter.numel()
    raise AssertionError(layer)


@pytest.mark.parametrize(
    ("name", "layer", "last"),
    [("mlp", "4.weight", True), ("mlp", "0.weight", False), ("mlp", "2.weight", False),
     ("cnn_with_batch_norm", "8.weight", True), ("transformer", "head.weight", True),
     ("transformer", "qkv.weight", False)],
)  # fmt: skip
def test_relative_flatness_is_that_of_the_dense_hessian(name, layer, last):
    row = measured("relative-flatness", network(name).problem(), layer=None if last else layer.removesuffix(".weight"))[
        0
    ]
    assert row.name == f"relative flatness {layer}"
    assert row.value == pytest.approx(by_blocks(*of_layer(name, layer)), rel=1e-6)
    assert (row.error, row.certificate["exact"]) == (0.0, True)


def test_relative_flatness_of_a_linear_regression():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 3))
    model = nn.Linear(5, 3).double()
    problem = Problem(model, loss_by_name("mse"), [(torch.from_numpy(x), torch.from_numpy(y))])
    W = model.weight.detach().numpy()
    expected = (W**2).sum() * np.trace(2 / 3 * x.T @ x / 40)  # H = (2/3N)·I ⊗ XᵀX
    assert measured("relative-flatness", problem)[0].value == pytest.approx(expected, rel=1e-12)


def test_random_probes_estimate_relative_flatness_within_their_error(monkeypatch):
    monkeypatch.setattr(relative_flatness, "EXACT", 0)
    expected = by_blocks(*of_layer("mlp", "2.weight"))
    found = [
        measured("relative-flatness", network("mlp").problem(), layer="2.weight", measure_seed=s)[0] for s in range(4)
    ]
    for row in found:
        assert not row.certificate["exact"]
        assert row.certificate["converged"]
        assert row.error <= 0.02 * abs(row.value)
        assert abs(row.value - expected) <= 4 * row.error + 1e-9 * abs(expected)


def flatness(layer: str | None, change=None, name: str = "mlp", dtype: torch.dtype = torch.float64) -> float:
    return measured("relative-flatness", trained(name, dtype, change), layer=layer)[0].value


def test_relative_flatness_is_the_same_for_rescaled_layers_and_for_the_layers_own_rescaled_neurons():
    for layer in ("2.weight", "4.weight"):
        assert flatness(layer, rescaled_layer) == pytest.approx(flatness(layer), rel=1e-6)
    assert flatness("2.weight", rescaled_units) == pytest.approx(flatness("2.weight"), rel=1e-6)
    assert flatness("4.weight", rescaled_units) != pytest.approx(flatness("4.weight"), rel=1e-2)
    for layer in ("7.weight", "10.weight"):
        before = flatness(layer, name="foldable")
        assert flatness(layer, rescaled_before_norm, "foldable") == pytest.approx(before, rel=1e-6)
    assert measured("relative-flatness", trained("mlp"))[0].invariant == ("relu-layer", "batch-norm")


def test_relative_flatness_in_float32():
    assert flatness(None, dtype=torch.float32) == pytest.approx(flatness(None), rel=1e-4)


def test_layers_of_weights_zero_are_flat():
    def zero(model: nn.Module) -> None:
        model.get_parameter("4.weight").zero_()

    assert flatness("4.weight", zero) == 0.0


@pytest.mark.parametrize("layer", ["9.weight", "4.bias", "0"])
def test_relative_flatness_refuses_what_is_no_matrix(layer):
    with pytest.raises(InputError, match=rf"layer = '{layer}' is not legal: it must be a weight with two axes \(7"):
        measured("relative-flatness", trained("cnn"), layer=layer)


def test_relative_flatness_needs_a_linear_layer():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()).double()
    x = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="needs a trainable linear layer"):
        measured("relative-flatness", Problem(model, loss_by_name("cross_entropy"), [(x, torch.tensor([0, 1, 2, 0]))]))


# -- eigenvalues and trace ----------------------------------------------------------------------------


SPECTRUM = np.r_[np.linspace(0.0, 1.0, 40), 2.0, 3.0, 4.0, 5.0, 12.0]


def test_eigenvalues_and_their_ratio():
    problem, _ = prescribed(SPECTRUM)
    first, fifth, ratio = measured("eigenvalues", problem)
    assert [row.name for row in (first, fifth, ratio)] == ["λ₁", "λ₅", "λ₁/λ₅"]
    for row, value in [(first, 12.0), (fifth, 2.0), (ratio, 6.0)]:
        assert row.value == pytest.approx(value, rel=1e-6)
        assert row.invariant == ()
        assert row.certificate["converged"]
        assert row.certificate["complete"]
    assert ratio.error == pytest.approx(6 * (first.error / 12 + fifth.error / 2), rel=1e-6)
    assert len(measured("eigenvalues", prescribed(SPECTRUM[-3:])[0])) == 1


def test_trace_and_effective_rank():
    problem, _ = prescribed(SPECTRUM)
    trace, rank = measured("trace", problem)
    assert abs(trace.value - SPECTRUM.sum()) <= 4 * trace.error + 1e-9
    assert rank.value == pytest.approx(trace.value / 12, rel=1e-6)
    assert rank.error >= trace.error / 12 * (1 - 1e-9)
    assert trace.certificate["converged"]
    assert rank.certificate["products"] > trace.certificate["products"]


def test_curvature_moves_with_rescaled_layers():
    for name in ("eigenvalues", "trace"):
        before, after = measured(name, trained("mlp")), measured(name, trained("mlp", change=rescaled_layer))
        assert all(abs(b.value / a.value - 1) > 0.05 for a, b in zip(before, after, strict=True))
        assert all(row.invariant == () for row in before)


def test_curvature_of_a_network_in_both_precisions():
    values = np.linalg.eigvalsh(network("mlp").hessian(network("mlp").weights).numpy())[::-1]
    for dtype in (torch.float64, torch.float32):
        first, fifth, _ = measured("eigenvalues", network("mlp").problem(dtype=dtype))
        assert (first.value, fifth.value) == (pytest.approx(values[0], rel=1e-4), pytest.approx(values[4], rel=1e-4))
        trace, rank = measured("trace", network("mlp").problem(dtype=dtype))
        assert abs(trace.value - values.sum()) <= 4 * trace.error + 1e-5
        assert abs(rank.value - values.sum() / values[0]) <= 4 * rank.error + 1e-4
        assert math.isfinite(rank.error)
