"""The README's examples run as printed, its pictures exist, and it names every command."""

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import landscape as package
from landscape_cli.main import landscape

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert blocks("python")
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert "sampling error" in capsys.readouterr().out


@pytest.mark.slow
def test_shell_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (study,) = blocks("toml")
    Path("batch.toml").write_text(study)
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("landscape ")]
    assert len(lines) >= 5
    for line in lines:
        result = CliRunner().invoke(landscape, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
    for name in re.findall(r"`((?:landscape|cli|figures|benchmarks|tests)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name


def test_every_command_is_mentioned():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for name in landscape.commands:
        assert name in README + changelog, name


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(package.__path__, "landscape.")])
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_public_names_load():
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sharpnes'"):
        _ = package.sharpnes
