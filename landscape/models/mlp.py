"""Multi-layer perceptrons, among them F1 of Keskar et al. 2017."""

import math
from collections.abc import Callable

from torch import nn

from landscape.errors import illegal

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "softplus": nn.Softplus, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "identity": nn.Identity,
}  # fmt: skip
"""Activations by name: all have second derivatives wherever they have first ones."""


def activation_by_name(name: str) -> nn.Module:
    """A new activation layer."""
    if name not in ACTIVATIONS:
        raise illegal("activation", name, f"one of {', '.join(ACTIVATIONS)}", "The default is relu.")
    return ACTIVATIONS[name]()


def mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    widths: tuple[int, ...] = (64, 64),
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
) -> nn.Module:
    """Flatten, then for each of `widths` Linear, norm, activation, dropout; then Linear to the outputs.

    norm: "none", "batch" or "layer". dropout: the probability of dropping a hidden unit.
    """
    norms = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    if norm not in norms:
        raise illegal("norm", norm, f"one of {', '.join(norms)}", "The default is none.")
    if any(width < 1 for width in widths):
        raise illegal("widths", widths, "a list of whole numbers of at least 1", "For example widths=64,64.")
    if not 0 <= dropout < 1:
        raise illegal("dropout", dropout, "at least 0 and below 1", "The default is 0.")
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = math.prod(input_shape)
    for width in widths:
        layers.append(nn.Linear(inputs, width))
        if make := norms[norm]:
            layers.append(make(width))
        layers.append(activation_by_name(activation))
        if dropout:
            layers.append(nn.Dropout(dropout))
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def keskar_f1(input_shape: tuple[int, ...] = (1, 28, 28), outputs: int = 10) -> nn.Module:
    """F1 (Keskar et al. 2017, appendix B): 784 inputs, five hidden layers of 512 with batch norm and ReLU."""
    return mlp(input_shape, outputs, (512,) * 5, norm="batch")
