"""Networks whose hidden units are known by hand, and others that are hard to follow; all take a batch of tensors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.models.cnn import cnn
from landscape.models.keskar import keskar_c1
from landscape.models.resnet import cifar_resnet


class Net(nn.Module):
    """A forward function with modules and parameters by name."""

    def __init__(self, function: Callable[["Net", Tensor], Tensor], **parts: nn.Module | nn.Parameter):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def mlp(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), activation(), nn.Linear(5, 4), activation(), nn.Linear(4, 3))


def norm_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(16, 5), nn.LeakyReLU(0.1), nn.Linear(5, 3),
    )  # fmt: skip


def transformer() -> nn.Module:
    """Pre-norm, two heads of width 4, ReLU between `up` and `down`, added positions."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x) + m.position
        b, t, d = x.shape
        q, k, v = m.qkv(m.norm1(x)).view(b, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        x = x + m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d))
        x = x + m.down(F.relu(m.up(m.norm2(x))))
        return m.head(x.mean(1))

    return Net(
        forward, embed=nn.Linear(3, 8), position=nn.Parameter(torch.randn(5, 8)), norm1=nn.LayerNorm(8),
        qkv=nn.Linear(8, 24), out=nn.Linear(8, 8), norm2=nn.LayerNorm(8), up=nn.Linear(8, 6), down=nn.Linear(6, 8),
        head=nn.Linear(8, 3),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    """ReLU(xWᵀ + b)·W: what scales rows of W as a producer would scale them as a consumer."""
    return Net(lambda m, x: F.relu(m.a(x)) @ m.a.weight, a=nn.Linear(6, 5))


def token_mixer() -> nn.Module:
    """A linear layer over tokens while channels are units: elements belong to two kinds of units at once."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return m.head(m.tokens(F.relu(m.a(x)).transpose(1, 2)).mean(2))

    return Net(forward, a=nn.Linear(3, 8), tokens=nn.Linear(5, 4), head=nn.Linear(8, 3))


def strided() -> nn.Module:
    """Units reordered by memory, which no rule follows."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h = F.relu(m.a(x))
        return m.head(F.relu(m.b(torch.as_strided(h.contiguous(), (len(x), 4), (8, 2)))))

    return Net(forward, a=nn.Linear(6, 8), b=nn.Linear(4, 5), head=nn.Linear(5, 3))


def _gated(m: Net, x: Tensor) -> Tensor:
    a, b = m.up(x).chunk(2, -1)
    return m.head(F.silu(a) * b)


def _excited(m: Net, x: Tensor) -> Tensor:
    h = F.relu(m.conv(x))
    gates = torch.sigmoid(m.open(F.relu(m.close(h.mean((2, 3))))))
    return m.head((h * gates[:, :, None, None]).mean((2, 3)))


def _dense(m: Net, x: Tensor) -> Tensor:
    for conv in (m.a, m.b):
        x = torch.cat([x, F.relu(conv(x))], 1)
    return m.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _recurrent(m: Net, x: Tensor) -> Tensor:
    h = F.relu(m.a(x))
    for _ in range(3):
        h = F.relu(m.again(h))
    return m.head(h)


def _plain_attention(m: Net, x: Tensor) -> Tensor:
    b, t, d = x.shape
    q, k, v = (z.view(b, t, 2, d // 2).transpose(1, 2) for z in m.qkv(x).chunk(3, -1))
    y = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
    return m.head(F.relu(m.out(y.transpose(1, 2).reshape(b, t, d)))).mean(1)


def _in_place(m: Net, x: Tensor) -> Tensor:
    h = m.a(x).clone()
    h[:, :2] = 0
    h += 1
    return m.head(h.relu_())


def _with_class_token(m: Net, x: Tensor) -> Tensor:
    x = torch.cat([m.token.expand(len(x), -1, -1), m.embed(x)], 1) + m.position
    x = x + m.gain * m.down(F.relu(m.up(m.norm(x))))
    return m.head(x[:, 0])


def _selected(m: Net, x: Tensor) -> Tensor:
    h = F.relu(m.a(x))
    return m.head(h) + m.other(h[:, [0, 2, 4]])


def _own_norm(m: Net, x: Tensor) -> Tensor:
    h = m.a(x)
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True) + 1e-5).sqrt() * m.gain + m.shift
    return m.head(F.relu(h))


def _shuffled(m: Net, x: Tensor) -> Tensor:
    return m.head(F.relu(m.b(F.pixel_shuffle(F.relu(m.a(x)), 2))).mean((2, 3)))


def _depthwise(m: Net, x: Tensor) -> Tensor:
    return m.head(F.relu(m.b(F.relu(m.each(F.relu(m.a(x)))))).mean((2, 3)))


def _bare(m: Net, x: Tensor) -> Tensor:
    return F.relu(x @ m.w + m.b) @ m.v.T


VECTOR, IMAGE, TOKENS = (6,), (3, 8, 8), (5, 3)
linear, conv = nn.Linear, nn.Conv2d

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, VECTOR),
    "tanh": (lambda: mlp(nn.Tanh), VECTOR),
    "norm_cnn": (norm_cnn, (1, 6, 6)),
    "resnet20": (lambda: cifar_resnet(20), IMAGE),
    "transformer": (transformer, TOKENS),
    "autoencoder": (autoencoder, VECTOR),
    "token_mixer": (token_mixer, TOKENS),
    "strided": (strided, VECTOR),
    "cnn": (lambda: cnn(IMAGE, 3, (4, 6), norm="batch", dropout=0.1), IMAGE),
    "keskar_c1": (lambda: keskar_c1(IMAGE, 3), IMAGE),
    "gated": (lambda: Net(_gated, up=linear(6, 16), head=linear(8, 3)), VECTOR),
    "squeeze_excite": (
        lambda: Net(_excited, conv=conv(3, 6, 3), close=linear(6, 4), open=linear(4, 6), head=linear(6, 3)), IMAGE,
    ),
    "dense_net": (
        lambda: Net(_dense, a=conv(3, 4, 3, padding=1), b=conv(7, 5, 3, padding=1), head=linear(12, 3)), IMAGE,
    ),
    "recurrent": (lambda: Net(_recurrent, a=linear(6, 8), again=linear(8, 8), head=linear(8, 3)), VECTOR),
    "lstm": (lambda: Net(lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=nn.LSTM(3, 4, batch_first=True),
                         head=linear(4, 3)), TOKENS),
    "deep_gru": (lambda: Net(lambda m, x: m.head(m.gru(x)[0].mean(1)), head=linear(8, 3),
                             gru=nn.GRU(3, 4, 2, bidirectional=True, batch_first=True)), TOKENS),
    "plain_attention": (
        lambda: Net(lambda m, x: _plain_attention(m, m.embed(x)), embed=linear(3, 8), qkv=linear(8, 24),
                    out=linear(8, 8), head=linear(8, 3)), TOKENS,
    ),
    "encoder_layer": (
        lambda: nn.Sequential(linear(3, 8), nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), nn.Flatten(),
                              linear(40, 3)), TOKENS,
    ),
    "in_place": (lambda: Net(_in_place, a=linear(6, 8), head=linear(8, 3)), VECTOR),
    "class_token": (
        lambda: Net(_with_class_token, token=nn.Parameter(torch.randn(1, 1, 8)), embed=linear(3, 8),
                    position=nn.Parameter(torch.randn(1, 6, 8)), norm=nn.LayerNorm(8), up=linear(8, 16),
                    down=linear(16, 8), gain=nn.Parameter(torch.rand(8)), head=linear(8, 3)), TOKENS,
    ),
    "selected": (lambda: Net(_selected, a=linear(6, 8), head=linear(8, 3), other=linear(3, 3)), VECTOR),
    "own_norm": (
        lambda: Net(_own_norm, a=linear(6, 8), gain=nn.Parameter(torch.rand(8)), shift=nn.Parameter(torch.rand(8)),
                    head=linear(8, 3)), VECTOR,
    ),
    "shuffled": (lambda: Net(_shuffled, a=conv(3, 8, 3), b=conv(2, 4, 3), head=linear(4, 3)), IMAGE),
    "depthwise": (
        lambda: Net(_depthwise, a=conv(3, 8, 3), each=conv(8, 8, 3, groups=8), b=conv(8, 4, 1), head=linear(4, 3)),
        IMAGE,
    ),
    "bare_parameters": (
        lambda: Net(_bare, w=nn.Parameter(torch.randn(6, 8)), b=nn.Parameter(torch.randn(8)),
                    v=nn.Parameter(torch.randn(3, 8))), VECTOR,
    ),
    "group_norm": (
        lambda: nn.Sequential(conv(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), conv(8, 4, 3), nn.Flatten(), linear(64, 3)),
        IMAGE,
    ),
    "prelu": (
        lambda: nn.Sequential(conv(3, 8, 3), nn.PReLU(8), conv(8, 4, 3), nn.PReLU(), nn.Flatten(), linear(64, 3)),
        IMAGE,
    ),
    "rms_norm": (lambda: nn.Sequential(linear(6, 8), nn.RMSNorm(8), linear(8, 8), nn.ELU(), linear(8, 3)), VECTOR),
    "weight_norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(linear(6, 8)), nn.ReLU(), linear(8, 8), nn.ReLU(),
                              linear(8, 3)), VECTOR,
    ),
}  # fmt: skip
