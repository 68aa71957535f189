"""Residual networks for small images (He et al. 2016, "Deep Residual Learning", section 4.2).

6k + 2 layers: a 3×3 convolution, three stages of k blocks with 16, 32 and 64 channels, the mean over
pixels, one Linear. Shortcuts are option A of the paper: they subsample and pad with zero channels, and
have no parameters, so ResNet-20 has 269,722 (272,474 belongs to 1×1-convolution shortcuts). Parameter
names are those of the widespread public CIFAR implementations (conv1, bn1, layer1.0.conv1, …, linear).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.models.cnn import image_shape


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm, and the parameter-free shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        before = self.new_channels // 2
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(residual + F.pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before)))


class CifarResNet(nn.Module):
    """Three stages of blocks; every stage but the first halves the image in its first block."""

    def __init__(self, blocks: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1, blocks)
        self.layer2 = self._stage(16, 32, 2, blocks)
        self.layer3 = self._stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def cifar_resnet(depth: int, input_shape: tuple[int, ...] = (3, 32, 32), outputs: int = 10) -> nn.Module:
    """The network of `depth` = 6k + 2 layers, weights drawn as in He et al. 2015 (normal, variance 2 / fan-in)."""
    return CifarResNet((depth - 2) // 6, image_shape(input_shape)[0], outputs)
