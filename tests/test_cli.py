"""The command line as a user meets it: a small run trained, measured, drawn and inspected, and every refusal."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from commands import refused, run

from landscape.results import load
from landscape.surface_values import Values
from landscape_cli.main import landscape

QUICK = ["--max-matvecs", "200"]
KESKAR = ["--trials", "1", "--restarts", "1", "--iterations", "2", "--dimension", "5", "--epsilon", "1e-3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        run("train", folder / f"r{seed}", "--model", "mlp", "--model-arg", "widths=8", "--epochs", 2, "--seed", seed)
    return {f"r{seed}": folder / f"r{seed}" for seed in range(3)}


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def commands(group: click.Group = landscape, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    for name, command in group.commands.items():
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize(("path", "command"), commands(), ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_every_command_and_option_has_help(path, command):
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert "Usage:" in run(*path, "--help").output


def test_help_imports_no_torch():
    code = (
        "import sys; from landscape_cli.main import landscape\n"
        "for words in (['--help'], ['hessian', '--help'], ['surface', 'line', '--help']):\n"
        "    landscape(words, standalone_mode=False)\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'matplotlib', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_shell_completion_offers_commands():
    environment = {
        **os.environ,
        "_LANDSCAPE_COMPLETE": "bash_complete",
        "COMP_WORDS": "landscape sh",
        "COMP_CWORD": "1",
    }
    command = [sys.executable, "-c", "from landscape_cli.main import landscape; landscape(prog_name='landscape')"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["plain,sharpness"]


def test_hessian_saves_what_it_shows(runs, tmp_path):
    shown = run("hessian", runs["r0"], "--count", 2, *QUICK, "--json", "-o", "h.safetensors")
    printed = json.loads(shown.stdout)
    result = load(tmp_path / "h.safetensors")
    assert printed["eigenvalues"] == pytest.approx(result.eigenvalues.tolist())
    assert printed["provenance"]["checkpoint_sha256"] == result.provenance["checkpoint_sha256"]
    assert "accuracy" in shown.stderr
    for key in ("data_sha256", "versions", "command"):
        assert result.provenance[key]
    for key in ("dtype", "device", "threads", "examples", "parameters"):
        assert result.conditions[key]


def test_the_plan_of_a_hessian_is_shown_without_a_measurement(runs, tmp_path):
    out = run("hessian", runs["r0"], "--count", 3, "--plan").output
    assert "basis: 400 rows on cpu, float32" in out
    assert "the smallest is 18 rows" in out
    assert not list(tmp_path.iterdir())
    assert "basis_gib" in refused("hessian", runs["r0"], "--plan", "--basis-gib", "1e-6")


def test_hessian_verified_by_pyhessian(runs):
    out = run("hessian", runs["r0"], "--count", 1, "--tolerance", "1e-6", "--verify", "pyhessian").output
    difference = float(out.split("difference")[1].split()[0])
    assert difference < 1e-3


def test_trace_and_sharpness(runs, tmp_path):
    run("trace", runs["r0"], "--method", "hutchinson", "--min-probes", 4, "--max-matvecs", 4, "-o", "t")
    assert load("t").matvecs == 4
    out = run("trace", runs["r0"], "--by-layer", "--tolerance", 0.2, "--exact", "3.bias", "-o", "layers").stdout
    result = load("layers")
    assert result.layers[-1] == "3.bias"
    assert all(name in out for name in (*result.layers, "exact", "95 % interval", "deflated"))
    assert "Raise exact_limit" in refused("trace", runs["r0"], "--exact", "1.weight", "--exact-limit", 5)
    out = run("sharpness", runs["r0"], *KESKAR, "-o", "s").stdout
    assert "subspace p=5" in out
    assert (load("s").sharpness > 0).all()


def test_density_and_its_picture(runs):
    shown = run("density", runs["r0"], "--steps", 20, "--probes", 1, "-o", "d.safetensors").stdout
    assert "share below zero" in shown
    assert "Gaussian of standard deviation" in shown
    result = load("d.safetensors")
    assert result.matvecs == 20
    run("figure", "d.safetensors", "-o", "picture")
    assert Path("picture.png").stat().st_size > 1000
    printed = json.loads(run("density", runs["r0"], "--steps", 5, "--outliers", 2, "--no-deflate", "--json").stdout)
    assert len(printed["eigenvalues"]) == 2
    assert len(printed["weights"]) == printed["spec"]["probes"] == 2
    assert printed["matvecs"] > 10


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        (("line", "r0", "r1", "--points", 3), (3,)),
        (("line", "r0", "r1", "--points", 3, "--path", "arc"), (3,)),
        (("plane", "r0", "r1", "r2", "--x-points", 2, "--y-points", 3), (2, 3)),
        (("random", "r0", "--points", 3, "--points", 2), (3, 2)),
    ],
    ids=["line", "arc", "plane", "random"],
)
def test_surfaces_and_their_pictures(runs, words, shape):
    words = [runs.get(str(word), word) for word in words]
    run("surface", *words, "-o", "s.safetensors")
    result = load("s.safetensors")
    assert result.complete
    assert result.train_loss.shape == result.test_accuracy.shape == shape
    run("figure", "s.safetensors", "-o", "picture")
    assert Path("picture.pdf").stat().st_size > 1000
    assert Path("picture.png").stat().st_size > 1000
    assert "picture that does not exist yet" in refused("figure", "s.safetensors", "-o", "picture")


def test_a_scan_goes_on_from_its_own_file_and_from_no_other(runs, monkeypatch):
    words = ["surface", "line", runs["r0"], runs["r1"], "-o", "s.safetensors", "--points"]
    calls = []

    def values(scan, w, cell):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(scan, w, cell)

    whole = Values.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Values, "__call__", values)
        run(*words, 5, code=130)
    partial = load("s.safetensors")
    assert 0 < partial.done.sum() < 5
    assert "another scan" in refused(*words, 4)
    run(*words, 5)
    assert load("s.safetensors").complete
    run(*words, 5)  # complete: shown again
    assert "does not exist yet" in refused("trace", runs["r0"], "-o", "s.safetensors")


def test_compare_groups_seeds_by_label(runs):
    words = [f"a={runs['r0']}", f"a={runs['r1']}", f"b={runs['r2']}"]
    out = run("compare", *words, *KESKAR, "--trace", "-o", "c").stdout
    assert "a (2)" in out
    result = load("c")
    assert result.labels == ("a", "a", "b")
    assert {"train loss", "test accuracy (%)", "λ1", "trace", "distance ‖w−w₀‖"} <= set(result.columns)
    run("figure", "c", "--recipe", "comparison")
    assert Path("c.pdf").exists()


def test_compare_says_which_measure_a_checkpoint_has_not(runs):
    run("train", "smooth", "--model", "mlp", "--model-arg", "widths=8", "--model-arg", "activation=tanh", "--epochs", 1)
    words = ("compare", runs["r0"], "smooth", "--no-sharpness", "--eigenvalues", 0, "--measure", "path-norm", "-o", "c")
    out = run(*words, "--measure", "norm").stdout
    result = load("c")
    path, length = (result.values[:, result.columns.index(name)] for name in ("path norm", "norm ‖w‖₂"))
    assert np.isfinite(length).all()
    assert np.isfinite(path).tolist() == [True, False]
    assert "No path-norm for" in out
    assert "piecewise linear" in out


def test_inspect_knows_results_and_checkpoints(runs):
    run("trace", runs["r0"], "--min-probes", 2, "--max-matvecs", 3, "-o", "t")
    assert "Trace" in run("inspect", "t").stdout
    assert json.loads(run("inspect", "t", "--json").stdout)["kind"] == "trace"
    assert "1.weight" in run("inspect", runs["r0"]).stdout
    assert json.loads(run("inspect", runs["r0"], "--json").stdout)["record"]["model"] == "mlp"


def test_outputs_are_never_overwritten_unasked(runs):
    for expected in ("r0-trace.safetensors", "r0-trace-2.safetensors"):
        run("trace", runs["r0"], "--min-probes", 2, "--max-matvecs", 3)
        assert Path(expected).exists()
    before = Path("r0-trace.safetensors").read_bytes()
    assert "--overwrite" in refused("trace", runs["r0"], "-o", "r0-trace.safetensors")
    assert Path("r0-trace.safetensors").read_bytes() == before
    run("trace", runs["r0"], "--min-probes", 3, "--max-matvecs", 3, "-o", "r0-trace.safetensors", "--overwrite")
    assert load("r0-trace.safetensors").matvecs == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("hessian", "nothing.pt"), "does not exist"),
        (("hessian", "{r0}", "--count", 0), "count = 0"),
        (("hessian", "{r0}", "--ends", "top"), "largest"),
        (("hessian", "{r0}", "--ends", "both", "--verify", "pyhessian"), "largest or magnitude"),
        (("hessian", "{r0}", "--model", "mlpp"), "mlp"),
        (("hessian", "{r0}", "--model", "no.such.module:f"), "no.such.module"),
        (("hessian", "{r0}", "--model-arg", "width"), "KEY=VALUE"),
        (("hessian", "{r0}", "--model-arg", "depth=3"), "depth"),
        (("hessian", "{r0}", "--data", "cifar10", "--data-folder", "."), "cifar"),
        (("hessian", "{r0}", "--device", "tpu"), "device"),
        (("hessian", "{r0}", "--examples", 10**9), "examples"),
        (("hessian", "{r0}", "--data", "digits", "--model", "cnn"), "does not fit the model"),
        (("density", "{r0}", "--steps", 1), "steps = 1"),
        (("density", "{r0}", "--basis-gib", 1e-6), "lower steps or probes"),
        (("surface", "line", "{r0}", "{r1}", "--start", 3), "stop"),
        (("surface", "plane", "{r0}", "{r0}", "{r1}", "-o", "p"), "do not span a plane"),
        (("train", "new"), "--model"),
        (("train", "{r0}", "--model", "mlp"), "another configuration"),
        (("compare",), "CHECKPOINT"),
        (("figure", "nothing"), "does not exist"),
        (("inspect", "nothing"), "does not exist"),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, tuple) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(runs, words, says):
    def fill(word: object) -> object:
        return word.format(**runs) if isinstance(word, str) else word

    assert fill(says) in refused(*map(fill, words))


def test_a_scan_that_cannot_be_written_leaves_the_file_that_was_there(runs, monkeypatch):
    run("surface", "line", runs["r0"], runs["r1"], "--points", 3, "-o", "s.safetensors")
    before = Path("s.safetensors").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        words = ("surface", "line", runs["r0"], runs["r1"], "--points", 5, "-o", "s.safetensors", "--overwrite")
        assert "No space left" in refused(*words)
    assert Path("s.safetensors").read_bytes() == before
    run(*words)
    assert load("s.safetensors").shape == (5,)
