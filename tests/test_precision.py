"""float32 stays float32, whatever the user's program has told torch about TF32 and bfloat16."""

import numpy as np
import pytest
import torch
from torch import nn

from landscape import hessian, sharpness
from landscape.losses import loss_by_name
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.spec import HessianSpec, SharpnessSpec

B = torch.backends
PLACES = (B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn, B.mkldnn.matmul, B.mkldnn.conv, B.mkldnn.rnn)


def everything():
    """All settings, old and new; None where torch refuses to read an old one."""

    def read(setting):
        try:
            return setting()
        except RuntimeError:
            return None

    old = (lambda: B.cudnn.allow_tf32, lambda: B.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision)
    return [place.fp32_precision for place in PLACES], [read(setting) for setting in old]


SETTINGS = {
    "nothing": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "no TF32 in cuDNN": lambda: setattr(B.cudnn, "allow_tf32", False),
    "TF32 in products": lambda: setattr(B.cuda.matmul, "allow_tf32", True),
    "new switch": lambda: setattr(B.mkldnn.matmul, "fp32_precision", "bf16"),
    "new switches that contradict old ones": lambda: setattr(B.cudnn.conv, "fp32_precision", "ieee"),
    "all at once": lambda: setattr(B, "fp32_precision", "tf32"),
}


@pytest.fixture
def setting(request):
    """One of the settings, undone afterwards."""
    new, _ = everything()
    SETTINGS[request.param]()
    yield request.param
    B.fp32_precision = "none"
    B.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")
    for place, precision in zip(PLACES, new, strict=True):
        place.fp32_precision = precision


@pytest.mark.parametrize("setting", SETTINGS, indirect=True)
def test_inside_all_is_full_and_afterwards_as_it_was(setting):
    before = everything()
    with full_precision():
        assert {place.fp32_precision for place in PLACES} == {"ieee"}
        with full_precision():
            pass
        assert {place.fp32_precision for place in PLACES} == {"ieee"}
    assert everything() == before
    with pytest.raises(ZeroDivisionError), full_precision():
        _ = 1 / 0
    assert everything() == before


@pytest.mark.parametrize("setting", ["nothing", "medium", "new switch"], indirect=True)
@pytest.mark.parametrize("engine", ["folded", "retained", "recompute"])
def test_products_and_gradients_have_the_accuracy_of_float32(setting, engine):
    """Where the processor multiplies in bfloat16, these settings alone would make errors of 2e-3."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
    data = [(torch.randn(256, 64), torch.randint(10, (256,)))]
    problem = Problem(model, loss_by_name("cross_entropy"), data, engine=engine)
    w, exact = problem.weights, problem.double()
    v = torch.randn_like(w)
    matvec, reference = problem.hessian(w), exact.hessian(w.double())(v.double())
    for _ in range(3):
        assert torch.linalg.vector_norm(matvec(v) - reference) < 2e-5 * torch.linalg.vector_norm(reference)
    gradient = exact.gradient(w.double())
    assert torch.linalg.vector_norm(problem.gradient(w) - gradient) < 2e-5 * torch.linalg.vector_norm(gradient)


@pytest.mark.parametrize("setting", ["medium"], indirect=True)
def test_eigenvalues_are_certified_whatever_the_setting(setting):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    problem = Problem(model, loss_by_name("cross_entropy"), [(torch.randn(256, 64), torch.randint(10, (256,)))])
    spec = HessianSpec(count=3, tolerance=1e-4)
    result, exact = hessian.measure(problem, spec), hessian.measure(problem.double(), spec)
    assert result.converged.all()
    np.testing.assert_allclose(result.eigenvalues, exact.eigenvalues, rtol=1e-5)


def test_sharpness_is_the_same_whatever_the_setting():
    """In the subspace too, where points come from a matrix product."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    problem = Problem(model, loss_by_name("cross_entropy"), [(torch.randn(256, 64), torch.randint(10, (256,)))])
    spec = SharpnessSpec(trials=1, iterations=3)
    expected = sharpness.measure(problem, spec)
    torch.set_float32_matmul_precision("medium")
    try:
        found = sharpness.measure(problem, spec)
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(found.sharpness, expected.sharpness)
