"""Two networks of one architecture, one with its units in the other's order."""

import pytest
import torch
from test_units import problem_of

from landscape.errors import InputError
from landscape.units.alignment import align
from landscape.units.transform import transformed, units_of_problem


@pytest.mark.parametrize(
    "name", ["mlp", "norm_cnn", "resnet20", "transformer", "autoencoder", "recurrent", "plain_attention", "group_norm"]
)
def test_a_planted_permutation_is_undone(name):
    problem = problem_of(name)
    planted = transformed(problem, units_of_problem(problem), "permutation", seed=3)
    found = align(problem, planted.problem)
    assert torch.equal(found.problem.weights, problem.weights)
    assert all(torch.equal(x, problem.buffers()[k]) for k, x in found.problem.buffers().items())
    assert torch.equal(found.carry(planted.problem.weights), problem.weights)
    assert torch.equal(planted.problem.weights[found.order], problem.weights)


def test_another_architecture_is_refused():
    with pytest.raises(InputError, match=r"0.weight is \(5, 6\) in the reference and \(4, 1, 3, 3\)"):
        align(problem_of("mlp"), problem_of("norm_cnn"))
