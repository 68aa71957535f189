"""A small convolutional network for images of any size."""

from torch import nn

from landscape.errors import illegal
from landscape.models.mlp import activation_by_name


def image_shape(input_shape: tuple[int, ...], halvings: int = 0) -> tuple[int, int, int]:
    """(channels, height, width), or an `InputError` when these are no images or too small to halve so often."""
    least = 2**halvings
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        raise illegal(
            "input_shape", input_shape, f"(channels, height, width) of at least {least}×{least} pixels",
            "Use the data's shape=image, resize=SIDE, or the model mlp.",
        )  # fmt: skip
    return input_shape[0], input_shape[1], input_shape[2]


def cnn(
    input_shape: tuple[int, ...],
    outputs: int,
    channels: tuple[int, ...] = (16, 32),
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
) -> nn.Module:
    """For each of `channels`: 3×3 convolution, norm, activation, 2×2 max-pooling; then one Linear.

    norm: "none" or "batch". dropout: the probability of dropping an input of the last layer.
    """
    if norm not in ("none", "batch"):
        raise illegal("norm", norm, "none or batch", "The default is none.")
    if not channels or min(channels) < 1:
        raise illegal("channels", channels, "whole numbers of at least 1", "For example channels=16,32.")
    if not 0 <= dropout < 1:
        raise illegal("dropout", dropout, "at least 0 and below 1", "The default is 0.")
    inputs, height, width = image_shape(input_shape, len(channels))
    layers: list[nn.Module] = []
    for count in channels:
        layers.append(nn.Conv2d(inputs, count, 3, padding=1))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(count))
        layers += [activation_by_name(activation), nn.MaxPool2d(2)]
        inputs, height, width = count, height // 2, width // 2
    layers.append(nn.Flatten())
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(inputs * height * width, outputs))
