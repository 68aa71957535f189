"""Problem against `torch.func` on the whole data at once, and its promises to the caller."""

import contextlib
import copy

import pytest
import torch
from problems import NETWORKS, Recurrent, network, prescribed
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from landscape import seeds
from landscape.errors import InputError
from landscape.kernels import twice_differentiable
from landscape.losses import loss_by_name
from landscape.problem import Problem

CROSS_ENTROPY = loss_by_name("cross_entropy")


def draws(*shape, name="x"):
    return seeds.gaussian(seeds.stream(0, name), 1, torch.empty(torch.Size(shape).numel(), dtype=torch.float64)).view(
        shape
    )


def dense_hessian(problem):
    """H by one product per unit vector."""
    matvec = problem.hessian(problem.weights)
    return torch.stack([matvec(e) for e in torch.eye(len(problem.weights), dtype=problem.weights.dtype)])


# -- values and derivatives ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [40, 16, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_value_gradient_and_hessian_on_ragged_batches(name, batch_size):
    case = network(name)
    problem, w = case.problem(batch_size), case.weights * 1.1
    assert problem.size == 40
    assert problem.value(w) == pytest.approx(case.mean_loss(w).item(), rel=1e-12)
    value, gradient = problem.value_and_gradient(w)
    assert value == pytest.approx(problem.value(w), rel=1e-12)
    torch.testing.assert_close(gradient, case.gradient(w), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(problem.gradient(w), gradient)
    v = draws(len(w), name="v")
    torch.testing.assert_close(problem.hessian(w)(v), case.hessian(w) @ v, rtol=1e-9, atol=1e-10)


def test_the_hessian_of_softmax_regression_in_closed_form():
    X, y = draws(30, 4), torch.arange(30) % 3
    model = nn.Linear(4, 3, bias=False).double()
    problem = Problem(model, CROSS_ENTROPY, list(zip(X.split(7), y.split(7), strict=True)))
    p = (X @ model.weight.detach().T).softmax(1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nab,ni,nj->aibj", curvature, X, X).reshape(12, 12) / 30
    torch.testing.assert_close(dense_hessian(problem), expected)


def test_a_prescribed_hessian():
    problem, A = prescribed(torch.linspace(-1, 2, 20).double().numpy())
    torch.testing.assert_close(dense_hessian(problem), A)
    w = problem.weights
    assert problem.value(w) == pytest.approx((0.5 * w @ A @ w).item())
    torch.testing.assert_close(problem.gradient(w), A @ w)


def test_a_loss_linear_in_the_weights_has_no_curvature():
    problem = Problem(nn.Linear(3, 1), lambda out, _: out.sum(), [(torch.ones(4, 3), torch.zeros(4))])
    assert torch.equal(problem.hessian(problem.weights)(torch.ones(4)), torch.zeros(4))


def test_accuracy_and_ignored_targets():
    logits, targets = torch.eye(4) * 5, torch.tensor([0, 1, 3, -100])
    model = nn.Linear(4, 4, bias=False)
    model.weight.data = torch.eye(4)
    problem = Problem(model, CROSS_ENTROPY, [(logits[:2], targets[:2]), (logits[2:], targets[2:])])
    assert problem.size == 3
    loss, accuracy = problem.evaluate(problem.weights)
    assert loss == pytest.approx(F.cross_entropy(logits, targets).item())
    assert accuracy == pytest.approx(2 / 3)


def test_float32_data_serve_a_float64_model():
    case = network("mlp")
    single = [(case.inputs.float(), case.targets)]
    expected = Problem(case.model, case.loss, [(case.inputs.float().double(), case.targets)])
    problem = Problem(case.model, case.loss, single)
    assert problem.value(problem.weights) == expected.value(expected.weights)


def test_double_is_the_same_problem_in_float64():
    case = network("cnn_with_batch_norm")
    single = case.problem(dtype=torch.float32)
    double, w = single.double(), single.weights.double()
    assert double.weights.dtype == torch.float64
    assert single.weights.dtype == torch.float32
    assert double.value(w) == pytest.approx(single.value(single.weights), rel=1e-5)
    torch.testing.assert_close(double.hessian(w)(w), case.hessian(w) @ w, rtol=1e-4, atol=1e-4)


# -- shapes of models and of inputs ----------------------------------------------------------------


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, left, right):
        return self.a(left) * self.b(right)


def test_inputs_as_tensor_tuple_and_dictionary():
    model, y = Two().double(), torch.arange(6) % 2
    left, right = draws(6, 3), draws(6, 4, name="right")
    positional = Problem(model, CROSS_ENTROPY, [((left[:4], right[:4]), y[:4]), ((left[4:], right[4:]), y[4:])])
    keyword = Problem(model, CROSS_ENTROPY, [({"right": right, "left": left}, y)])
    with torch.no_grad():
        expected = F.cross_entropy(model(left, right), y).item()
    assert positional.value(positional.weights) == pytest.approx(expected)
    torch.testing.assert_close(dense_hessian(positional), dense_hessian(keyword))
    counts, quotients = keyword.rayleigh_by_group(keyword.weights, torch.ones(1, len(keyword.weights)).double(), 3)
    assert counts.tolist() == [2, 2, 2]
    v = torch.ones(len(keyword.weights)).double()
    assert (quotients @ counts / 6).item() == pytest.approx((v @ keyword.hessian(keyword.weights)(v)).item())


def test_frozen_parameters_stay_fixed_and_tied_ones_count_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 2)).double()
    model[2].weight = model[0].weight
    model[3].requires_grad_(False)
    x, y = draws(8, 3), torch.arange(8) % 2
    problem = Problem(model, CROSS_ENTROPY, [(x, y)])
    assert list(problem.named(problem.weights)) == ["0.weight", "2.bias"]

    def mean_loss(w):
        shared, bias = w[:9].view(3, 3), w[9:]
        return F.cross_entropy(model[3](F.linear(torch.tanh(x @ shared.T), shared, bias)), y)

    expected = torch.autograd.functional.hessian(mean_loss, problem.weights)
    torch.testing.assert_close(dense_hessian(problem), expected)


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.used(x)


def test_an_idle_parameter_has_zero_derivatives():
    problem = Problem(Idle().double(), CROSS_ENTROPY, [(draws(4, 2), torch.arange(4) % 2)])
    assert problem.gradient(problem.weights)[:6].abs().max() > 0
    assert problem.gradient(problem.weights)[6:].abs().max() == 0
    assert dense_hessian(problem)[6:].abs().max() == 0


# -- promises to the caller ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_nothing_of_the_callers_is_touched(batch_norm):
    model = copy.deepcopy(network("cnn_with_batch_norm").model).train()
    model[0].eval()
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    modes = [m.training for m in model.modules()]
    state = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    case = network("cnn_with_batch_norm")
    problem = Problem(model, case.loss, [(case.inputs, case.targets)], batch_norm=batch_norm)
    w = problem.weights.clone()
    problem.evaluate(w * 2)
    problem.hessian(w)(problem.gradient(w))
    problem.rayleigh_by_group(w, w[None])
    problem.recomputed_buffers(w)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all((p.grad == 3).all() and p.requires_grad for p in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())
    assert torch.equal(w, problem.weights)
    assert problem.value(w) == problem.value(w)


def test_kernels_are_as_they_were_after_an_error():
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
    inside = None
    with contextlib.suppress(KeyError), twice_differentiable(Recurrent()):
        inside = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
        raise KeyError
    assert inside == (False, False)
    assert before == (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())


def test_the_fused_encoder_layer_is_differentiated_twice():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double()
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 2).double())
    x, y = draws(6, 2, 4), torch.arange(6) % 2
    problem = Problem(model, CROSS_ENTROPY, [(x, y)])
    w, v = problem.weights, draws(len(problem.weights), name="direction")
    difference = (problem.gradient(w + 1e-5 * v) - problem.gradient(w - 1e-5 * v)) / 2e-5
    torch.testing.assert_close(problem.hessian(w)(v), difference, rtol=1e-6, atol=1e-7)


# -- data and models that cannot be measured -------------------------------------------------------


def data(rows=24):
    return TensorDataset(draws(rows, 6), torch.arange(rows) % 3)


def test_a_loader_in_a_fixed_order_is_accepted():
    case = network("mlp")
    loader = DataLoader(data(), batch_size=7)
    assert Problem(case.model, case.loss, loader).size == 24


class Noisy(TensorDataset):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + torch.randn_like(x), y


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda: DataLoader(data(), batch_size=7, shuffle=True), "different data at two passes"),
        (lambda: DataLoader(data(), batch_size=24, shuffle=True), "different data at two passes"),
        (lambda: DataLoader(Noisy(*data().tensors), batch_size=7), "different data at two passes"),
        (lambda: iter([data().tensors]), "not a generator"),
        (lambda: (pair for pair in [data().tensors]), "not a generator"),
        (list, "no examples"),
        (lambda: DataLoader(TensorDataset(data().tensors[0])), "not a pair"),
    ],
    ids=["shuffled", "shuffled_within_one_batch", "augmented", "iterator", "generator", "empty", "no_targets"],
)
def test_data_that_change_or_are_none_are_refused(batches, message):
    with seeds.global_stream(0, "shuffle"), pytest.raises(InputError, match=message):
        Problem(network("mlp").model, CROSS_ENTROPY, batches())


class AlwaysDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3).double()

    def forward(self, x):
        return F.dropout(self.layer(x), 0.5)


def test_dropout_is_switched_off_or_refused():
    x, y = data().tensors
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)).double().train()
    problem = Problem(model, CROSS_ENTROPY, [(x, y)])
    with torch.no_grad():
        assert problem.value(problem.weights) == pytest.approx(F.cross_entropy(model[0](x), y).item())
    with seeds.global_stream(0, "dropout"), pytest.raises(InputError, match="random stays on"):
        Problem(AlwaysDropout(), CROSS_ENTROPY, [(x, y)])


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss()])
def test_a_loss_that_averages_is_refused(loss):
    with pytest.raises(InputError, match="it must sum"):
        Problem(network("mlp").model, loss, [data().tensors])


def test_a_loss_per_example_is_refused():
    with pytest.raises(InputError, match="scalar"):
        Problem(network("mlp").model, nn.CrossEntropyLoss(reduction="none"), [data().tensors])


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda m: m.requires_grad_(False), "no trainable parameters"), (lambda m: m[0].float(), "differ in dtype")],
    ids=["all_frozen", "mixed_dtypes"],
)
def test_models_that_cannot_be_measured_are_refused(change, message):
    model = copy.deepcopy(network("mlp").model)
    change(model)
    with pytest.raises(InputError, match=message):
        Problem(model, CROSS_ENTROPY, [data().tensors])


def test_weights_of_another_length_and_unknown_policies_are_refused():
    problem = network("mlp").problem()
    with pytest.raises(InputError, match="vector of 213 parameters"):
        problem.value(torch.zeros(5, dtype=torch.float64))
    with pytest.raises(InputError, match="batch_norm"):
        network("mlp").problem(batch_norm="train")


# -- batch norm ------------------------------------------------------------------------------------


def test_batch_statistics_are_those_of_each_batch():
    case = network("cnn_with_batch_norm")
    model = copy.deepcopy(case.model).train()
    with torch.no_grad():
        parts = zip(case.inputs.split(15), case.targets.split(15), strict=True)
        expected = sum(F.cross_entropy(model(x), y, reduction="sum").item() for x, y in parts) / 40
    problem = case.problem(15, batch_norm="batch")
    assert problem.value(problem.weights) == pytest.approx(expected, rel=1e-12)
    assert problem.conditions()["batch_norm"] == "batch"
    v = draws(len(problem.weights), name="v")
    difference = (problem.gradient(problem.weights + 1e-6 * v) - problem.gradient(problem.weights - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(problem.hessian(problem.weights)(v), difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("examples", [None, 16])
def test_recomputed_buffers_agree_with_update_bn(examples):
    case = network("cnn_with_batch_norm")
    problem = case.problem(8)
    w = problem.weights * 1.3
    model = copy.deepcopy(case.model)
    nn.utils.vector_to_parameters(w, model.parameters())
    used = case.inputs[: examples or 40]
    torch.optim.swa_utils.update_bn(used.split(8), model)
    found = problem.recomputed_buffers(w, examples)
    expected = {k: b for k, b in model.named_buffers() if b.is_floating_point()}
    assert found.keys() == expected.keys()
    for name, buffer in found.items():
        torch.testing.assert_close(buffer, expected[name])
    with torch.no_grad():
        loss = F.cross_entropy(model.eval()(case.inputs), case.targets).item()
    assert problem.value(w, found) == pytest.approx(loss, rel=1e-12)
    assert problem.value(w) != pytest.approx(loss, rel=1e-3)


def test_a_short_last_batch_weighs_less_in_recomputed_buffers():
    case = network("cnn_with_batch_norm")
    problem = case.problem(32)
    with torch.no_grad():
        activations = functional_call(case.model[0], dict(case.model[0].named_parameters()), (case.inputs,))
    found = problem.recomputed_buffers(problem.weights)
    torch.testing.assert_close(found["1.running_mean"], activations.mean((0, 2, 3)))
    assert problem.has_batch_norm
    assert not network("mlp").problem().has_batch_norm


# -- Rayleigh quotients by group -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "groups", "counts"), [(40, 4, [10] * 4), (16, 4, [10, 6, 10, 6, 8]), (16, 99, [1] * 40)]
)
def test_rayleigh_quotients_by_group(batch_size, groups, counts):
    case = network("mlp")
    problem, w = case.problem(batch_size), case.weights
    V = draws(2, len(w), name="V")
    found_counts, quotients = problem.rayleigh_by_group(w, V, groups)
    assert found_counts.tolist() == counts
    whole = torch.einsum("kn,nm,km->k", V, case.hessian(w), V)
    torch.testing.assert_close(quotients @ found_counts / 40, whole)
    first = Problem(case.model, case.loss, [(case.inputs[: counts[0]], case.targets[: counts[0]])]).hessian(w)
    torch.testing.assert_close(quotients[:, 0], torch.stack([v @ first(v) for v in V]))


def test_with_batch_statistics_the_groups_are_the_batches():
    case = network("cnn_with_batch_norm")
    problem = case.problem(16, batch_norm="batch")
    v = draws(len(problem.weights), name="v")
    counts, quotients = problem.rayleigh_by_group(problem.weights, v[None])
    assert counts.tolist() == [16, 16, 8]
    whole = (v @ problem.hessian(problem.weights)(v)).item()
    assert (quotients @ counts / 40).item() == pytest.approx(whole)
