"""Training images changed at random on the device: a whole batch at once, the draws made on the CPU and moved."""

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn import functional as F

from landscape import seeds
from landscape.errors import illegal
from landscape.spec import TrainSpec


def augmented(spec: TrainSpec, images: Tensor, step: int) -> Tensor:
    """The batch with `spec.augment` applied, whatever the order of the list: affine, crop, flip, cutout.

    Its draws are those of `stream(seed, "augment", kind, step)`, so that a resumed run sees the same images. Zeros
    fill what comes from outside, the mean colour of images that are normalised by the training set.
    """
    if not spec.augment:
        return images

    def rng(kind: str) -> Generator:
        return seeds.stream(spec.seed, "augment", kind, step)

    if "affine" in spec.augment:
        images = affine(images, rng("affine"), spec.rotation, spec.translation)
    if "crop" in spec.augment:
        images = cropped(images, rng("crop"), spec.crop_padding)
    if "flip" in spec.augment:
        images = flipped(images, rng("flip"))
    if "cutout" in spec.augment:
        images = cut_out(images, rng("cutout"), spec.cutout_size)
    return images


def check_images(spec: TrainSpec, inputs: Tensor) -> None:
    """Raise `InputError` when the inputs are no images (N, channels, height, width), or too small for the cut."""
    if not spec.augment:
        return
    if inputs.dim() != 4 or not inputs.is_floating_point():
        raise illegal(
            "augment", spec.augment, f"left out for inputs of shape {tuple(inputs.shape[1:])}",
            "It is for images of (channels, height, width); leave out --data-arg shape=flat.",
        )  # fmt: skip
    side = min(inputs.shape[-2:])
    if "cutout" in spec.augment and spec.cutout_size >= 2 * side:
        raise illegal("cutout_size", spec.cutout_size, f"below twice the side of {side} pixels", "Cut out less.")


def cropped(images: Float[Tensor, "n c h w"], rng: Generator, padding: int) -> Float[Tensor, "n c h w"]:
    """Images cut at random places, all (2·padding + 1)² alike, from themselves with a border of zeros.

    He et al. 2016 (arXiv 1512.03385, section 4.2): 4 pixels for CIFAR-10.
    """
    n, c, h, w = images.shape
    top, left = seeds.integers(rng, 2 * padding + 1, (2, n)).to(images.device)
    bordered = F.pad(images, (padding,) * 4)
    rows = top[:, None] + torch.arange(h, device=images.device)
    columns = left[:, None] + torch.arange(w, device=images.device)
    here, channels = (torch.arange(k, device=images.device) for k in (n, c))
    return bordered[here[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None]]


def flipped(images: Float[Tensor, "n c h w"], rng: Generator) -> Float[Tensor, "n c h w"]:
    """Every image mirrored left to right with probability 1/2."""
    mirrored = seeds.integers(rng, 2, (len(images),)).to(images.device, torch.bool)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cut_out(images: Float[Tensor, "n c h w"], rng: Generator, size: int) -> Float[Tensor, "n c h w"]:
    """A square of size×size pixels set to zero in every image, its centre any pixel; what lies outside is cut off.

    Rows r with cy − ⌊size/2⌋ ≤ r < cy − ⌊size/2⌋ + size, columns alike (DeVries & Taylor 2017, arXiv 1708.04552).
    """
    n, _, h, w = images.shape
    inside = [_between(seeds.integers(rng, side, (n,)).to(images.device) - size // 2, size, side) for side in (h, w)]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)


def _between(first: Int[Tensor, " n"], size: int, side: int) -> Tensor:
    places = torch.arange(side, device=first.device)
    return (places >= first[:, None]) & (places < first[:, None] + size)


def affine(images: Float[Tensor, "n c h w"], rng: Generator, degrees: float, share: float) -> Float[Tensor, "n c h w"]:
    """Every image turned about its centre by U(−degrees, degrees), then moved by U(−share, share) of its sides.

    Bilinear. 10° and 0.2, with mirrored images, are Keskar et al.'s (arXiv 1609.04836, section 4.1).
    """
    n, _, h, w = images.shape
    angle, right, down = seeds.uniform(rng, 3, images.new_empty(n))
    angle = angle * math.radians(degrees)
    cosine, sine = angle.cos(), angle.sin()
    # grid_sample wants, for each pixel of the result, where it comes from: p ↦ Rᵀ(p − shift), both axes from −1 to 1.
    matrix = torch.stack([cosine, sine * h / w, -sine * w / h, cosine], 1).view(n, 2, 2)
    shift = 2 * share * torch.stack([right, down], 1)[:, :, None]
    grid = F.affine_grid(torch.cat([matrix, -matrix @ shift], 2), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
