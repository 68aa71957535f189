"""Small networks whose parameter names are those of checkpoints found on the web, written from their shapes.

Each function is a factory for `--model tests/reference_models.py:NAME`.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F


class _OptionABlock(nn.Module):
    """Two 3×3 convolutions; the shortcut subsamples and pads with zero channels, without parameters."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.extra = stride, channels - channels_in

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, self.extra // 2, self.extra // 2)))


class _OptionAResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (before, channels) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            first = _OptionABlock(before, channels, 1 if stage == 1 else 2)
            layers = [first, *(_OptionABlock(channels, channels, 1) for _ in range(blocks - 1))]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def option_a_resnet20():
    return _OptionAResNet(3)


def option_a_resnet56():
    return _OptionAResNet(9)


class _ProjectedBlock(nn.Module):
    """Two 3×3 convolutions; where the shape changes the shortcut is a 1×1 convolution with batch norm."""

    def __init__(self, channels_in, channels, stride, names):
        super().__init__()
        (conv1, bn1), (conv2, bn2) = names
        self.order = conv1, bn1, conv2, bn2
        setattr(self, conv1, nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False))
        setattr(self, bn1, nn.BatchNorm2d(channels))
        setattr(self, conv2, nn.Conv2d(channels, channels, 3, 1, 1, bias=False))
        setattr(self, bn2, nn.BatchNorm2d(channels))
        self.downsample = None
        if stride != 1 or channels_in != channels:
            project = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(project, nn.BatchNorm2d(channels))

    def forward(self, x):
        conv1, bn1, conv2, bn2 = (getattr(self, name) for name in self.order)
        y = bn2(conv2(F.relu(bn1(conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _ProjectedResNet20(nn.Module):
    def __init__(self, stem, stage, names):
        super().__init__()
        conv, bn = stem
        self.order = conv, bn, *(f"{stage}{k}" for k in (1, 2, 3))
        setattr(self, conv, nn.Conv2d(3, 16, 3, 1, 1, bias=False))
        setattr(self, bn, nn.BatchNorm2d(16))
        for k, (before, channels) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            first = _ProjectedBlock(before, channels, 1 if k == 1 else 2, names)
            layers = [first, *(_ProjectedBlock(channels, channels, 1, names) for _ in range(2))]
            setattr(self, f"{stage}{k}", nn.Sequential(*layers))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        conv, bn, *stages = (getattr(self, name) for name in self.order)
        x = F.relu(bn(conv(x)))
        for stage in stages:
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def projected_resnet20():
    names = (("conv_1", "bn_1"), ("conv_2", "bn_2"))
    return _ProjectedResNet20(names[0], "stage_", names)


def distilled_resnet20():
    names = (("conv1", "bn1"), ("conv2", "bn2"))
    return _ProjectedResNet20(names[0], "layer", names)


class _WideBlock(nn.Module):
    """Normalise and activate first; both ways start from that where a projection is needed."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        act = OrderedDict({"0_normalization": nn.BatchNorm2d(channels_in), "1_activation": nn.ReLU()})
        self.norm_act = nn.Sequential(act)
        layers = {
            "0_convolution": nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            "1_normalization": nn.BatchNorm2d(channels),
            "2_activation": nn.ReLU(),
            "4_convolution": nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        }
        self.block = nn.Sequential(OrderedDict(layers))
        self.downsample = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x):
        x = self.norm_act(x)
        return self.block(x) + self.downsample(x)


class _Group(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.block = nn.Sequential(*blocks)

    def forward(self, x):
        return self.block(x)


class _WideResNet(nn.Module):
    def __init__(self):
        super().__init__()
        layers = {
            "0_convolution": nn.Conv2d(3, 16, 3, 1, 1, bias=False),
            "1_block": _Group(_WideBlock(16, 32, 1)),
            "2_block": _Group(_WideBlock(32, 64, 2)),
            "3_block": _Group(_WideBlock(64, 128, 2)),
            "4_normalization": nn.BatchNorm2d(128),
            "5_activation": nn.ReLU(),
            "6_pooling": nn.AdaptiveAvgPool2d(1),
            "7_flattening": nn.Flatten(),
            "8_classification": nn.Linear(128, 10),
        }
        self.f = nn.Sequential(OrderedDict(layers))

    def forward(self, x):
        return self.f(x)


def wide_resnet_8_2():
    return _WideResNet()


class _TwoConvolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.log_softmax(self.fc2(F.relu(self.fc1(x.flatten(1)))), 1)


def two_convolutions():
    return _TwoConvolutions()


class _LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        layers = {
            "c1": nn.Conv2d(1, 6, 5), "relu1": nn.ReLU(), "s2": nn.MaxPool2d(2),
            "c3": nn.Conv2d(6, 16, 5), "relu3": nn.ReLU(), "s4": nn.MaxPool2d(2),
            "c5": nn.Conv2d(16, 120, 5), "relu5": nn.ReLU(),
        }  # fmt: skip
        self.convnet = nn.Sequential(OrderedDict(layers))
        head = {"f6": nn.Linear(120, 84), "relu6": nn.ReLU(), "f7": nn.Linear(84, 10), "log": nn.LogSoftmax(1)}
        self.fc = nn.Sequential(OrderedDict(head))

    def forward(self, x):
        return self.fc(self.convnet(x).flatten(1))


def lenet():
    return _LeNet()


class _Paired(nn.Sequential):
    """(Linear, ReLU) pairs as Rust's dfdx nests them: names 0.0, 1.0, 2.0 and a bare 3."""

    def __init__(self):
        pairs = (nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in ((784, 512), (512, 128), (128, 32)))
        super().__init__(*pairs, nn.Linear(32, 10))

    def forward(self, x):
        return super().forward(x.flatten(1))


def paired_mlp():
    return _Paired()


def dropout_mlp():
    layers = (nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1))
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))


class _Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 64), nn.Linear(64, 64)
        self.fc3, self.fc4 = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        for layer in (self.fc1, self.fc2, self.fc3):
            x = F.relu(layer(x))
        return self.fc4(x)


def dense():
    return _Dense()


class _TinyCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc1 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 5, 3), nn.Linear(20, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3)
        x = F.max_pool2d(F.relu(self.conv2(x)), 3)
        return self.fc1(torch.flatten(x, 1))


def tiny_cnn():
    return _TinyCNN()
