"""Films of a training: every checkpoint is a frame, the same bytes again, small, and nothing is overwritten."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.animation import FFMpegWriter
from matplotlib.colors import to_rgb
from PIL import Image
from surfaces import trained_plane

from landscape.errors import InputError
from landscape.results import save
from landscape_cli.main import landscape
from landscape_figures import animate
from landscape_figures.animation import frames, on_the_plane
from landscape_figures.style import VERMILLION


def heads(path) -> list[np.ndarray]:
    """(frames) centre in pixels of what moves on the plane, the left half of each frame."""
    centre = []
    with Image.open(path) as film:
        for number in range(film.n_frames):
            film.seek(number)
            picture = np.asarray(film.convert("RGB"), float)
            left = picture[:, : picture.shape[1] // 2]
            rows, columns = np.nonzero(np.abs(left - 255 * np.array(to_rgb(VERMILLION))).max(axis=-1) < 2)
            centre.append(np.array([columns.mean(), -rows.mean()]))
    return centre


def test_a_gif_shows_every_checkpoint_where_it_was_projected(tmp_path):
    result = trained_plane(8)
    path = animate(result, tmp_path / "film.gif", fps=4)
    centres = np.array(heads(path))
    assert len(centres) == 8
    steps = np.diff(result.trajectory, axis=0)
    drawn = np.diff(centres, axis=0)
    scale = np.linalg.lstsq(steps.ravel()[:, None], drawn.ravel(), rcond=None)[0]  # equal aspect: one scale
    np.testing.assert_allclose(drawn, scale * steps, atol=1.0)
    with Image.open(path) as film:
        assert film.info["loop"] == 0
        assert film.info["duration"] == 250
        film.seek(7)
        assert film.info["duration"] == 1750


def test_bytes_repeat_and_are_few(tmp_path):
    one, other = (animate(trained_plane(20, broken=True), tmp_path / f"{k}.gif").read_bytes() for k in "ab")
    assert one == other
    assert len(one) < 200_000


def test_the_curve_is_the_loss_on_the_plane():
    result = trained_plane()
    exact = 1e-3 + result.trajectory[:, 0] ** 2 + 2 * result.trajectory[:, 1] ** 2
    spacing = 0.5  # linear interpolation of a quadratic is off by at most Σ curvature·spacing²/8
    np.testing.assert_allclose(on_the_plane(result, "train loss"), exact, atol=(2 + 4) * spacing**2 / 8)


def test_many_checkpoints_are_thinned_with_both_ends():
    chosen = frames(1000)
    assert (len(chosen), chosen[0], chosen[-1]) == (200, 0, 999)
    assert frames(1) == [0]


@pytest.mark.parametrize(
    ("changes", "name", "options", "message"),
    [
        ({"trajectory": np.zeros(0)}, "a.gif", {}, "no training to animate"),
        ({}, "a.avi", {}, "ends in .gif or .mp4"),
        ({}, "a.gif", {"fps": 0}, "fps = 0"),
        ({}, "a.gif", {"quantity": "loss"}, "one of train loss"),
    ],
)
def test_unfit_requests_are_refused(tmp_path, changes, name, options, message):
    with pytest.raises(InputError, match=message):
        animate(dataclasses.replace(trained_plane(3), **changes), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_without_ffmpeg_an_mp4_is_one_line_and_with_it_a_file(tmp_path):
    if FFMpegWriter.isAvailable():
        content = animate(trained_plane(3), tmp_path / "film.mp4").read_bytes()
        assert content[4:8] == b"ftyp"
    else:
        with pytest.raises(InputError, match="needs the program ffmpeg"):
            animate(trained_plane(3), tmp_path / "film.mp4")


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(trained_plane(3), "scan.safetensors")
    words = ["animate", "scan.safetensors", "--quantity", "test error", "--fps", "2"]
    first = CliRunner().invoke(landscape, words)
    assert first.exit_code == 0, first.output
    assert "saved scan.gif" in first.stderr
    before = (tmp_path / "scan.gif").read_bytes()
    again = CliRunner().invoke(landscape, words)
    assert again.exit_code == 2
    assert "does not exist yet" in again.stderr
    assert (tmp_path / "scan.gif").read_bytes() == before
    assert CliRunner().invoke(landscape, [*words, "--overwrite"]).exit_code == 0
