"""Text files as data, and language models on the command line."""

import json
import math

import pytest
import torch
from click.testing import CliRunner

from landscape.data import load_dataset
from landscape.errors import InputError
from landscape_cli.main import landscape

TEXT = "to be, or not to be — that is the question.\n" * 40


@pytest.fixture
def text(tmp_path):
    (tmp_path / "speech.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def decoded(data, row):
    return "".join(data.preprocessing["vocabulary"][int(i)] for i in row)


def test_windows_and_what_follows_them(text):
    data = load_dataset("text", (("path", "speech.txt"), ("length", "10")), text)
    assert (data.task, data.loss, data.input_shape) == ("language", "token_cross_entropy", (10,))
    assert data.classes == len(set(TEXT))
    assert data.preprocessing["vocabulary"] == "".join(sorted(set(TEXT)))
    border = len(TEXT) - round(0.1 * len(TEXT))
    for split, part in ((data.train, TEXT[:border]), (data.test, TEXT[border:])):
        assert len(split) == (len(part) - 1) // 10
        for i in (0, len(split) - 1):
            assert decoded(data, split.inputs[i]) == part[10 * i : 10 * i + 10]
            assert decoded(data, split.targets[i]) == part[10 * i + 1 : 10 * i + 11]


def test_overlapping_windows_and_a_given_vocabulary(text):
    letters = "".join(sorted(set(TEXT), reverse=True)) + "Z"
    arguments = (("path", "speech.txt"), ("length", "7"), ("stride", "3"), ("vocabulary", letters))
    data = load_dataset("text", arguments, text)
    assert data.classes == len(letters)
    assert decoded(data, data.train.inputs[2]) == TEXT[6:13]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("path", "none.txt"),), r"no such file.*Give path=FILE.txt"),
        ((("path", "speech.txt"), ("length", "0")), "length = 0 is not legal"),
        ((("path", "speech.txt"), ("length", "400")), "too few for one window of length 400"),
        ((("path", "speech.txt"), ("vocabulary", "abc")), r"vocabulary lacks characters of .*speech.txt: '\\n'"),
        ((("path", "speech.txt"), ("vocabulary", "aa")), "characters that differ"),
        ((("path", "speech.txt"), ("test_fraction", "1.5")), "test_fraction"),
        ((("path", "latin.txt"),), "is not UTF-8 text .* at byte 1"),
    ],
)
def test_texts_that_cannot_be_used(text, arguments, message):
    (text / "latin.txt").write_bytes(b"a\xe9b")
    with pytest.raises(InputError, match=message):
        load_dataset("text", arguments, text)


def test_the_real_text(data_folder):
    data = load_dataset("text", (("path", "tinyshakespeare/input.txt"),), data_folder)
    assert data.classes == 65
    assert decoded(data, data.train.inputs[0]).startswith("First Citizen:\nBefore we proceed")
    assert data.train.inputs.numel() + data.test.inputs.numel() > 1_115_394 - 200


def test_train_and_measure_a_character_level_model(text, monkeypatch, request):
    model = str(request.path.with_name("char_gpt.py")) + ":gpt"
    monkeypatch.chdir(text)
    data = ["--data", "text", "--data-arg", "path=speech.txt", "--data-arg", "length=16"]
    told = CliRunner().invoke(
        landscape, ["train", "run", "--model", model, *data, "--epochs", "2", "--optimiser", "adam", "--lr", "0.01"]
    )
    assert told.exit_code == 0, told.output
    for operator in ("hessian", "ggn"):
        options = ["--operator", operator, "--count", "1", "--json", "-o", f"{operator}.safetensors"]
        told = CliRunner().invoke(landscape, ["hessian", "run", *options, "--params", "h.0.*"])
        assert told.exit_code == 0, told.output
        found = json.loads(told.stdout)
        conditions = found["conditions"]
        assert conditions["examples"] == 16 * ((len(TEXT) * 9 // 10 - 1) // 16)
        assert conditions["loss"] < math.log(len(set(TEXT)))
        assert conditions["kernels"].startswith("plain attention")
        assert found["eigenvalues"][0] > 0
        assert found["converged"] == [True]


@pytest.mark.skipif("__import__('importlib.util').util.find_spec('transformers') is None", reason="no transformers")
def test_a_hugging_face_model_by_name(text, monkeypatch):
    from landscape.models import build_model
    from landscape.seeds import global_stream

    monkeypatch.chdir(text)
    sizes = {"n_embd": "8", "n_layer": "1", "n_head": "2", "n_positions": "8"}
    with global_stream(0, "text"):
        model = build_model("hf:gpt2", tuple(sizes.items()), outputs=len(set(TEXT)))
    torch.save(model.state_dict(), "gpt.pt")
    chosen = ["--model", "hf:gpt2", *(part for pair in sizes.items() for part in ("--model-arg", "=".join(pair)))]
    data = ["--data", "text", "--data-arg", "path=speech.txt", "--data-arg", "length=8", "--examples", "20"]
    told = CliRunner().invoke(landscape, ["hessian", "gpt.pt", *chosen, *data, "--count", "1", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["conditions"]["examples"] == 160
    told = CliRunner().invoke(landscape, ["hessian", "gpt.pt", *chosen, *data, "--loss", "cross_entropy"])
    assert told.exit_code == 2
    assert "token_cross_entropy" in told.stderr
