"""Hidden units found by running a network, and transformations of them that keep its function."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from char_gpt import gpt
from networks_with_units import NETWORKS, norm_cnn
from torch import nn
from torch.func import functional_call

from landscape import seeds
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.units import units_of
from landscape.units.ties import Ties
from landscape.units.transform import KINDS, of_kind, transformed, units_of_problem

A, B, S = 1, -1, 0  # produced (times α), consumed (divided by α), in the same place only


def problem_of(name: str, dtype: torch.dtype = torch.float64, **options) -> Problem:
    build, shape = NETWORKS[name]
    with seeds.global_stream(0, "units", name):
        model = build().to(dtype)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
        batches = [(torch.randn(count, *shape, dtype=dtype), torch.arange(count) % 3) for count in (5, 3)]
    return Problem(model, loss_by_name("cross_entropy"), batches, **options)


def known(groups) -> dict[str, tuple[int, set]]:
    """Groups as {name: (size, {(tensor, axis, exponent)})}."""
    return {g.name: (g.size, {(p.tensor, p.axis, p.exponent) for p in g.places}) for g in groups}


def exchanged(*places: tuple[str, int]) -> set:
    return {(tensor, axis, S) for tensor, axis in places}


def test_units_of_a_perceptron():
    units = units_of_problem(problem_of("mlp"))
    assert known(units.rescalable) == {
        "0.weight": (5, {("0.weight", 0, A), ("0.bias", 0, A), ("2.weight", 1, B)}),
        "2.weight": (4, {("2.weight", 0, A), ("2.bias", 0, A), ("4.weight", 1, B)}),
    }
    assert known(units.permutable) == {
        "0.weight": (5, exchanged(("0.weight", 0), ("0.bias", 0), ("2.weight", 1))),
        "2.weight": (4, exchanged(("2.weight", 0), ("2.bias", 0), ("4.weight", 1))),
    }
    assert units.normalised == units.left_out == ()
    assert [(p.tensor, p.role) for p in units.permutable[0].places] == [
        ("0.weight", "out"), ("0.bias", "out"), ("2.weight", "in"),
    ]  # fmt: skip


def test_tanh_permits_permutations_alone():
    units = units_of_problem(problem_of("tanh"))
    assert list(known(units.permutable)) == ["0.weight", "2.weight"]
    assert units.rescalable == ()
    reason = "tanh is not positively homogeneous"
    assert units.left_out == (("rescaling", "0.weight", reason), ("rescaling", "2.weight", reason))


def test_a_channel_is_a_block_of_columns_after_flattening():
    units = units_of_problem(problem_of("norm_cnn"))
    statistics = {"1.running_mean", "1.running_var"}
    assert known(units.permutable) == {
        "0.weight": (4, exchanged(*((t, 0) for t in ("0.weight", "0.bias", "1.weight", "1.bias", *statistics)),
                                  ("6.weight", 1))),
        "6.weight": (5, exchanged(("6.weight", 0), ("6.bias", 0), ("8.weight", 1))),
    }  # fmt: skip
    assert known(units.rescalable) == {
        "1.weight": (4, {("1.weight", 0, A), ("1.bias", 0, A), ("6.weight", 1, B)}),
        "6.weight": (5, {("6.weight", 0, A), ("6.bias", 0, A), ("8.weight", 1, B)}),
    }
    assert known(units.normalised) == {"0.weight": (4, {(t, 0, A) for t in ("0.weight", "0.bias", *statistics)})}
    columns = next(p for p in units.permutable[0].places if p.tensor == "6.weight")
    np.testing.assert_array_equal(columns.index, np.arange(16).reshape(4, 4))


def test_residual_streams_of_resnet20():
    """Shortcuts pad with zero channels on both sides: 16 channels are 8…23 of the 32, which are 16…47 of the 64."""
    units = units_of_problem(problem_of("resnet20"))
    permutable, widths = known(units.permutable), {1: 16, 2: 32, 3: 64}

    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]

    expected = {}
    for stage, width in widths.items():
        for block in range(3):
            at = f"layer{stage}.{block}"
            outs = [(t, 0) for t in (f"{at}.conv1.weight", *norm(f"{at}.bn1"))]
            expected[f"{at}.conv1.weight"] = (width, exchanged(*outs, (f"{at}.conv2.weight", 1)))
    for stage in widths:  # the units that are new in a stage, through the rest of the network
        outs = [("conv1.weight", 0), *((t, 0) for t in norm("bn1"))] if stage == 1 else []
        ins = [("linear.weight", 1)]
        for later in range(stage, 4):
            for block in range(3):
                at = f"layer{later}.{block}"
                outs += [(t, 0) for t in (f"{at}.conv2.weight", *norm(f"{at}.bn2"))]
                ins += [(f"{at}.conv1.weight", 1)] * ((later, block) != (stage, 0) or stage == 1)
        name = "conv1.weight" if stage == 1 else f"layer{stage}.0.conv2.weight[0]"
        expected[name] = ({1: 16, 2: 16, 3: 32}[stage], exchanged(*outs, *ins))
    assert permutable == expected
    stream = next(g for g in units.permutable if g.name == "conv1.weight")
    index = {p.tensor: p.index[:, 0].tolist() for p in stream.places}
    assert index["layer1.2.bn2.bias"] == list(range(16))
    assert index["layer2.0.conv2.weight"] == list(range(8, 24))
    assert index["linear.weight"] == list(range(24, 40))
    new = next(g for g in units.permutable if g.name == "layer2.0.conv2.weight[0]").places[0].index[:, 0]
    assert new.tolist() == [*range(8), *range(24, 32)]
    assert len(units.rescalable) == 12  # each block's inner units, and three streams
    assert len(units.normalised) == 19  # one for each convolution
    assert units.left_out == ()


def test_units_of_a_transformer():
    units = units_of_problem(problem_of("transformer"))
    stream = exchanged(
        ("embed.weight", 0), ("embed.bias", 0), ("position", 1), ("norm1.weight", 0), ("norm1.bias", 0),
        ("qkv.weight", 1), ("out.weight", 0), ("out.bias", 0), ("norm2.weight", 0), ("norm2.bias", 0),
        ("up.weight", 1), ("down.weight", 0), ("down.bias", 0), ("head.weight", 1),
    )  # fmt: skip
    values = exchanged(("qkv.weight", 0), ("qkv.bias", 0), ("out.weight", 1))
    keys = exchanged(("qkv.weight", 0), ("qkv.bias", 0))
    assert known(units.permutable) == {
        "position": (8, stream),
        "qkv.weight[0]": (4, keys), "qkv.weight[4]": (4, keys),  # queries with keys, head by head
        "qkv.weight[16]": (4, values), "qkv.weight[20]": (4, values),
        "up.weight": (6, exchanged(("up.weight", 0), ("up.bias", 0), ("down.weight", 1))),
    }  # fmt: skip
    assert known(units.rescalable) == {
        "norm1.weight": (8, {("norm1.weight", 0, A), ("norm1.bias", 0, A), ("qkv.weight", 1, B)}),
        "norm2.weight": (8, {("norm2.weight", 0, A), ("norm2.bias", 0, A), ("up.weight", 1, B)}),
        "qkv.weight[0]": (8, {(t, 0, e) for t in ("qkv.weight", "qkv.bias") for e in (A, B)}),
        "qkv.weight[16]": (8, {("qkv.weight", 0, A), ("qkv.bias", 0, A), ("out.weight", 1, B)}),
        "up.weight": (6, {("up.weight", 0, A), ("up.bias", 0, A), ("down.weight", 1, B)}),
    }
    stays = {name for kind, name, _ in units.left_out if kind == "rescaling"}
    assert stays == {"position", "embed.weight", "out.weight", "down.weight"}


def test_tied_weights_go_together():
    units = units_of_problem(problem_of("autoencoder"))
    assert known(units.permutable) == {"a.weight": (5, exchanged(("a.weight", 0), ("a.bias", 0)))}
    assert units.rescalable == ()
    assert ("rescaling", "a.weight", "its factor would be its own inverse (shared weights)") in units.left_out
    language = units_of(gpt((7,), 11).eval(), torch.arange(14).view(2, 7) % 11)
    stream = next(g for g in language.permutable if g.name == "wte.weight")
    assert [(p.axis, p.role) for p in stream.places if p.tensor == "wte.weight"] == [(1, "in out")]


def test_what_cannot_be_followed_is_left_out_by_name():
    units = units_of_problem(problem_of("strided"))
    assert list(known(units.permutable)) == list(known(units.rescalable)) == ["b.weight"]
    reason = "used by as_strided, which is not followed"
    assert units.left_out == (("permutation", "a.weight", reason), ("rescaling", "a.weight", reason))
    mixer = units_of_problem(problem_of("token_mixer"))
    assert "a.weight" not in known(mixer.permutable)
    assert ("permutation", "a.weight", "not the same units everywhere in its input") in mixer.left_out


def test_units_of_recurrent_layers():
    units = units_of_problem(problem_of("lstm"))
    gates = [(f"lstm.{part}_{way}_l0", 0) for part in ("weight", "bias") for way in ("ih", "hh")]
    places = exchanged(*gates, ("lstm.weight_hh_l0", 1), ("head.weight", 1))
    assert known(units.permutable) == {"lstm.weight_ih_l0": (4, places)}
    rows = units.permutable[0].places[0].index
    np.testing.assert_array_equal(rows, np.arange(16).reshape(4, 4).T)  # a row of each gate
    sizes = {g.name: g.size for g in units_of_problem(problem_of("deep_gru")).permutable}
    assert sizes == {f"gru.weight_ih_l{layer}{way}": 4 for layer in (0, 1) for way in ("", "_reverse")}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("gated", "relu", {"up.weight[8]": 8}),  # the linear half; silu keeps the other's scale
        ("gated", "permutation", {"up.weight": 8}),
        ("selected", "permutation", {"a.weight[0]": 3, "a.weight[1]": 5}),
        ("recurrent", "permutation", {"a.weight": 8}),
        ("recurrent", "relu", {"a.weight": 8}),
        ("class_token", "permutation", {"token": 8, "up.weight": 16}),
        ("group_norm", "permutation", {"0.weight[0]": 4, "0.weight[4]": 4, "3.weight": 4}),
        ("shuffled", "permutation", {"a.weight": 2, "b.weight": 4}),
        ("depthwise", "permutation", {"a.weight": 8, "b.weight": 4}),
        ("depthwise", "relu", {"each.weight": 8, "b.weight": 4}),
        ("bare_parameters", "relu", {"w": 8}),
        ("own_norm", "permutation", {"gain": 8}),
        ("own_norm", "relu", {"gain": 8}),
        ("weight_norm", "relu", {"2.weight": 8}),
        ("squeeze_excite", "relu", {"conv.weight": 6, "close.weight": 4}),
        ("dense_net", "relu", {"a.weight": 4, "b.weight": 5}),
    ],
)
def test_units_of_other_networks(name, kind, expected):
    assert {g.name: g.size for g in of_kind(units_of_problem(problem_of(name)), kind)} == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_stays_and_the_callers_model_too(name, kind):
    _, shape = NETWORKS[name]
    problem = problem_of(name)
    caller, before = problem.model, copy.deepcopy(problem.model.state_dict())
    found = transformed(problem, units_of_problem(problem), kind)
    assert found.dropped == ()  # what tracing finds is right at once
    assert found.change <= 1e-10
    assert all(torch.equal(x, before[k]) for k, x in caller.state_dict().items())
    inputs = torch.randn(7, *shape, dtype=torch.float64, generator=seeds.stream(0, "other inputs"))
    changed = found.problem.named(found.problem.weights)
    old, new = (functional_call(m, {**p, **b}, inputs) for m, p, b in (
        (caller, problem.named(problem.weights), problem.buffers()), (caller, changed, found.problem.buffers())
    ))  # fmt: skip
    torch.testing.assert_close(new, old, rtol=1e-10, atol=1e-12)
    moved = float((found.problem.weights - problem.weights).norm() / problem.weights.norm())
    assert (moved > 0.01) == bool(found.groups)


def test_float32_and_a_part_of_the_parameters():
    for problem in (problem_of("norm_cnn", torch.float32), problem_of("norm_cnn").restricted(["8.*"])):
        units = units_of_problem(problem)
        for kind in KINDS:
            found = transformed(problem, units, kind)
            assert len(found.groups) == len(of_kind(units, kind)) > 0
            assert found.problem.weights.dtype == problem.weights.dtype
            assert found.problem.value(found.problem.weights) == pytest.approx(problem.value(problem.weights), rel=1e-5)


def test_statistics_of_each_batch_absorb_no_factor():
    problem = problem_of("norm_cnn", batch_norm="batch")
    units = units_of_problem(problem)
    assert units.normalised == ()
    assert len(transformed(problem, units, "permutation").groups) == 2


def test_rescalings_follow_their_formulas():
    problem = problem_of("mlp")
    new = transformed(problem, units_of_problem(problem), "relu", alpha=4.0)
    old, changed = problem.named(problem.weights), new.problem.named(new.problem.weights)
    factors = {"0.weight": 4, "0.bias": 4, "2.weight": 1, "2.bias": 4, "4.weight": 0.25, "4.bias": 1}
    for name, factor in factors.items():
        assert torch.equal(changed[name], factor * old[name])
    problem = problem_of("norm_cnn")
    buffers = transformed(problem, units_of_problem(problem), "batch-norm", alpha=3.0).problem.buffers()
    before, eps = problem.buffers(), norm_cnn()[1].eps
    torch.testing.assert_close(buffers["1.running_mean"], 3 * before["1.running_mean"])
    torch.testing.assert_close(buffers["1.running_var"], 9 * (before["1.running_var"] + eps) - eps)
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="alpha"):
            transformed(problem, units_of_problem(problem), "relu", alpha=alpha)
    with pytest.raises(InputError, match="at least 1"):
        transformed(problem, units_of_problem(problem), "batch-norm", alpha=0.5)
    with pytest.raises(InputError, match="kind"):
        transformed(problem, units_of_problem(problem), "rotation")


def test_a_seed_gives_one_transformation_and_another_seed_another():
    problem = problem_of("mlp")
    units = units_of_problem(problem)
    for kind in ("relu", "permutation"):
        first, again, other = (transformed(problem, units, kind, seed).problem.weights for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_a_permutation_carries_other_weights_along():
    problem = problem_of("mlp")
    found = transformed(problem, units_of_problem(problem), "permutation")
    assert torch.equal(found.carry(problem.weights), found.problem.weights)
    other = problem.weights.flip(0)
    assert (found.carry(other) - found.problem.weights).norm() == pytest.approx(float((other - problem.weights).norm()))


def test_what_does_not_verify_is_dropped_by_name():
    problem = problem_of("mlp")
    units = units_of_problem(problem)
    good, bad = units.rescalable
    wrong = replace(bad, places=tuple(replace(p, exponent=1) for p in bad.places))
    found = transformed(problem, replace(units, rescalable=(good, wrong)), "relu")
    assert [g.name for g in found.groups] == ["0.weight"]
    assert found.change <= 1e-10
    assert [name for name, _ in found.dropped] == ["2.weight"]
    assert "outputs changed by" in found.dropped[0][1]
    nothing = transformed(problem, replace(units, rescalable=(wrong,)), "relu")
    assert nothing.groups == ()
    assert torch.equal(nothing.problem.weights, problem.weights)


def test_a_model_in_training_mode_is_left_as_it_was():
    model = norm_cnn()
    before = copy.deepcopy(model.state_dict())
    units = units_of(model, torch.randn(4, 1, 6, 6))
    assert model.training
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert [g.name for g in units.permutable] == ["6.weight"]  # dropout that is on lets nothing through
    assert ("permutation", "0.weight", "used by dropout, which is not followed") in units.left_out


def test_ties_with_signs():
    ties = Ties()
    a, b, c, d = (torch.from_numpy(ties.fresh(2)).double() for _ in range(4))
    ties.tie(a, b, "", -1)
    ties.tie(b, c, "", -1)
    ties.tie(d, torch.zeros(2), "tied to the input", 1)
    solved = ties.solve()
    node = [int(x[0]) for x in (a, b, c, d)]
    assert len({int(solved.scales[i]) for i in node[:3]}) == 1
    assert solved.signs[node[0]] == -solved.signs[node[1]] == solved.signs[node[2]]
    assert solved.scale_reasons[int(solved.scales[node[3]])] == "tied to the input"
    assert int(solved.scales[node[0]]) not in solved.scale_reasons
    ties.tie(a[:1], c[:1], "", -1)  # its own inverse, for the first of the two units
    solved = ties.solve()
    assert "inverse" in solved.scale_reasons[int(solved.scales[node[0]])]
    assert int(solved.scales[node[0] + 1]) not in solved.scale_reasons
