"""Curves between checkpoints: trained into a run folder, and read from it."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from landscape.checkpoints import Opened
from landscape.errors import InputError
from landscape.methods.curves import Curve
from landscape.reading.weights import read_weights
from landscape.setting import dataset_of
from landscape.spec import CurveSpec, TrainSpec
from landscape.training.curve import CurveNetwork, curve_of
from landscape.training.loop import Report
from landscape.training.run import Trained, train


def connect(
    first: Opened,
    second: Opened,
    folder: str | os.PathLike[str] | None,
    curve: CurveSpec,
    spec: TrainSpec,
    progress: Report | None = None,
) -> Trained:
    """Train a curve between two checkpoints of one model, on the first's data; its run is like that of any network.

    The model of the run is a `CurveNetwork`; the loss of an epoch is the mean over points of the curve, the test
    loss that of its middle. Raises `InputError` for checkpoints of different models, and as `training.run.train` does.
    """
    if (first.spec.model, first.spec.model_args) != (second.spec.model, second.spec.model_args):
        raise InputError(
            f"{first.label} and {second.label} are checkpoints of different models. Name two of the same model."
        )
    if first.spec.params:
        raise InputError(f"params = {first.spec.params!r}: a curve moves all parameters. Leave --params out.")
    weights = first.train.weights
    network = CurveNetwork(first.model, weights, second.train.weights, curve)
    record = {
        "curve": curve.to_dict(), "ends": [end.label for end in (first, second)],
        "ends_sha256": [end.weights_sha256 for end in (first, second)],
        "network": {name: getattr(first.spec, name) for name in ("model", "model_args", "data", "data_args", "loss")},
    }  # fmt: skip
    dataset = dataset_of(first.spec)
    return train(network, dataset, spec, folder, record, progress, weights.device, first.spec.loss)


@dataclass(frozen=True)
class OpenedCurve:
    """A trained curve and where it comes from; notes: what a reader of results should know."""

    path: Path
    curve: Curve
    sha256: str
    notes: tuple[str, ...]

    def between(self, first: Opened, second: Opened) -> Curve | None:
        """The curve from `first` to `second`, turned round if need be; None when these are not its ends."""
        ends = [end.train.weights.cpu() for end in (first, second)]
        for points in (self.curve.points, self.curve.points.flip(0)):
            if all(torch.equal(end, own.to(end)) for end, own in zip(ends, (points[0], points[-1]), strict=True)):
                return Curve(self.curve.kind, points)
        return None


def open_curve(path: str | os.PathLike[str]) -> OpenedCurve:
    """The curve in the run folder (or a checkpoint of it) that `connect` wrote. Raises `InputError` for another run."""
    weights = read_weights(path)
    record = weights.record
    if "curve" not in record:
        raise InputError(f"{path} holds no curve. Train one with `landscape path curve`.")
    spec, plan = CurveSpec.from_dict(record["curve"]), TrainSpec.from_dict(record["train"])
    plan = plan.adapted()
    short = record["epoch"] < plan.epochs and plan.until_loss is None and plan.until_accuracy is None
    note = f"the curve in {path} has been trained for {record['epoch']} of {plan.epochs} epochs"
    return OpenedCurve(weights.path, curve_of(weights.tensors, spec), weights.sha256, (note,) if short else ())
