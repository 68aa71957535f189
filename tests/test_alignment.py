"""Two networks of one architecture, one with its units in the other's order."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import reference_models
import torch
from click.testing import CliRunner
from test_units import problem_of
from torch import nn

from landscape import seeds
from landscape.checkpoints import load_into, open_checkpoint, read_weights
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import ProblemSpec
from landscape.units.alignment import align
from landscape.units.matches import Match, arranged
from landscape.units.states import problem_at, state_of
from landscape.units.transform import transformed, units_of_problem
from landscape_cli.main import landscape  # pyright: ignore[reportMissingImports]

WAYS = ("weights", "activations")


def planted(problem: Problem, seed: int = 3) -> Problem:
    """The same function with the units of every group in another order."""
    found = transformed(problem, units_of_problem(problem), "permutation", seed)
    assert not torch.equal(found.problem.weights, problem.weights)
    return found.problem


def at(problem: Problem, w: torch.Tensor) -> Problem:
    return problem_at(problem, state_of(problem, w))


def noisy(problem: Problem, share: float = 0.1) -> Problem:
    """Every tensor with Gaussian noise of this share of its norm."""
    draws = problem.named(seeds.gaussian(seeds.stream(0, "noise"), 1, problem.weights)[0])
    pieces = problem.named(problem.weights)
    added = [x + share * x.norm() * draws[k] / draws[k].norm() for k, x in pieces.items()]
    return at(problem, torch.cat([x.reshape(-1) for x in added]))


def assert_same_network(found: Problem, problem: Problem) -> None:
    assert torch.equal(found.weights, problem.weights)
    assert all(torch.equal(x, problem.buffers()[k]) for k, x in found.buffers().items())


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "name",
    ["mlp", "norm_cnn", "resnet20", "transformer", "encoder_layer", "plain_attention", "autoencoder", "recurrent",
     "group_norm", "depthwise", "gated", "lstm", "deep_gru"],
)  # fmt: skip
def test_a_planted_permutation_is_undone(name, how):
    problem = problem_of(name)
    other = planted(problem)
    found = align(problem, other, how)
    assert_same_network(found.problem, problem)
    assert found.change <= 1e-10
    assert torch.equal(found.carry(other.weights), problem.weights)
    assert torch.equal(other.weights[found.order], problem.weights)
    assert sum(g.size for g in found.groups) == sum(g.size for g in units_of_problem(problem).permutable)
    assert max(g.moved for g in found.groups) > 0
    before, after = found.objective
    assert after > before
    again = align(problem, problem, how)
    assert [g.moved for g in again.groups] == [0] * len(again.groups)
    assert again.objective[0] == again.objective[1] == pytest.approx(after)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", ["mlp", "norm_cnn", "transformer"])
def test_and_so_it_is_under_noise(name, how):
    problem = problem_of(name)
    other = planted(problem)
    found = align(problem, noisy(other), how)
    if name == "norm_cnn" and how == "activations":  # eight examples of a pooled ReLU leave little to compare
        assert (found.carry(other.weights) == problem.weights).double().mean() > 0.5
    else:
        assert torch.equal(found.carry(other.weights), problem.weights)


@pytest.mark.parametrize("how", WAYS)
def test_heads_change_places_as_wholes(how):
    """Two heads of width 4: rows h·4 … of queries, keys and values (8 each) of `qkv`, and columns of `out`."""
    problem = problem_of("transformer")
    state = state_of(problem, problem.weights)
    within = torch.tensor([4, 7, 6, 5, 2, 3, 0, 1])  # head 1 first, and both mixed up
    rows = torch.cat([within + 8 * part for part in range(3)])
    for name in ("qkv.weight", "qkv.bias"):
        state[name] = state[name][rows]
    state["out.weight"] = state["out.weight"][:, within]
    other = problem_at(problem, state)
    assert other.value(other.weights) == pytest.approx(problem.value(problem.weights), rel=1e-12)
    found = align(problem, planted(other), how)
    assert_same_network(found.problem, problem)
    assert [f.blocks for f in units_of_problem(problem).families] == [1, 1, 2]


@pytest.mark.parametrize("name", ["transformer", "plain_attention", "encoder_layer"])
def test_heads_are_found_however_attention_is_written(name):
    assert max(f.blocks for f in units_of_problem(problem_of(name)).families) == 2


class Biased(nn.Module):
    """Attention with relative positions: each head has a column of the table, and in `slopes` a constant or none."""

    def __init__(self, slopes: tuple[float, ...], fused: bool):
        super().__init__()
        self.fused = fused
        self.qkv, self.table, self.head = nn.Linear(3, 24), nn.Embedding(9, 2), nn.Linear(8, 3)
        self.register_buffer("slopes", torch.tensor(slopes).view(-1, 1, 1))

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q = q * self.slopes
        bias = self.table(torch.arange(5)[:, None] - torch.arange(5) + 4).permute(2, 0, 1)[None]
        if self.fused:
            y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            y = (q @ k.transpose(-1, -2) / 2 + bias).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf).softmax(
                -1
            ) @ v
        return self.head(y.transpose(1, 2).reshape(len(x), 5, 8)).mean(1)


def biased(slopes: tuple[float, ...], fused: bool) -> Problem:
    with seeds.global_stream(0, "biased"):
        batches = [(torch.randn(6, 5, 3), torch.arange(6) % 3)]
        return Problem(Biased(slopes, fused).double(), loss_by_name("cross_entropy"), batches)


@pytest.mark.parametrize("fused", [False, True])
def test_what_a_head_adds_of_its_own_goes_with_it(fused):
    problem = biased((1.0,), fused)
    (family,) = (f for f in units_of_problem(problem).families if f.blocks == 2)
    assert {p.tensor for group in family.groups for p in group.places} == {
        "qkv.weight", "qkv.bias", "table.weight", "head.weight",
    }  # fmt: skip
    orders = tuple(np.roll(np.arange(group.size), group.size // 2) for group in family.groups)
    other = problem_at(problem, arranged(state_of(problem, problem.weights), [Match(family, orders)]))
    assert other.value(other.weights) == pytest.approx(problem.value(problem.weights), rel=1e-12)
    assert not torch.equal(other.weights, problem.weights)
    for how in WAYS:
        assert_same_network(align(problem, planted(other), how).problem, problem)


def test_a_constant_of_each_head_keeps_heads_apart():
    problem = biased((1.0, 2.0), fused=False)
    assert {f.blocks for f in units_of_problem(problem).families} == {1}
    assert_same_network(align(problem, planted(problem)).problem, problem)


def test_all_orders_of_three_units_by_hand():
    """f(x) = V·relu(Wx + b): ⟨W, W'_π⟩ + ⟨b, b'_π⟩ + ⟨V, V'^π⟩, and correlations by NumPy, for all six π."""
    inputs = torch.randn(40, 4, dtype=torch.float64, generator=seeds.stream(0, "inputs"))

    def problem(seed: int) -> Problem:
        with seeds.global_stream(seed, "three units"):
            model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double()
        return Problem(model, loss_by_name("cross_entropy"), [(inputs, torch.arange(40) % 2)])

    one, two = problem(0), problem(1)
    (w, b, v, _), (w2, b2, v2, _) = ([x.numpy() for x in p.named(p.weights).values()] for p in (one, two))
    x = inputs.numpy()
    pre, pre2 = x @ w.T + b, x @ w2.T + b2
    rho = sum(np.corrcoef(f(pre).T, f(pre2).T)[:3, 3:] for f in (np.asarray, lambda z: np.maximum(z, 0)))

    def by_weights(order: list[int]) -> float:
        return float((w * w2[order]).sum() + (b * b2[order]).sum() + (v * v2[:, order]).sum())

    every = [list(order) for order in permutations(range(3))]
    for how, score in (("weights", by_weights), ("activations", lambda order: rho[range(3), order].sum())):
        found = align(one, two, how)
        assert found.objective == pytest.approx((score([0, 1, 2]), max(score(order) for order in every)))
        best = max(every, key=score)
        assert torch.equal(found.problem.weights[:12].view(3, 4), two.weights[:12].view(3, 4)[best])


def test_a_seed_gives_one_alignment():
    one, two = problem_of("resnet20"), planted(noisy(problem_of("resnet20"), 2.0))
    first, again = (align(one, two, seed=1, restarts=2) for _ in range(2))
    assert torch.equal(first.order, again.order)
    assert align(one, two, restarts=4, seed=1).objective[1] >= first.objective[1]


def test_units_are_compared_on_as_many_examples_as_were_asked_for():
    one, two = problem_of("tanh"), planted(noisy(problem_of("tanh"), 1.0))
    few = align(one.subset(torch.arange(6)), two, "activations")
    assert align(one, two, "activations", examples=6).objective == pytest.approx(few.objective)
    assert align(one, two, "activations").objective[1] != pytest.approx(few.objective[1])


def test_a_part_of_the_parameters():
    whole, part = problem_of("norm_cnn"), problem_of("norm_cnn").restricted(["0.*", "1.*"])
    other = planted(whole).restricted(["0.*", "1.*"])
    found = align(part, other)
    assert_same_network(found.problem, part)
    assert torch.equal(other.weights[found.order], part.weights)


def test_what_is_not_one_architecture_is_refused():
    with pytest.raises(InputError, match=r"0.weight is \(5, 6\) in the reference and \(4, 1, 3, 3\)"):
        align(problem_of("mlp"), problem_of("norm_cnn"))
    with pytest.raises(InputError, match=r"float64 on cpu, the other in torch.float32"):
        align(problem_of("mlp"), problem_of("mlp", torch.float32))
    for bad in ({"how": "names"}, {"restarts": 0}, {"examples": 1}):
        with pytest.raises(InputError, match=r"how|restarts|examples"):
            align(problem_of("mlp"), problem_of("mlp"), **bad)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("file", "factory"), [("akamaster_resnet20.th", "option_a_resnet20"), ("ehanw_resnet20.pth", "projected_resnet20")]
)
def test_public_residual_networks(checkpoint_folder, file, factory, how):
    model = getattr(reference_models, factory)()
    load_into(model, read_weights(checkpoint_folder / "cifar10" / file))
    images = torch.randn(40, 3, 32, 32, generator=seeds.stream(0, "images"))
    problem = Problem(model, loss_by_name("cross_entropy"), [(images, torch.arange(40) % 10)])
    found = align(problem, planted(problem), how)
    assert_same_network(found.problem, problem)
    assert len(found.groups) == 12
    assert found.change <= 1e-5


@pytest.mark.parametrize("how", WAYS)
def test_independent_trainings_come_close(checkpoint_folder, data_folder, how):
    """The barrier between two networks that others trained on MNIST is mostly the order of their units."""
    spec = ProblemSpec(
        model=f"{reference_models.__file__}:dropout_mlp", data="mnist", data_folder=str(data_folder), device="cpu",
        data_args=(("mean", "0.1307"), ("std", "0.3081")), examples=2000, batch_size=2000,
    )  # fmt: skip
    folder = checkpoint_folder / "mnist_small_vs_larger_batch"
    one, two = (open_checkpoint(folder / f"wonhyeongseo_{v}_bs64.ckpt", spec).train for v in ("v0", "v1"))

    def barrier(w: torch.Tensor) -> float:
        shares = np.linspace(0, 1, 11)
        losses = np.array([one.value((1 - t) * one.weights + t * w) for t in shares.tolist()])
        return float((losses - (1 - shares) * losses[0] - shares * losses[-1]).max())

    assert barrier(align(one, two, how).problem.weights) < 0.15 * barrier(two.weights)


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(landscape, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_writes_a_checkpoint_that_opens_alike(tmp_path: Path):
    for name, seed, width in (("one", 0, 12), ("two", 1, 12), ("wide", 0, 13)):
        run("train", tmp_path / name, "--model", "mlp", "--model-arg", f"widths={width}", "--epochs", 1, "--seed", seed)
    one, two, wide, output = (tmp_path / name for name in ("one", "two", "wide", "aligned.safetensors"))
    text = run("align", one, two, "-o", output)
    assert "12 units" in text
    assert "⟨w, w′⟩" in text
    opened, before = open_checkpoint(output), open_checkpoint(two)
    assert opened.evaluate().loss == pytest.approx(before.evaluate().loss, rel=1e-5)
    expected = align(open_checkpoint(one).main, before.main)
    assert torch.equal(opened.main.weights, expected.problem.weights)
    assert not torch.equal(opened.main.weights, before.main.weights)
    assert opened.weights.record["aligned"]["other"]["checkpoint_sha256"] == before.weights_sha256
    text = run("align", one, output, "--how", "activations", "--json", "-o", tmp_path / "again")
    facts = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert facts["objective"][1] >= facts["objective"][0]
    assert "not of one architecture" in run("align", one, wide, "-o", tmp_path / "no", code=2)
    assert "--overwrite" in run("align", one, two, "-o", output, code=2)
