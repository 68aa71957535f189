"""The two kinds of decay told apart, and what older files mean by one name. The steps themselves: test_sam.py."""

import json

import pytest
import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.spec import CurveTrainSpec, TrainSpec
from landscape.training.run import train


def before_l2(spec: TrainSpec) -> dict:
    """The record as it was written before there was `l2`."""
    return {k: v for k, v in spec.to_dict().items() if k != "l2"}


@pytest.mark.parametrize("kind", [TrainSpec, CurveTrainSpec])
@pytest.mark.parametrize(("optimiser", "l2", "decoupled"), [("sgd", 0.01, 0), ("adam", 0.01, 0), ("adamw", 0, 0.01)])
def test_old_records_keep_their_meaning(kind, optimiser, l2, decoupled):
    old = before_l2(kind(optimiser=optimiser, weight_decay=0.01))
    spec = kind.from_dict(json.loads(json.dumps(old)))
    assert (spec.l2, spec.weight_decay) == (l2, decoupled)
    assert kind.from_dict(spec.to_dict()) == spec


def test_parts_of_a_spec_are_read_as_they_are_named():
    spec = TrainSpec.from_dict({"optimiser": "sgd", "weight_decay": 0.01})
    assert (spec.l2, spec.weight_decay) == (0, 0.01)


def data() -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 24, torch.empty(4))
    split = Split(x, x[:, :3].argmax(1))
    return Dataset("toy", split, split, "classification", 3, "", {})


def network() -> nn.Module:
    with seeds.global_stream(1, "network"):
        return nn.Linear(4, 3)


def moved(spec: TrainSpec) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in train(network(), data(), spec).model.parameters()])


def test_an_old_run_of_sgd_goes_on_as_it_began(tmp_path):
    spec = TrainSpec(epochs=3, l2=0.05, save_every=1)
    whole = train(network(), data(), spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["train"] = {**before_l2(spec), "weight_decay": 0.05}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = train(network(), data(), spec, tmp_path)
    assert again.history == whole.history


def test_the_kinds_differ_under_adam_and_agree_in_one_plain_step():
    sgd = {"epochs": 1, "batch_size": 24, "momentum": 0.0, "learning_rate": 0.1}
    same = [moved(TrainSpec(**sgd, **{kind: 0.3})) for kind in ("l2", "weight_decay")]
    torch.testing.assert_close(*same)
    adam = {"epochs": 1, "batch_size": 24, "optimiser": "adam", "learning_rate": 0.1}
    l2, decoupled = (moved(TrainSpec(**adam, **{kind: 0.3})) for kind in ("l2", "weight_decay"))
    assert not torch.allclose(l2, decoupled)
    adamw = moved(TrainSpec(**{**adam, "optimiser": "adamw"}, weight_decay=0.3))
    torch.testing.assert_close(decoupled, adamw)
