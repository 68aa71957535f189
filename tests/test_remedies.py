"""Conservative and adversarial training and gradient noise, against loops written with explicit tensors."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.run import train

SPEC = TrainSpec(epochs=3, batch_size=20, learning_rate=0.1)
F = nn.functional


def data() -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), 53, torch.empty(4, dtype=torch.float64))
    split = Split(x, x[:, :3].argmax(1))
    return Dataset("toy", split, split, "classification", 3, "", {})


def network(norm=True, dropout=0.0) -> nn.Sequential:
    with seeds.global_stream(1, "network"):
        layers = [
            nn.Linear(4, 6, bias=False),
            nn.BatchNorm1d(6) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
        ]
        return nn.Sequential(*layers, nn.Linear(6, 3)).double()


def parts(epochs=3):
    for epoch in range(1, epochs + 1):
        for part in seeds.permutation(seeds.stream(0, "order", epoch), 53).split(20):
            yield epoch, data().train.inputs[part], data().train.targets[part]


class Written:
    """The network as a function of a list of tensors; `statistics` are its running mean and variance."""

    def __init__(self) -> None:
        self.w = [p.detach().clone() for p in network().parameters()]
        self.mean, self.var = torch.zeros(6).double(), torch.ones(6).double()

    def loss(self, w, x, y, move=False):
        h = x @ w[0].T
        mean, var = h.mean(0), h.var(0, unbiased=False)
        if move:
            self.mean = 0.9 * self.mean + 0.1 * mean.detach()
            self.var = 0.9 * self.var + 0.1 * var.detach() * len(x) / (len(x) - 1)
        z = ((h - mean) / (var + 1e-5).sqrt() * w[1] + w[2]).relu() @ w[3].T + w[4]
        return (z.logsumexp(1) - z[torch.arange(len(y)), y]).mean()

    def gradient(self, w, x, y, move=False):
        w = [p.clone().requires_grad_() for p in w]
        return torch.autograd.grad(self.loss(w, x, y, move), w)

    def equals(self, model: nn.Module) -> None:
        for p, w in zip(model.parameters(), self.w, strict=True):
            torch.testing.assert_close(p.detach(), w, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(model[1].running_mean, self.mean)
        torch.testing.assert_close(model[1].running_var, self.var)


def sgd(w, g, m, rate=0.1, momentum=0.9):
    m[:] = [momentum * a + b for a, b in zip(m, g, strict=True)]
    return [p - rate * b for p, b in zip(w, m, strict=True)]


def adam(w, g, state, rate=0.01):
    state["t"] += 1
    state["m"] = [0.9 * a + 0.1 * b for a, b in zip(state["m"], g, strict=True)]
    state["v"] = [0.999 * a + 0.001 * b * b for a, b in zip(state["v"], g, strict=True)]
    c, d = 1 - 0.9 ** state["t"], 1 - 0.999 ** state["t"]
    steps = [m / c / ((v / d).sqrt() + 1e-8) for m, v in zip(state["m"], state["v"], strict=True)]
    return [p - rate * s for p, s in zip(w, steps, strict=True)]


# -- conservative training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("inner", [1, 3])
def test_conservative_training_is_the_proximal_subproblem(optimiser, inner):
    spec = replace(SPEC, optimiser=optimiser, conservative=2.0, conservative_steps=inner,
                   learning_rate=0.1 if optimiser == "sgd" else 0.01)  # fmt: skip
    hand = Written()
    zeros = [torch.zeros_like(p) for p in hand.w]
    momentum, state = list(zeros), {"t": 0, "m": zeros, "v": zeros}
    for _, x, y in parts():
        start = hand.w
        for turn in range(inner):
            g = hand.gradient(hand.w, x, y, move=turn == 0)
            g = [a + 2.0 * (p - q) for a, p, q in zip(g, hand.w, start, strict=True)]
            hand.w = sgd(hand.w, g, momentum) if optimiser == "sgd" else adam(hand.w, g, state)
    hand.equals(train(network(), data(), spec).model)


def test_conservative_steps_alone_change_nothing_without_lambda():
    plain, same = (train(network(), data(), replace(SPEC, conservative_steps=k)).model for k in (3, 7))
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in plain.state_dict().items())


def test_a_strong_pull_holds_the_weights_back():
    near, far = (
        train(network(), data(), replace(SPEC, momentum=0.0, conservative=c)).history[-1]["distance"]
        for c in (9.0, 1e-9)
    )
    assert near < far


def test_inner_steps_count_as_one_and_rows_are_of_the_first():
    frozen = replace(SPEC, learning_rate=0.0, conservative=1.0, epochs=1)
    (row,), (plain,) = (train(network(), data(), s).history for s in (frozen, replace(frozen, conservative=0.0)))
    assert row["step"] == plain["step"] == 3
    assert row["train_loss"] == plain["train_loss"]


# -- adversarial training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_adversarial_training_follows_the_formula(share):
    spec, hand = replace(SPEC, adversarial_share=share, adversarial_epsilon=0.25), Written()
    momentum = [torch.zeros_like(p) for p in hand.w]
    for _, x, y in parts():
        slope = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(hand.loss(hand.w, slope, y), slope)
        clean = hand.gradient(hand.w, x, y, move=True)
        bad = hand.gradient(hand.w, x + 0.25 * slope.sign(), y)
        g = [(1 - share) * a + share * b for a, b in zip(clean, bad, strict=True)]
        hand.w = sgd(hand.w, g, momentum)
    found = train(network(), data(), spec)
    hand.equals(found.model)


def test_all_passes_of_a_step_see_the_same_dropout_masks():
    """With ε → 0 adversarial training is plain training, but only when masks are those of the clean pass."""
    plain = train(network(dropout=0.5), data(), SPEC).model
    tiny = train(network(dropout=0.5), data(), replace(SPEC, adversarial_share=0.5, adversarial_epsilon=1e-13)).model
    for a, b in zip(plain.parameters(), tiny.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_robust_training_lowers_the_loss_on_adversarial_examples():
    spec = replace(SPEC, epochs=30, momentum=0.0)

    def attacked(model):
        x, y = data().train.inputs.clone().requires_grad_(), data().train.targets
        (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        return F.cross_entropy(model((x + 0.5 * slope.sign()).detach()), y).item()

    plain, robust = (
        train(network(norm=False), data(), replace(spec, adversarial_share=s, adversarial_epsilon=0.5)).model
        for s in (0.0, 0.5)
    )
    assert attacked(robust) < attacked(plain)


def test_tokens_cannot_be_moved():
    tokens = Split(torch.arange(20).view(10, 2) % 5, torch.arange(20).view(10, 2) % 5)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    text = Dataset("text", tokens, tokens, "language", 5, "", {})
    with pytest.raises(InputError, match=r"adversarial_share = 0\.5 .* whole-number inputs"):
        train(model, text, TrainSpec(epochs=1, adversarial_share=0.5))


# -- gradient noise ------------------------------------------------------------------------------------------


def noise(eta, decay, epochs=3) -> torch.Tensor:
    """The noise itself, one row a step: what a step of rate 1 takes off weights whose loss is flat."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2000, dtype=torch.float64))

        def forward(self, x):
            return x[:, :3] + 0 * self.w.sum()

    spec = replace(SPEC, epochs=epochs, batch_size=53, learning_rate=1.0, momentum=0.0, gradient_noise=eta,
                   gradient_noise_decay=decay, clip_norm=1e-3)  # fmt: skip
    seen = [torch.zeros(2000).double()]
    for count in range(1, epochs + 1):
        seen.append(train(Flat(), data(), replace(spec, epochs=count)).model.w.detach().clone())
    return torch.stack(seen).diff(dim=0)


@pytest.mark.parametrize(("eta", "decay"), [(0.3, 0.55), (1.0, 2.0), (0.01, 0.0)])
def test_noise_has_the_variance_of_the_formula_after_clipping(eta, decay):
    draws = noise(eta, decay)
    for t, row in enumerate(draws):
        sigma = math.sqrt(eta / (1 + t) ** decay)
        assert row.std().item() == pytest.approx(sigma, rel=4 / math.sqrt(2 * 2000))
        assert abs(row.mean().item()) < 4 * sigma / math.sqrt(2000)
    cross = (draws[0] * draws[1]).mean() / draws[0].std() / draws[1].std()
    assert abs(cross.item()) < 4 / math.sqrt(2000)


def test_noise_belongs_to_the_seed_and_the_step(tmp_path):
    spec = replace(SPEC, gradient_noise=0.01, save_every=1, conservative=0.5)
    whole = train(network(), data(), spec)

    class StoppedError(Exception):
        pass

    def stop(done, total, note):
        if done == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(network(), data(), spec, tmp_path, progress=stop, pause=0.0)
    again = train(network(), data(), spec, tmp_path).model
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.model.state_dict().items())
    other = train(network(), data(), replace(spec, seed=1)).model
    assert not torch.equal(other[0].weight, again[0].weight)
