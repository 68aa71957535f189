"""Ghost batch norm against small batches one after the other and the paper's formula, with explicit tensors."""

import copy
import math

import pytest
import torch
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.ghost_norm import chunk_sizes, ghost_batches
from landscape.training.run import train


def normalised(x, weight, bias, eps=1e-5):
    axes = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, var = x.mean(axes), x.var(axes, unbiased=False)
    y = (x - mean.view(shape)) / (var.view(shape) + eps).sqrt()
    return y * weight.view(shape) + bias.view(shape), mean, x.var(axes, unbiased=True)


@pytest.mark.parametrize("shape", [(22, 3), (22, 3, 5), (22, 3, 4, 4)])
@pytest.mark.parametrize("momentum", [0.1, 0.4])
def test_chunks_and_running_statistics_follow_the_formula(shape, momentum):
    x = seeds.gaussian(seeds.stream(0, "x"), shape[0], torch.empty(math.prod(shape[1:]), dtype=torch.float64))
    x = x.view(shape)
    layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](3, momentum=momentum).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.5, 2.0]))
        layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
        layer.running_mean.fill_(0.7)
    with ghost_batches(layer, 8):
        out = layer(x)
    chunks = [normalised(c, layer.weight, layer.bias) for c in (x[:8], x[8:16], x[16:])]
    torch.testing.assert_close(out, torch.cat([y for y, _, _ in chunks]))
    k, eta = len(chunks), momentum
    mean = (1 - eta) ** k * 0.7 + sum((1 - eta) ** (k - i) * eta * m for i, (_, m, _) in enumerate(chunks, 1))
    var = (1 - eta) ** k * 1.0 + sum((1 - eta) ** (k - i) * eta * v for i, (_, _, v) in enumerate(chunks, 1))
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, var)


@pytest.mark.parametrize(
    ("examples", "size", "sizes"),
    [(16, 8, [8, 8]), (17, 8, [8, 9]), (18, 8, [8, 8, 2]), (9, 8, [9]), (3, 2, [3]), (5, 2, [2, 3])],
)
def test_chunk_sizes(examples, size, sizes):
    assert chunk_sizes(examples, size) == sizes
    assert sum(sizes) == examples


def test_nothing_else_changes():
    layer = nn.BatchNorm1d(3)
    x = seeds.gaussian(seeds.stream(0, "x"), 20, torch.empty(3))
    plain = copy.deepcopy(layer)
    expected = plain(x[:4])
    with ghost_batches(layer, 4):
        assert layer.state_dict().keys() == plain.state_dict().keys()
        assert torch.equal(layer(x[:4]), expected)  # a batch of one chunk
        assert torch.equal(layer.eval()(x), plain.eval()(x))
    assert "forward" not in vars(layer)
    assert torch.equal(layer.train()(x), plain.train()(x))


def test_the_forward_comes_back_after_an_exception():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(RuntimeError), ghost_batches(layer, 4):
        layer(torch.zeros(9, 5))
    assert "forward" not in vars(layer)


def data(n=53) -> Dataset:
    x = seeds.gaussian(seeds.stream(0, "inputs"), n, torch.empty(4, dtype=torch.float64))
    split = Split(x, x[:, :3].argmax(1))
    return Dataset("toy", split, split, "classification", 3, "", {})


def network() -> nn.Module:
    with seeds.global_stream(1, "network"):
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()


class ByHand(nn.Module):
    """The same network with its normalisation written out, in chunks of eight; second passes leave the statistics."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.frozen = False

    def forward(self, x):
        norm, h, parts = self.model[1], self.model[0](x), []
        for chunk in h.split(8):
            y, mean, var = normalised(chunk, norm.weight, norm.bias)
            parts.append(y)
            if not self.frozen:
                with torch.no_grad():
                    norm.running_mean.copy_(0.9 * norm.running_mean + 0.1 * mean)
                    norm.running_var.copy_(0.9 * norm.running_var + 0.1 * var)
        return self.model[3](torch.cat(parts).relu())


@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_training_equals_a_loop_written_out(rho):
    data_, spec = data(), TrainSpec(epochs=3, batch_size=20, ghost_batch=8, rho=rho, momentum=0.0)
    hand = ByHand(network())
    parameters = list(hand.parameters())
    for epoch in (1, 2, 3):
        order = seeds.permutation(seeds.stream(0, "order", epoch), 53)
        for part in order.split(20):  # 20, 20, 13: chunks of 8, 8, 4 and 8, 5
            x, y = data_.train.inputs[part], data_.train.targets[part]
            hand.frozen = False
            g = torch.autograd.grad(nn.functional.cross_entropy(hand(x), y), parameters)
            if rho:
                norm = sum((d**2).sum() for d in g).sqrt() + 1e-12
                kept = [p.detach().clone() for p in parameters]
                with torch.no_grad():
                    for p, d in zip(parameters, g, strict=True):
                        p.add_(rho * d / norm)
                hand.frozen = True
                g = torch.autograd.grad(nn.functional.cross_entropy(hand(x), y), parameters)
                with torch.no_grad():
                    for p, w in zip(parameters, kept, strict=True):
                        p.copy_(w)
            with torch.no_grad():
                for p, d in zip(parameters, g, strict=True):
                    p.sub_(0.1 * d)
    trained = train(network(), data_, spec).model
    for name, value in trained.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(value, hand.model.state_dict()[name], rtol=1e-9, atol=1e-10)
    assert trained[1].num_batches_tracked == 3 * (3 + 3 + 2)


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(InputError, match=r"ghost_batch = 8 .* without batch norm"):
        train(nn.Linear(4, 3).double(), data(), TrainSpec(epochs=1, ghost_batch=8))
