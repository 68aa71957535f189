"""The study of what predicts generalisation, on a smaller grid: every run reaches the loss, and all is in one file."""

import numpy as np
import pytest

from landscape import study_digits
from landscape.errors import InputError
from landscape.results import CorrelationResult, load
from landscape.spec import MeasuresSpec

GRID = {"batch_size": (64, 256), "learning_rate": (0.04,), "rho": (0.0, 0.15), "seed": (0,)}


def test_the_grid_has_what_it_promises():
    recipes = dict(study_digits.recipes())
    assert len(recipes) == 36
    assert len({(s.batch_size, s.learning_rate, s.rho, s.seed) for s in recipes.values()}) == 36


@pytest.mark.slow
def test_a_small_study(tmp_path):
    few = MeasuresSpec(measures=("trace", "norm", "margin"))
    found = study_digits.run(tmp_path / "runs", tmp_path / "result.safetensors", GRID, few)
    again = load(tmp_path / "result.safetensors")
    assert isinstance(again, CorrelationResult)
    assert found.factors == ("batch_size", "rho")
    assert "λ1" in found.measures
    losses = found.values[:, found.columns.index("train loss")]
    assert (losses < 0.012).all()  # at the end of the epoch whose mean was no larger
    np.testing.assert_array_equal(again.taus, found.taus)
    assert np.isfinite(found.taus[found.measures.index("norm ‖w‖₂")])


def test_a_training_that_does_not_get_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(study_digits, "BASE", study_digits.TrainSpec(epochs=1, until_loss=study_digits.LOSS))
    with pytest.raises(InputError, match="ended at a training loss"):
        study_digits.run(tmp_path / "runs", tmp_path / "result.safetensors", GRID)
    assert not (tmp_path / "result.safetensors").exists()
