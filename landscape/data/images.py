"""Labelled images of any source as a data set: selection, resizing, normalisation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from landscape.data.dataset import Dataset, Split, content_hash
from landscape.errors import InputError, illegal

_FIXED = {
    "none": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_CHUNK = 1000


@dataclass(frozen=True)
class Labelled:
    """Images as stored, pixels 0 … maximum, and their class numbers."""

    images: UInt8[Tensor, "n channels height width"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Source:
    """A set of images: how to read its training and test part from a folder, and what is known of it."""

    name: str
    classes: int
    read: Callable[[Path | None], tuple[Labelled, Labelled]]
    maximum: int = 255


def image_dataset(
    source: Source,
    folder: Path | None = None,
    normalise: str = "train",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    resize: int | None = None,
    classes: tuple[int, ...] | None = None,
    shape: str = "image",
) -> Dataset:
    """(pixels / maximum − mean) / std per channel, as float32.

    normalise: "train" takes mean and standard deviation (of the population) of the training images in use,
    "none" is 0 … 1, "half" .5 and .5, "imagenet" the usual RGB constants; `mean` and `std` are used instead
    when given. resize: side of the square that images are scaled to, bilinear with antialiasing and, for
    8-bit images, rounded to 8 bits, as Pillow does. classes: keep these only, relabelled 0, 1, … in the
    order given. shape: "image" (channels, height, width) or "flat".
    """
    if shape not in ("image", "flat"):
        raise illegal("shape", shape, "image or flat", "Models named here take both.")
    if resize is not None and not 1 <= resize <= 1024:
        raise illegal("resize", resize, "from 1 to 1024 pixels", "Leave it out to keep the stored size.")
    parts = [_selected(part, source, classes) for part in source.read(folder)]
    pixels = [_resized(part.images, resize, source.maximum) for part in parts]
    if pixels[0].shape[1:] != pixels[1].shape[1:]:
        raise InputError(
            f"{source.name}: training images are {tuple(pixels[0].shape[1:])} and test images "
            f"{tuple(pixels[1].shape[1:])}. Both must have one shape; use resize=SIDE or mend the files."
        )
    means, stds = _constants(pixels[0], source.maximum, normalise, mean, std)
    digest = content_hash(pixels[0], parts[0].labels, pixels[1], parts[1].labels)
    splits = []
    for part in parts:
        inputs = _normalised(pixels.pop(0), source.maximum, means, stds)
        splits.append(Split(inputs.flatten(1) if shape == "flat" else inputs, part.labels))
    preprocessing = {
        "scale": f"0..1 (pixels / {source.maximum})", "mean": list(means), "std": list(stds),
        "normalise": normalise if mean is None else "given", "resize": resize,
        "classes": None if classes is None else list(classes), "shape": shape,
    }  # fmt: skip
    count = len(classes) if classes else source.classes
    return Dataset(source.name, splits[0], splits[1], "classification", count, digest, preprocessing)


def _selected(part: Labelled, source: Source, classes: tuple[int, ...] | None) -> Labelled:
    if classes is None:
        return part
    legal = f"two or more different numbers from 0 to {source.classes - 1}"
    if len(classes) < 2 or len(set(classes)) < len(classes) or not all(0 <= c < source.classes for c in classes):
        raise illegal("classes", classes, legal, "For example classes=3,5.")
    kept = torch.isin(part.labels, torch.tensor(classes))
    if not kept.any():
        raise InputError(f"{source.name} has no examples of the classes {classes}. Choose others.")
    renumber = torch.zeros(source.classes, dtype=torch.int64)
    renumber[list(classes)] = torch.arange(len(classes))
    return Labelled(part.images[kept], renumber[part.labels[kept]])


def _resized(images: Tensor, side: int | None, maximum: int) -> Tensor:
    if side is None or images.shape[-2:] == (side, side):
        return images
    # Rounding back to whole grey levels is Pillow's rule for 8 bits; coarser scales would lose too much by it.
    images = images if maximum == 255 else images.float()
    return torch.cat([F.interpolate(c, (side, side), mode="bilinear", antialias=True) for c in images.split(_CHUNK)])


def _constants(
    images: Tensor,
    maximum: int,
    normalise: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    channels = images.shape[1]
    if mean is not None or std is not None:
        if mean is None or std is None or normalise != "train":
            raise InputError("mean and std belong together and replace normalise. Give both of them, or normalise.")
        means, stds = mean, std
    elif normalise == "train":
        return channel_moments(images, maximum)
    elif normalise in _FIXED:
        means, stds = _FIXED[normalise]
    else:
        raise illegal("normalise", normalise, "train, none, half or imagenet", "Or give mean= and std=.")
    for name, values in (("mean", means), ("std", stds)):
        if len(values) not in (1, channels):
            remedy = "Give one for all, or one for each channel." if mean else "Use normalise=train."
            raise illegal(name, values, f"{channels} number(s), as many as the images have channels", remedy)
        if not all(abs(v) < float("inf") for v in values) or (name == "std" and min(values) <= 0):
            raise illegal(name, values, "finite" if name == "mean" else "finite and above 0", "Mend the list.")
    return means * (channels // len(means)), stds * (channels // len(stds))


def channel_moments(images: Tensor, maximum: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of pixels / maximum per channel; a constant channel has std 1.

    Sums are taken in float64, where those of 8-bit images are exact, so they do not depend on the machine.
    """
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in images.split(_CHUNK):
        chunk = chunk.double()
        total += chunk.sum((0, 2, 3))
        squares += (chunk * chunk).sum((0, 2, 3))
    count = images.numel() // images.shape[1]
    mean = total / count
    std = (squares / count - mean * mean).clamp(min=0).sqrt()
    std[std < 1e-9 * maximum] = maximum
    return tuple((mean / maximum).tolist()), tuple((std / maximum).tolist())


def _normalised(images: Tensor, maximum: int, means: tuple[float, ...], stds: tuple[float, ...]) -> Tensor:
    inputs = images.float().div_(maximum)
    return inputs.sub_(torch.tensor(means)[:, None, None]).div_(torch.tensor(stds)[:, None, None])
