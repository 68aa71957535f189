"""Hugging Face models and batches: padding, tied weights, attention kernels, vocabularies."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader

from landscape import hessian, seeds
from landscape.batches import as_pair
from landscape.errors import InputError
from landscape.kernels import twice_differentiable
from landscape.losses import loss_by_name
from landscape.problem import Problem
from landscape.spec import HessianSpec

pytestmark = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is missing")

VOCABULARY, LENGTHS = 13, (6, 4, 2, 5, 3)
CAUSAL = loss_by_name("causal_lm")


def gpt2(implementation="eager", **changes):
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": VOCABULARY, "n_positions": 8, "n_embd": 6, "n_layer": 2, "n_head": 2,
             "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}  # fmt: skip
    with seeds.global_stream(0, "gpt2"):
        return GPT2LMHeadModel(GPT2Config(**sizes | changes, attn_implementation=implementation)).double()


def sentences():
    draws = seeds.gaussian(seeds.stream(0, "sentences"), len(LENGTHS), torch.empty(max(LENGTHS)))
    rows = (draws * 100).abs().long() % VOCABULARY
    return [row[:length] for row, length in zip(rows, LENGTHS, strict=True)]


def padded(rows, left=False, labels=None):
    """One batch as collators give it, padded with token 0, labels = input_ids unless `labels` fills them."""
    width = max(map(len, rows))
    ids, mask = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
    for i, row in enumerate(rows):
        place = slice(width - len(row), None) if left else slice(len(row))
        ids[i, place], mask[i, place] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids if labels is None else labels(ids, mask)}


def batches(**options):
    rows = sentences()
    return [padded(rows[:3], **options), padded(rows[3:], **options)]


def difference(problem, w, v, step=1e-4):
    """H v by a difference of gradients of fourth order."""
    g = {k: problem.gradient(w + k * step * v) for k in (-2, -1, 1, 2)}
    return (8 * (g[1] - g[-1]) - (g[2] - g[-2])) / (12 * step)


def direction(w):
    v = seeds.gaussian(seeds.stream(0, "direction"), 1, w)[0]
    return v / v.norm()


def dense_gauss_newton(problem, model, rows, last_axis=-1):
    """Jᵀ H_L J / N over single sentences without padding, J by reverse mode."""
    w = problem.weights
    G = torch.zeros(len(w), len(w), dtype=w.dtype)
    for row in rows:

        def logits(x, row=row):
            return functional_call(model, problem.named(x), (row[None],)).logits[0, :-1]

        with twice_differentiable(model):
            J = torch.autograd.functional.jacobian(logits, w)
        for one, p in zip(J, logits(w).detach().softmax(1), strict=True):
            G += one.T @ (torch.diag(p) - torch.outer(p, p)) @ one
    return G / problem.size


# -- causal language models ------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [None, lambda ids, mask: ids.masked_fill(mask == 0, -100)],
                         ids=["labels_are_inputs", "labels_masked"])  # fmt: skip
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padded_batches_are_the_mean_over_real_tokens(implementation, labels):
    model = gpt2(implementation).eval()
    problem = Problem(model, CAUSAL, batches(labels=labels))
    w = problem.weights
    assert problem.size == sum(LENGTHS) - len(LENGTHS)
    total, hits = 0.0, 0
    with torch.no_grad():
        for row in sentences():
            logits = model(row[None]).logits[0, :-1]
            total += F.cross_entropy(logits, row[1:], reduction="sum").item()
            hits += (logits.argmax(1) == row[1:]).sum().item()
    assert problem.value(w) == pytest.approx(total / problem.size, rel=1e-12)
    assert problem.evaluate(w).accuracy == pytest.approx(hits / problem.size)
    v = direction(w)
    step = 1e-5
    slope = (problem.value(w + step * v) - problem.value(w - step * v)) / (2 * step)
    assert (problem.gradient(w) @ v).item() == pytest.approx(slope, rel=1e-6)
    torch.testing.assert_close(problem.hessian(w)(v), difference(problem, w, v), rtol=1e-6, atol=1e-8)
    expected = dense_gauss_newton(problem, model, sentences())
    torch.testing.assert_close(problem.ggn(w)(v), expected @ v, rtol=1e-9, atol=1e-11)
    plain = "plain attention (flash and memory-efficient kernels off)"
    assert problem.conditions()["kernels"] == (plain if implementation == "sdpa" else "default")


@pytest.mark.parametrize("left", [False, True])
def test_one_batch_is_the_models_own_loss(left):
    model = gpt2("sdpa").eval()
    batch = padded(sentences(), left=left, labels=lambda ids, mask: ids.masked_fill(mask == 0, -100))
    problem = Problem(model, CAUSAL, [batch])
    with torch.no_grad():
        assert problem.value(problem.weights) == pytest.approx(model(**batch).loss.item(), rel=1e-6)  # in float32
    w, v = problem.weights, direction(problem.weights)
    torch.testing.assert_close(problem.hessian(w)(v), difference(problem, w, v), rtol=1e-6, atol=1e-8)


def test_the_reference_is_the_same_problem_without_padding():
    model = gpt2()
    whole = Problem(model, CAUSAL, batches())
    single = Problem(model, CAUSAL, [padded([row]) for row in sentences()])
    w, v = whole.weights, direction(whole.weights)
    assert single.size == whole.size
    for name in ("hessian", "ggn", "fisher-empirical"):
        torch.testing.assert_close(whole.operator(name, w)(v), single.operator(name, w)(v))


def test_eigenvalues_of_a_language_model():
    problem = Problem(gpt2(n_layer=1, n_embd=4), CAUSAL, batches()).restricted(["*.attn.*"])
    w = problem.weights
    eye = torch.eye(len(w), dtype=torch.float64)
    for operator in ("hessian", "ggn"):
        matvec = problem.operator(operator, w)
        A = torch.stack([matvec(e) for e in eye])
        torch.testing.assert_close(A, A.T, rtol=1e-9, atol=1e-11)
        result = hessian.measure(problem, HessianSpec(count=2, operator=operator, tolerance=1e-8))
        np.testing.assert_allclose(result.eigenvalues, torch.linalg.eigvalsh(A).flip(0)[:2].numpy(), rtol=1e-7)
        assert result.conditions["examples"] == problem.size


def test_tied_weights_count_once_and_frozen_ones_not():
    model = gpt2()
    assert Problem(model, CAUSAL, batches()).weights.numel() == sum(p.numel() for p in model.parameters())
    names = Problem(model, CAUSAL, batches()).restricted(["lm_head.weight"])
    assert list(names.named(names.weights)) == ["transformer.wte.weight"]
    model.transformer.wte.requires_grad_(False)
    problem = Problem(model, CAUSAL, batches())
    assert "transformer.wte.weight" not in problem.named(problem.weights)
    w, v = problem.weights, direction(problem.weights)
    torch.testing.assert_close(problem.hessian(w)(v), difference(problem, w, v), rtol=1e-6, atol=1e-8)


def test_nothing_of_the_callers_is_touched():
    model = gpt2().train()
    given = batches()
    copies = [{k: t.clone() for k, t in batch.items()} for batch in given]
    problem = Problem(model, CAUSAL, given)
    problem.ggn(problem.weights)(problem.weights)
    assert model.training
    assert model.config.use_cache
    assert all(torch.equal(batch[k], copy[k]) for batch, copy in zip(given, copies, strict=True) for k in batch)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_model_of_ones_own_with_classes_last():
    ids = torch.stack([row[:2] for row in sentences()])
    targets = ids.flip(1)

    class Own(nn.Module):
        """Returns (logits, loss), as small GPTs on the web do."""

        def __init__(self):
            super().__init__()
            self.embedding, self.layer = nn.Embedding(VOCABULARY, 4), nn.Linear(4, VOCABULARY)

        def forward(self, tokens):
            return self.layer(self.embedding(tokens).cumsum(1).tanh()), None

    with seeds.global_stream(0, "own"):
        model = Own().double()
    problem = Problem(model, loss_by_name("token_cross_entropy"), [(ids[:2], targets[:2]), (ids[2:], targets[2:])])
    with torch.no_grad():
        expected = F.cross_entropy(model(ids)[0].flatten(0, 1), targets.flatten())
    assert problem.size == 10
    assert problem.value(problem.weights) == pytest.approx(expected.item())
    with pytest.raises(InputError, match="token_cross_entropy for classes on the last axis"):
        Problem(model, loss_by_name("cross_entropy"), [(ids, targets)])
    with pytest.raises(InputError, match="classes are expected on the outputs' last axis"):
        Problem(model, loss_by_name("token_cross_entropy"), [(ids, targets[:, 0])])


# -- other heads and other batches -----------------------------------------------------------------


def bert(labels=2, implementation="sdpa"):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=VOCABULARY, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=6, max_position_embeddings=8, num_labels=labels, initializer_range=0.3,
                        attn_implementation=implementation)  # fmt: skip
    with seeds.global_stream(0, "bert"):
        return BertForSequenceClassification(config).double()


def check_derivatives(problem, step=1e-4, precision=1e-6):
    """Gradient, Hessian and eigenvalues by differences; the Gauss-Newton matrix symmetric and semi-definite."""
    w, v = problem.weights, direction(problem.weights)
    f = {k: problem.value(w + k * step * v) for k in (-2, -1, 1, 2)}
    slope = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * step)
    assert (problem.gradient(w) @ v).item() == pytest.approx(slope, rel=precision, abs=1e-9)
    expected = difference(problem, w, v, step)
    assert (problem.hessian(w)(v) - expected).norm() < 10 * precision * expected.norm()
    u = problem.gradient(w)
    ggn = problem.ggn(w)
    assert (u @ ggn(v)).item() == pytest.approx((v @ ggn(u)).item(), rel=precision)
    assert (v @ ggn(v)).item() > 0
    assert hessian.measure(problem, HessianSpec(count=1, tolerance=1e-3, sampling_error=False)).converged.all()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_classifier_of_sentences(implementation):
    model = bert(3, implementation).eval()
    rows, y = sentences(), torch.tensor([0, 2, 1, 1, 0])
    pairs = [{**padded(rows[:3]), "labels": y[:3]}, {**padded(rows[3:]), "labels": y[3:]}]
    problem = Problem(model, loss_by_name("cross_entropy"), pairs)
    with torch.no_grad():
        expected = np.mean(
            [F.cross_entropy(model(row[None]).logits, t[None]).item() for row, t in zip(rows, y, strict=True)]
        )
    assert problem.size == 5
    assert problem.value(problem.weights) == pytest.approx(expected)
    check_derivatives(problem)
    pair = Problem(model, nn.CrossEntropyLoss(reduction="sum"), [(padded(rows, labels=lambda *_: None), y)])
    assert pair.value(pair.weights) == pytest.approx(expected)


def test_a_regression_head():
    model = bert(1).eval()
    y = torch.linspace(-1, 1, 5).double()
    problem = Problem(model, loss_by_name("mse"), [{**padded(sentences()), "labels": y}])
    with torch.no_grad():
        expected = np.mean(
            [(model(row[None]).logits.item() - t.item()) ** 2 for row, t in zip(sentences(), y, strict=True)]
        )
    assert problem.value(problem.weights) == pytest.approx(expected)
    check_derivatives(problem)


def test_an_encoder_decoder():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=VOCABULARY, d_model=4, d_kv=2, d_ff=6, num_layers=1, num_heads=2,
                      decoder_start_token_id=0)  # fmt: skip
    with seeds.global_stream(0, "t5"):
        model = T5ForConditionalGeneration(config).double().eval()
    batch = padded(sentences())
    labels = batch["input_ids"].flip(1)  # as long as the inputs: their mask must not be applied to it
    problem = Problem(
        model, loss_by_name("token_cross_entropy"), [{**batch, "labels": labels, "decoder_input_ids": labels}]
    )
    with torch.no_grad():
        logits = model(**batch | {"labels": None, "decoder_input_ids": labels}).logits
    assert problem.size == labels.numel()
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()
    assert problem.value(problem.weights) == pytest.approx(expected)
    check_derivatives(problem, step=1e-2, precision=1e-3)  # T5's layer norms compute in float32


def test_a_vision_transformer():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=4, patch_size=2, num_channels=1, hidden_size=4, num_hidden_layers=1,
                       num_attention_heads=2, intermediate_size=6, num_labels=3)  # fmt: skip
    with seeds.global_stream(0, "vit"):
        model = ViTForImageClassification(config).double()
    x = seeds.gaussian(seeds.stream(0, "images"), 6, torch.empty(16, dtype=torch.float64)).view(6, 1, 4, 4)
    check_derivatives(Problem(model, loss_by_name("cross_entropy"), [(x, torch.arange(6) % 3)]))


def test_batches_of_loaders_and_tokenisers():
    from transformers import BatchEncoding, default_data_collator

    whole = padded(sentences())
    rows = [{key: value[i] for key, value in whole.items()} for i in range(len(LENGTHS))]
    model = gpt2()
    expected = Problem(model, CAUSAL, [whole])
    loader = DataLoader(rows, batch_size=2, collate_fn=default_data_collator)  # type: ignore[arg-type]
    for source in ([BatchEncoding(whole)], loader, [(BatchEncoding(whole), whole["labels"])]):
        problem = Problem(model, CAUSAL, source)
        assert problem.size == expected.size
        assert problem.value(problem.weights) == pytest.approx(expected.value(problem.weights), rel=1e-12)
    shuffled = DataLoader(rows, batch_size=2, shuffle=True, collate_fn=default_data_collator)  # type: ignore[arg-type]
    with seeds.global_stream(0, "shuffle"), pytest.raises(InputError, match="different data at two passes"):
        Problem(model, CAUSAL, shuffled)


def test_batches_without_labels_are_refused():
    batch = {key: value for key, value in padded(sentences()).items() if key != "labels"}
    with pytest.raises(InputError, match=r"input_ids, attention_mask without a tensor `labels`\. Add it"):
        as_pair(batch)
    with pytest.raises(InputError, match="nor a mapping with `labels`"):
        as_pair(batch["input_ids"])


def test_a_loss_that_averages_over_tokens_is_refused():
    def mean_over_tokens(outputs, labels):
        return F.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    with pytest.raises(InputError, match="it must sum"):
        Problem(gpt2(), mean_over_tokens, [padded(sentences())])


# -- a full vocabulary -----------------------------------------------------------------------------


@pytest.mark.slow
def test_gauss_newton_with_a_full_vocabulary_fits_into_memory():
    """8 × 128 tokens of 50,257 kinds: logits alone are 0.2 GiB, a matrix of outputs by outputs 10⁷ GiB."""
    child = Path(__file__).with_name("vocabulary_child.py")
    done = subprocess.run([sys.executable, child, "256", "4", "8"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["parameters"] == 16_287_488
    assert found["tokens"] == 8 * 127
    assert found["quadratic"] > 0
    assert found["peak_gib"] < 6
