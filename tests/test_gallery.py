"""The committed pictures are those that the committed results give."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from landscape_figures.gallery import GALLERY, render

ROOT = Path(__file__).resolve().parent.parent / "figures"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    render(ROOT / "data", folder)
    return folder


@pytest.mark.parametrize("name", GALLERY)
def test_picture_is_the_committed_one(name, rendered):
    """Pixel by pixel; bytes may differ where another zlib compressed them."""
    assert (rendered / f"{name}.pdf").exists()
    ours, theirs = (matplotlib.image.imread(folder / f"{name}.png") for folder in (rendered, ROOT / "gallery"))
    np.testing.assert_array_equal(ours, theirs)


def test_pictures_without_results_are_left_out(tmp_path):
    (tmp_path / "line.safetensors").write_bytes((ROOT / "data" / "line.safetensors").read_bytes())
    assert {path.stem for path in render(tmp_path, tmp_path / "out")} == {"parametric"}


def test_nothing_else_is_kept():
    assert {path.stem for path in (ROOT / "gallery").iterdir()} == set(GALLERY)
    assert {path.stem for path in (ROOT / "data").iterdir()} == {
        s for _, sources, _ in GALLERY.values() for s in sources
    }
