"""Several measures of one minimum together: those that have no meaning there, and what the others keep."""

import numpy as np
import pytest
import torch
from subjects import on, trained
from torch import nn

from landscape import audit, measures
from landscape.errors import InputError, UndefinedError
from landscape.spec import MeasuresSpec


def tanh_problem():
    return on(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), 3)


def test_a_measure_without_meaning_leaves_the_others_their_numbers():
    problem = tanh_problem()
    result = measures.measure(problem, MeasuresSpec(measures=("distance", "norm", "path-norm", "margin")))
    assert dict.fromkeys(result.groups) == {"norm": None, "margin": None}
    assert result.values[0] == pytest.approx(problem.weights.norm().item())
    assert [name for name, _ in result.undefined] == ["distance", "path-norm"]
    assert "piecewise linear" in dict(result.undefined)["path-norm"]


def test_no_number_at_all_is_an_error_that_says_each_reason():
    with pytest.raises(UndefinedError, match=r"records no initial weights.*piecewise linear"):
        measures.measure(tanh_problem(), MeasuresSpec(measures=("distance", "path-norm")))


def test_a_wrong_layer_ends_the_work_before_it_begins():
    begun = []
    with pytest.raises(InputError, match="layer = 'nowhere'"):
        measures.measure(
            trained("mlp"), MeasuresSpec(measures=("trace", "relative-flatness"), layer="nowhere"),
            progress=lambda *what: begun.append(what),
        )  # fmt: skip
    assert begun == []


def test_the_audit_goes_on_without_what_has_no_meaning():
    problem = trained("mlp")
    result = audit.measure(problem, MeasuresSpec(measures=("norm", "distance")))
    assert result.measures == ("norm",)
    assert [name for name, _ in result.undefined] == ["distance"]
    assert np.isfinite(result.values_after).all()


def test_an_accuracy_that_cannot_fall_has_no_pac_bayes_sigma():
    problem = trained("mlp")
    guess = torch.zeros_like(problem.weights)
    result = measures.measure(problem, MeasuresSpec(measures=("norm", "pac-bayes"), drop=0.9), guess)
    assert result.names == ("norm ‖w‖₂",)
    assert "drop = 0.9 is not below the accuracy at the weights" in dict(result.undefined)["pac-bayes"]
