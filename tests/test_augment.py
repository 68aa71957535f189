"""Augmentation against slow loops over images with the same draws, and what its draws are like."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from landscape import seeds
from landscape.data.dataset import Dataset, Split
from landscape.errors import InputError
from landscape.spec import TrainSpec
from landscape.training.augment import affine, augmented, cropped, cut_out, flipped
from landscape.training.run import train


def images(n=40, channels=3, height=9, width=7) -> torch.Tensor:
    """No two pixels alike, none zero."""
    return 1 + torch.arange(n * channels * height * width, dtype=torch.float64).view(n, channels, height, width)


def rng(k=0):
    return seeds.stream(k, "test")


def test_crops_are_windows_of_the_bordered_image():
    x = images()
    out, seen = cropped(x, rng(), 2), set()
    for image, crop in zip(x.numpy(), out.numpy(), strict=True):
        border = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        places = [(r, c) for r in range(5) for c in range(5) if np.array_equal(border[:, r : r + 9, c : c + 7], crop)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 12  # 40 draws of 25 places


def test_places_of_crops_are_all_alike():
    x = torch.zeros(5000, 1, 4, 4)
    x[:, 0, 1, 2] = 1
    count = cropped(x, rng(), 1).sum((0, 1))  # the pixel lands on one of nine places
    inside = count[0:3, 1:4]
    assert inside.sum() == 5000
    assert ((inside - 5000 / 9) ** 2 / (5000 / 9)).sum() < 26.1  # χ² with 8 degrees of freedom, 99.9 %


def test_flips_mirror_half_of_the_images():
    x = images(1000)
    out = flipped(x, rng())
    mirrored = [np.array_equal(o, i[:, :, ::-1]) for i, o in zip(x.numpy(), out.numpy(), strict=True)]
    same = [np.array_equal(o, i) for i, o in zip(x.numpy(), out.numpy(), strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert abs(sum(mirrored) - 500) < 4 * math.sqrt(250)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_cutout_zeroes_a_square_about_any_pixel(size):
    x = images(600)
    out, centres = cut_out(x, rng(), size), set()
    for image, cut in zip(x.numpy(), out.numpy(), strict=True):
        expected = []
        for r in range(9):
            for c in range(7):
                hole = image.copy()
                top, left = r - size // 2, c - size // 2
                hole[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
                if np.array_equal(hole, cut):
                    expected.append((r, c))
        assert len(expected) == 1
        centres.add(expected[0])
    assert len(centres) == 63


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 12)])
def test_affine_equals_scipys(height, width):
    x = images(6, 2, height, width)
    out = affine(x, rng(), 30.0, 0.2)
    angle, right, down = seeds.uniform(rng(), 3, x.new_empty(6)).numpy()
    for k in range(6):
        a = math.radians(30.0) * angle[k]
        # Axes (down, right): a source pixel is Rᵀ(p − centre − shift) + centre.
        back = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        shift = np.array([0.2 * height * down[k], 0.2 * width * right[k]])
        for channel in range(2):
            expected = ndimage.affine_transform(
                x[k, channel].numpy(), back, centre - back @ (centre + shift), order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(out[k, channel].numpy(), expected, atol=1e-8 * float(x.max()))


def test_affine_without_angle_and_shift_is_the_image():
    x = images(3)
    torch.testing.assert_close(affine(x, rng(), 0.0, 0.0), x)


def data(shape=(1, 6, 6), n=53) -> Dataset:
    flat = seeds.gaussian(seeds.stream(0, "inputs"), n, torch.empty(math.prod(shape), dtype=torch.float64))
    split = Split(flat.view(n, *shape), flat[:, :3].argmax(1))
    return Dataset("toy", split, split, "classification", 3, "", {})


def network() -> nn.Module:
    with seeds.global_stream(1, "network"):
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()


SPEC = TrainSpec(epochs=3, batch_size=20, augment=("cutout", "flip", "crop", "affine"), crop_padding=1, cutout_size=2)


def test_training_sees_the_augmented_images_of_its_step():
    model, split, step = network(), data().train, 0
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in (1, 2, 3):
        for part in seeds.permutation(seeds.stream(0, "order", epoch), 53).split(20):
            x = affine(split.inputs[part], seeds.stream(0, "augment", "affine", step), 10.0, 0.2)
            x = cropped(x, seeds.stream(0, "augment", "crop", step), 1)
            x = flipped(x, seeds.stream(0, "augment", "flip", step))
            x = cut_out(x, seeds.stream(0, "augment", "cutout", step), 2)
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), split.targets[part]).backward()
            optimiser.step()
            step += 1
    found = train(network(), data(), SPEC)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in found.model.state_dict().items())
    model.eval()
    loss = nn.functional.cross_entropy(model(split.inputs), split.targets).item()
    assert found.history[-1]["test_loss"] == pytest.approx(loss, rel=1e-9)  # test images are as they are


def test_draws_differ_between_steps_seeds_and_kinds():
    x = images(20)
    first = augmented(SPEC, x, 0)
    assert torch.equal(first, augmented(replace(SPEC, augment=SPEC.augment[::-1]), x, 0))
    assert not torch.equal(first, augmented(SPEC, x, 1))
    assert not torch.equal(first, augmented(replace(SPEC, seed=1), x, 0))
    assert augmented(replace(SPEC, augment=()), x, 0) is x


def test_an_augmented_run_resumes_to_the_same_bits(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(done, total, note):
        if done == 5:
            raise StoppedError

    whole = train(network(), data(), SPEC).model
    with pytest.raises(StoppedError):
        train(network(), data(), SPEC, tmp_path, progress=stop, pause=0.0)
    again = train(network(), data(), SPEC, tmp_path).model
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "spec", "says"),
    [
        ((36,), SPEC, r"augment = .* shape \(36,\)"),
        ((1, 6, 6), replace(SPEC, cutout_size=12), "cutout_size = 12"),
    ],
)
def test_refused(shape, spec, says):
    with pytest.raises(InputError, match=says):
        train(network(), data(shape), spec)
