"""The wheel, installed where none of the sources are on the path."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path):
    """A fresh environment that borrows the dependencies of this one, but neither its landscape nor its scripts."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("landscape", "cli", "figures"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*build, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*")) / "site-packages"
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # read as a path: no .pth inside it is
    install = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--force-reinstall", wheel], check=True)
    shipped = {path.name for path in site.iterdir()}
    assert {"landscape", "landscape_cli", "landscape_figures"} <= shipped
    assert not {"cli", "figures", "tests"} & shipped
    assert {"page.html", "page.js"} <= {path.name for path in (site / "landscape_figures").iterdir()}

    def landscape(*words: str) -> str:
        command = [home / "bin" / "landscape", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import landscape; print(landscape.__file__)"
    found = subprocess.run(
        [home / "bin" / "python", "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(site))
    assert "Usage:" in landscape("--help")
    landscape("train", "run", "--model", "mlp", "--model-arg", "widths=8", "--epochs", "1")
    assert "λ1" in landscape("hessian", "run", "--count", "1")
