"""Architectures of other libraries by name; timm and torchvision by stand-ins with their interface."""

import importlib.util
import sys
import types

import pytest
import torch
from torch import nn

from landscape.errors import InputError
from landscape.models import build_model
from landscape.seeds import global_stream

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is missing"
)
SMALL = (("n_embd", "8"), ("n_layer", "1"), ("n_head", "2"), ("n_positions", "16"))


def made(name, *arguments, **offered):
    with global_stream(0, "adapters"):
        return build_model(name, arguments, **offered)


@needs_transformers
def test_a_language_model_by_its_type():
    model = made("hf:gpt2", *SMALL, ("attn_implementation", "eager"), outputs=65)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.config._attn_implementation == "eager"
    assert model(torch.zeros(1, 3, dtype=torch.long)).logits.shape == (1, 3, 65)
    assert made("hf:gpt2", *SMALL, ("vocab_size", "70"), outputs=65).config.vocab_size == 70
    again = made("hf:gpt2", *SMALL, outputs=65)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@needs_transformers
def test_heads_by_kind_and_by_class():
    sizes = (("hidden_size", "8"), ("num_hidden_layers", "1"), ("num_attention_heads", "2"), ("intermediate_size", "8"))
    kind = made("hf:bert", *sizes, ("head", "SequenceClassification"), outputs=3)
    named = made("hf:bert", *sizes, ("head", "BertForSequenceClassification"), outputs=3)
    assert type(kind) is type(named)
    assert kind.classifier.out_features == 3
    assert kind.config.vocab_size == 30522


@needs_transformers
def test_a_saved_model(tmp_path):
    model = made("hf:gpt2", *SMALL, outputs=65)
    model.save_pretrained(tmp_path)
    again = made(f"hf:{tmp_path}", outputs=10)
    assert type(again) is type(model)
    assert {k: p.shape for k, p in again.named_parameters()} == {k: p.shape for k, p in model.named_parameters()}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="has no configuration that transformers reads"):
        made(f"hf:{tmp_path}")


@needs_transformers
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("hf:gtp2", (), "neither a folder with a config.json nor a model type of transformers .gpt2.*downloaded"),
        ("hf:gpt2", (("n_layers", "2"),), "has no entry 'n_layers'. Did you mean n_layer"),
        ("hf:gpt2", (*SMALL, ("head", "Sorting")), "head = 'Sorting' is no model class"),
        ("hf:gpt2", (*SMALL, ("n_head", "3")), "given twice"),
        ("hf:gpt2", (("n_embd", "8"), ("n_head", "3")), "hf:gpt2 failed: ValueError"),
    ],
)
def test_wrong_names_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        made(name, *arguments)


def stand_in(**functions):
    module = types.ModuleType("stand_in")
    vars(module).update(functions)
    return module


def linear(name, num_classes, in_chans=3, **others):
    assert others in ({"pretrained": False}, {"pretrained": False, "drop_rate": 0.1}, {"weights": None})
    return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * 4, num_classes))


def test_timm(monkeypatch):
    library = stand_in(is_model=lambda n: n == "resnet18", list_models=lambda: ["resnet18"], create_model=linear)
    monkeypatch.setitem(sys.modules, "timm", library)
    model = made("timm:resnet18", ("drop_rate", "0.1"), input_shape=(1, 2, 2), outputs=10)
    assert model(torch.zeros(1, 1, 2, 2)).shape == (1, 10)
    with pytest.raises(InputError, match=r"timm has no model 'resnet81'\. Did you mean resnet18"):
        made("timm:resnet81")


def test_torchvision(monkeypatch):
    library = stand_in(list_models=lambda: ["resnet18"], get_model=linear)
    monkeypatch.setitem(sys.modules, "torchvision", stand_in(models=library))
    assert made("torchvision:resnet18", outputs=10)(torch.zeros(1, 3, 2, 2)).shape == (1, 10)
    with pytest.raises(InputError, match="torchvision has no model 'vgg'"):
        made("torchvision:vgg")


def test_a_missing_or_broken_library_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm cannot be imported .*landscape-sharpness\[zoo\]"):
        made("timm:resnet18")
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(InputError, match=r"operator torchvision::nms does not exist.*a build that fits this torch"):
        made("torchvision:resnet18")


def test_a_file_of_that_name_is_still_a_factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is not a file"):
        made("timm.py:factory")
