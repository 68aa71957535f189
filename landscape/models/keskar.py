"""The convolutional networks of Keskar et al. 2017 (arXiv 1609.04836, appendix B).

Layer order and dropout follow the authors' published code; its convolutions and poolings pad to keep
the size ("same"). C1 and C2 have 10 outputs (CIFAR-10), C3 and C4 the same layers with 100 (CIFAR-100).
"""

from torch import nn

from landscape.models.cnn import image_shape


def keskar_c1(input_shape: tuple[int, ...] = (3, 32, 32), outputs: int = 10) -> nn.Module:
    """C1 / C3: twice [5×5 convolution of 64, BN, ReLU, 3×3 max-pooling of stride 2], dense 384 and 192.

    Each dense layer is followed by batch norm, ReLU and dropout of .5.
    """
    channels, height, width = image_shape(input_shape)
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [*_conv(channels, 64, 5), nn.MaxPool2d(3, 2, padding=1)]
        channels, height, width = 64, (height + 1) // 2, (width + 1) // 2
    layers += [nn.Flatten(), *_dense(channels * height * width, 384), *_dense(384, 192)]
    return nn.Sequential(*layers, nn.Linear(192, outputs))


def keskar_c2(input_shape: tuple[int, ...] = (3, 32, 32), outputs: int = 10) -> nn.Module:
    """C2 / C4, after VGG: 3×3 convolutions 2×64, 2×128, 3×256, 3×512, 3×512 with BN and ReLU, dense 512.

    2×2 max-pooling ends each group; between the convolutions of a group there is dropout of .3 in the first
    and .4 in the others; .5 before and after the dense layer.
    """
    channels, height, width = image_shape(input_shape)
    layers: list[nn.Module] = []
    for repeats, count, rate in ((2, 64, 0.3), (2, 128, 0.4), (3, 256, 0.4), (3, 512, 0.4), (3, 512, 0.4)):
        for number in range(repeats):
            layers += _conv(channels, count, 3)
            channels = count
            if number + 1 < repeats:
                layers.append(nn.Dropout(rate))
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        height, width = (height + 1) // 2, (width + 1) // 2
    layers += [nn.Flatten(), nn.Dropout(0.5), *_dense(channels * height * width, 512)]
    return nn.Sequential(*layers, nn.Linear(512, outputs))


def _conv(inputs: int, outputs: int, side: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, side, padding=side // 2), nn.BatchNorm2d(outputs), nn.ReLU()]


def _dense(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(0.5)]
