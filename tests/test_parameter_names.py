"""Problems in some of a model's parameters: blocks of the whole's gradient and of its matrices."""

import json

import pytest
import torch
from click.testing import CliRunner
from problems import network
from safetensors.torch import save_file
from torch import nn

from landscape import hessian, seeds
from landscape.checkpoints import open_checkpoint
from landscape.errors import InputError
from landscape.losses import loss_by_name
from landscape.models import build_model
from landscape.parameter_names import chosen_names, tied_names
from landscape.problem import Problem
from landscape.spec import HessianSpec, ProblemSpec


def positions(problem, names):
    """Where the named parameters lie in the whole problem's vector."""
    index = torch.arange(problem.weights.numel(), dtype=torch.float64)
    return torch.cat([piece.reshape(-1) for name, piece in problem.named(index).items() if name in names]).long()


@pytest.mark.parametrize("operator", ["hessian", "ggn", "fisher-empirical", "fisher-sampled"])
@pytest.mark.parametrize(
    ("name", "patterns", "names"),
    [
        ("mlp", ["2.*"], ["2.weight", "2.bias"]),
        ("mlp", ["4.bias", "0.*"], ["0.weight", "0.bias", "4.bias"]),
        ("cnn_with_batch_norm", ["1.*", "*.bias"], ["0.bias", "1.weight", "1.bias", "3.bias", "4.bias", "8.bias"]),
    ],
)
def test_a_block_is_a_block_of_the_whole(name, patterns, names, operator):
    whole = network(name).problem()
    part = whole.restricted(patterns)
    rows = positions(whole, names)
    assert list(part.named(part.weights)) == names
    assert torch.equal(part.weights, whole.weights[rows])
    assert (part.size, part.value(part.weights)) == (whole.size, whole.value(whole.weights))
    torch.testing.assert_close(part.gradient(part.weights), whole.gradient(whole.weights)[rows])
    v = seeds.gaussian(seeds.stream(0, "block"), 1, part.weights)[0]
    lifted = torch.zeros_like(whole.weights)
    lifted[rows] = v
    expected = whole.operator(operator, whole.weights)(lifted)[rows]
    torch.testing.assert_close(part.operator(operator, part.weights)(v), expected)


def test_the_others_are_fixed_where_one_says():
    whole = network("mlp").problem()
    elsewhere = whole.weights * 1.2
    part = whole.restricted(["2.*"], at=elsewhere)
    assert part.value(part.weights) == whole.value(elsewhere)
    torch.testing.assert_close(part.double().gradient(part.weights), whole.gradient(elsewhere)[70:180])
    again = part.restricted("2.bias")
    assert again.value(again.weights) == whole.value(elsewhere)
    assert whole.restricted("*").value(elsewhere) == whole.value(elsewhere)


def test_eigenvalues_of_a_block():
    case = network("mlp")
    part = case.problem().restricted(["4.*"])
    H = case.hessian(case.weights)[180:, 180:]
    result = hessian.measure(part, HessianSpec(count=2, tolerance=1e-8))
    torch.testing.assert_close(torch.from_numpy(result.eigenvalues.copy()), torch.linalg.eigvalsh(H).flip(0)[:2])
    assert result.conditions["parameters"] == 33


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.frozen = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.frozen(self.decoder(self.encoder(x).tanh()))


def test_tied_parameters_answer_to_both_names():
    model = Tied()
    free = [name for name, p in model.named_parameters() if p.requires_grad]
    assert chosen_names(model, free, ["decoder.*"]) == ["encoder.weight", "decoder.bias"]
    x, y = torch.eye(3), torch.arange(3)
    problem = Problem(model, loss_by_name("cross_entropy"), [(x, y)])
    assert list(problem.restricted("*").named(problem.weights)) == free


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["decodr.*"], "'decodr.*' matches none .* Did you mean .*decoder.bias"),
        (["ENCODER.*"], "Did you mean encoder.weight, encoder.bias"),
        (["encoder"], "Did you mean encoder.weight, encoder.bias.? A whole layer is 'NAME.*'"),
        (["encoder.*", "frozen.*"], "only frozen parameters"),
        ([], "params is empty"),
    ],
)
def test_patterns_without_a_match_are_refused(patterns, message):
    model = Tied()
    with pytest.raises(InputError, match=message):
        chosen_names(model, [name for name, p in model.named_parameters() if p.requires_grad], patterns)


def test_on_the_command_line(tmp_path):
    from landscape_cli.main import landscape

    with seeds.global_stream(0, "block", "model"):
        model = build_model("mlp", (("widths", "4"),), (1, 8, 8), 10)
    path = tmp_path / "m.safetensors"
    save_file(model.state_dict(), path)
    chosen = ["--model", "mlp", "--model-arg", "widths=4", "--data", "digits", "--examples", "64", "--dtype", "float64"]
    options = ["--params", "3.*", "--operator", "ggn", "--count", "1", "--json", "-o", str(tmp_path / "r.safetensors")]
    told = CliRunner().invoke(landscape, ["hessian", str(path), *chosen, *options])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["conditions"]["parameters"] == 50
    assert found["provenance"]["problem"]["params"] == ["3.*"]
    # The last layer of a network is a linear model: its Gauss-Newton block is its Hessian block.
    args = (("widths", "4"),)
    opened = open_checkpoint(path, ProblemSpec(model="mlp", model_args=args, data="digits", examples=64,
                                               dtype="float64"))  # fmt: skip
    block = opened.main.restricted(["3.*"])
    expected = hessian.measure(block, HessianSpec(count=1)).eigenvalues[0]
    assert found["eigenvalues"][0] == pytest.approx(expected, rel=1e-6)
    wrong = CliRunner().invoke(landscape, ["hessian", str(path), *chosen, "--params", "fc.*"])
    assert wrong.exit_code == 2
    assert "matches none of the model's parameters" in wrong.stderr


def test_a_module_under_two_names_stays_whole():
    """torch's functional_call alone would leave the weights it was given in the module."""
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 3)).double()
    x, y = torch.randn(10, 4, dtype=torch.float64), torch.randint(3, (10,))
    problem = Problem(model, nn.CrossEntropyLoss(reduction="sum"), [(x, y)])
    gradient = problem.gradient(problem.weights)
    nn.functional.cross_entropy(model(x), y).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    assert isinstance(problem.model[0].weight, nn.Parameter)
    assert problem.double().value(problem.weights) == pytest.approx(problem.value(problem.weights))
    v = torch.ones_like(problem.weights)
    difference = problem.gradient(problem.weights + 1e-6 * v) - problem.gradient(problem.weights - 1e-6 * v)
    torch.testing.assert_close(problem.hessian(problem.weights)(v), difference / 2e-6, rtol=1e-6, atol=1e-8)


def test_tied_names():
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    assert tied_names(nn.ModuleDict({"a": embedding, "b": head})) == {"b.weight": "a.weight"}
    assert tied_names(nn.ModuleDict({"a": embedding, "b": embedding})) == {}
