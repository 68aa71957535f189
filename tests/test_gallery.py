"""The committed pictures and tables are those that the committed results give."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from landscape_figures.gallery import DEMO, GALLERY, render, tabulate

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


def test_tables_are_the_committed_ones(tmp_path):
    written = tabulate(ROOT / "data", tmp_path)
    assert {path.name for path in written} == {path.name for path in (ROOT / "tables").iterdir()}
    for path in written:
        assert path.read_text() == (ROOT / "tables" / path.name).read_text()


def test_some_pictures_need_only_their_own_results(tmp_path):
    """As after `landscape demo`, which has no results of the studies."""
    sources = {source for _, sources, _ in DEMO.values() for source in sources}
    for source in sources:
        (tmp_path / f"{source}.safetensors").write_bytes((ROOT / "data" / f"{source}.safetensors").read_bytes())
    assert {path.stem for path in render(tmp_path, tmp_path / "out", DEMO)} == set(DEMO)


def test_nothing_else_is_kept():
    assert {path.stem for path in (ROOT / "gallery").iterdir()} == set(GALLERY)
    drawn = {s for _, sources, _ in GALLERY.values() for s in sources}
    assert {path.stem for path in (ROOT / "data").iterdir() if not path.name.startswith("study-")} <= drawn
    assert drawn <= {path.stem for path in (ROOT / "data").iterdir()}
