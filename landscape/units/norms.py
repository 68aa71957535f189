"""Rules for normalisation layers."""

from typing import Any

import torch
from torch import Tensor

from landscape.units.layers import along
from landscape.units.tape import Rule, Tape, bound, unknown


def batch_norm(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """With running statistics, a factor on the input can go into them; with a batch's own, ε forbids it."""
    x, mean, variance, weight, bias, training = bound(
        args, kwargs, "input", "running_mean", "running_var", "weight", "bias", "training"
    )
    if func is torch.batch_norm:  # whose arguments come in another order
        return unknown(tape, name, func, args, kwargs, result)
    stored = not training and tape.is_leaf(mean) and tape.is_leaf(variance)
    if not stored and not training:
        return unknown(tape, name, func, args, kwargs, result)
    labels = along(tape, x, 1)
    if labels is not None and not stored:
        tape.ties.fix(labels, "normalised by each batch's statistics plus ε", place=False)
    units = _affine(tape, result, 1, weight, bias, labels)
    if not stored:
        return
    for statistic, role in ((mean, "mean"), (variance, "variance")):
        nodes = tape.axis(statistic, 0, role)
        if labels is None:
            tape.ties.fix(nodes, "statistics of what cannot be transformed")
        else:
            tape.ties.tie(labels, nodes, "statistics of what cannot be transformed", 1)
        tape.ties.tie(units, nodes, "statistics of what cannot be transformed")


def layer_norm(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """Over the last axis: units may change places among themselves, all unscaled; its own weight may be scaled."""
    x, shape, weight, bias = bound(args, kwargs, "input", "normalized_shape", "weight", "bias")
    bias = bias if isinstance(bias, Tensor) else None  # RMS norm has its ε in this place
    if len(shape) != 1:
        return unknown(tape, name, func, args, kwargs, result)
    _together(tape, name, along(tape, x, -1), 1, -1, weight, bias, result)


def group_norm(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """As layer norm, within each group of channels."""
    x, groups, weight, bias = bound(args, kwargs, "input", "num_groups", "weight", "bias")
    _together(tape, name, along(tape, x, 1), groups, 1, weight, bias, result)


def _together(
    tape: Tape, name: str, labels: Any, groups: int, axis: int, weight: Any, bias: Any, result: Tensor
) -> None:
    if labels is not None:
        tape.ties.fix(labels, f"{name} mixes units of any scale", place=False)
        tape.ties.context(labels.reshape(groups, -1))
    _affine(tape, result, axis, weight, bias, labels)


def _affine(tape: Tape, result: Tensor, axis: int, weight: Any, bias: Any, labels: Tensor | None) -> Tensor:
    """The units of a normalised result: new ones in scale, in the places of those that were normalised."""
    if tape.is_leaf(weight):
        units = tape.axis(weight, 0, "out")
        if tape.is_leaf(bias):
            tape.ties.tie(units, tape.axis(bias, 0, "out"), "", 1)
        elif bias is not None:
            tape.fix(bias, "a bias that is computed")
            tape.ties.fix(units, "its bias is computed")
    else:
        units = torch.from_numpy(tape.ties.fresh(result.shape[axis])).double()
        tape.ties.fix(units, "normalised, without a weight of its own", place=False)
        for given in (weight, bias):
            if given is not None:
                tape.fix(given, "a norm's weight that is computed")
                tape.ties.fix(units, "a norm's weight is computed")
    if labels is None:
        tape.ties.fix(units, "normalised together with what cannot be transformed", scale=False)
    else:
        tape.ties.tie(labels, units, "normalised together with what cannot be transformed")
    shape = [1] * result.dim()
    shape[axis] = -1
    tape.label(result, units.view(shape).expand(result.shape))
    return units


NORMS: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
    "group_norm": group_norm,
}
