"""Shared fixtures: real data and checkpoints from LANDSCAPE_DATA, skipped with a reason when absent."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Shapes and types of every call are checked, except in specs, which check themselves and say what is wrong.
PACKAGE = Path(__file__).resolve().parent.parent / "landscape"
CHECKED = [f"landscape.{path.stem}" for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()]
install_import_hook(
    [name for name in sorted(CHECKED) if not name.endswith(("spec", ".fields", ".__init__"))], "beartype.beartype"
)

torch.set_num_threads(1)  # networks this small lose time to a second thread


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets (mnist, cifar-10, obesity)."""
    folder = os.environ.get("LANDSCAPE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set LANDSCAPE_DATA to a folder with mnist/, cifar-10/ and obesity/")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def checkpoint_folder(data_folder: Path) -> Path:
    """The folder of third-party checkpoints, beside the data."""
    folder = data_folder.parent / "checkpoints"
    if not folder.is_dir():
        pytest.skip("real checkpoints: a folder `checkpoints` beside LANDSCAPE_DATA is needed")
    return folder
