"""Tables of every kind of result: CSV that reads back bit for bit, LaTeX that compiles, files never overwritten."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from landscape.fields import Spec
from landscape.results import (
    AuditResult,
    ComparisonResult,
    CorrelationResult,
    DensityResult,
    HessianResult,
    MeasuresResult,
    PathResult,
    Result,
    SharpnessResult,
    SurfaceResult,
    TraceResult,
    TrackResult,
    save,
)
from landscape.spec import (
    CorrelateSpec,
    DensitySpec,
    HessianSpec,
    LineSpec,
    MeasuresSpec,
    PathSpec,
    PlaneSpec,
    SharpnessSpec,
    TraceSpec,
    TrackSpec,
)
from landscape_cli import latex
from landscape_cli.cells import Grid, Interval, Number, with_error
from landscape_cli.export import to_csv, to_latex
from landscape_cli.grids import grid
from landscape_cli.grids_measures import comparison
from landscape_cli.main import landscape
from landscape_cli.records import records
from landscape_cli.tables import to_text

NASTY = (
    "_large_batch_$5", "50 % & more", 'a,b"c', "two\nlines", "λ₁", "[1ex] *x", r"\input{x} {~^#", "--dashes---", "",
    "  indented", "φ₁²₃ˣ ‖w−w₀‖∞ ±×≤→·Ψ‖", "Łódź naïve ½ 模型 😀 \udcff\x07", "<a|b> ‘q’ ℓ∞ ρ=0.1 20 °C ∇f",
    "λmax λ12 λ1x μµΩ",
)  # fmt: skip
RNG = np.random.default_rng(0)
NONE = np.zeros(0)


def numbers(*shape: int) -> np.ndarray:
    """Numbers of all sizes and signs that no short decimal is."""
    return RNG.standard_normal(shape) * 10 ** RNG.uniform(-12, 12, shape)


def table(**more: object) -> dict:
    values, errors = numbers(15, 3), np.abs(numbers(15, 3))
    values[0, 0], values[1, 1], values[2, 1], errors[:, 2], errors[3, 1] = np.nan, np.inf, -np.inf, np.nan, np.inf
    columns = ("λ1", "distance ‖w−w₀‖", "sharpness full ε=0.001 (%)")
    labels = (*NASTY, NASTY[0])
    return {"labels": labels, "checkpoints": tuple(f"runs/{k},\n" for k in range(15)), "columns": columns,
            "values": values, "errors": errors, **more}  # fmt: skip


def audit() -> AuditResult:
    changes = np.array([[0.0, 0.5], [1e-7, np.nan], [np.inf, 2e-3]])
    verdicts = (("invariant", "moves"), ("within error", "moves"), ("BROKEN", "moves"))
    return AuditResult(
        spec=MeasuresSpec(), loss=0.1, names=NASTY[:3], measures=("keskar",) * 3, kinds=("permutation", "rescaling"),
        values=numbers(3), errors=numbers(3), values_after=numbers(3, 2), errors_after=numbers(3, 2), changes=changes,
        claims=changes > 1, allowances=numbers(3, 2), spreads=numbers(3), output_changes=numbers(2), verdicts=verdicts,
        groups=(("permutation", "0", 9),), left_out=(),
    )  # fmt: skip


def track() -> TrackResult:
    wide, tall = {name: numbers(4, 2) for name in ("eigenvalues", "residuals")}, np.full(4, np.nan)
    names = ("traces", "trace_errors", "losses", "accuracies", "gradient_norms", "distances", "rhos", "edges")
    done = np.array([True, True, False, True])
    return TrackResult(
        spec=TrackSpec(), labels=NASTY[:4], digests=("",) * 4, steps=np.arange(4.0), epochs=tall, learning_rates=tall,
        **wide, **{name: numbers(4) for name in (*names, "sam_edges", "durations")},
        converged=wide["residuals"] > 0, matvecs=np.arange(4), trace_matvecs=np.arange(4), done=done,
        troubles=("", "", "", NASTY[1]), origin="", edge_formula="2/η", fit=(0.0, 1.0), fit_r2=1.0,
        fit_range=(0.0, 1.0), fit_points=3,
    )  # fmt: skip


def surface(spec: Spec, y: np.ndarray) -> SurfaceResult:
    z = numbers(3, *y.shape) if len(y) else numbers(3)
    z[1] = np.nan
    return SurfaceResult(
        spec=spec, x=numbers(3), y=y, train_loss=z, test_loss=np.float32(2) * z.astype(np.float32), test_accuracy=NONE,
        train_accuracy=z / 3, labels=NASTY, marks=NONE, complete=False, evaluations=6,
    )  # fmt: skip


def paths() -> PathResult:
    tables = {name: numbers(3, 4) for name in ("barriers", "barrier_t", "barrier_accuracy", "rises", "rise_t")}
    tables["barriers"][0] = np.inf
    return PathResult(
        spec=PathSpec(), labels=NASTY[:2], paths=NASTY[2:5], t=numbers(5), train_loss=numbers(3, 5),
        train_accuracy=numbers(3, 5), test_loss=numbers(3, 5), test_accuracy=NONE, lengths=numbers(3), **tables,
        rise_accuracy=numbers(3, 4), evaluations=9
    )  # fmt: skip


RESULTS: dict[str, Result] = {
    "hessian": HessianResult(
        spec=HessianSpec(), eigenvalues=numbers(3), residuals=numbers(3), sampling_errors=np.array([1, np.nan, 3e-9]),
        converged=np.array([True, False, True]), scale=1.0, matvecs=7, restarts=0, conditions={"dtype": "float32"},
    ),
    "density": DensityResult(
        spec=DensitySpec(), size=100, eigenvalues=np.array([9.0, 3]), residuals=np.zeros(2), width=0.1,
        nodes=np.linspace(-1, 2, 9), weights=np.full((2, 9), 1 / 9), spreads=np.ones(9), moments=numbers(4),
        moment_errors=numbers(4) ** 2, complete=True, matvecs=20,
    ),
    "trace": TraceResult(
        spec=TraceSpec(), trace=float(numbers()), standard_error=0.1, converged=False, matvecs=9, samples=numbers(3),
        interval=(1e-7, 3.3e9), layers=NASTY, layer_traces=numbers(14), layer_errors=np.arange(14.0),
    ),
    "sharpness": SharpnessResult(
        spec=SharpnessSpec(), loss=0.1, sharpness=numbers(2, 2), deviation=numbers(2, 2), values=numbers(2, 2, 5),
        maxima=numbers(2, 2, 5), active=numbers(2, 2, 5), projected_gradient=np.zeros((2, 2, 5)),
        spread=numbers(2, 2, 5), probe=numbers(2, 2, 5), evaluations=9,
    ),
    "measures": MeasuresResult(
        spec=MeasuresSpec(), loss=0.1, names=NASTY, groups=NASTY, values=numbers(14), errors=np.full(14, np.nan),
        certificates=({"converged": False, "in_bounds": 1e-9, "law": "N(0,σ²)"},) * 14,
    ),
    "audit": audit(),
    "line": surface(LineSpec(), NONE),
    "plane": surface(PlaneSpec(), numbers(2)),
    "comparison": ComparisonResult(**table()),
    "correlation": CorrelationResult(
        **table(), spec=CorrelateSpec(), gaps=numbers(15), measures=NASTY[:3], taus=np.array([0.1, -0.9, np.nan]),
        lows=np.array([-0.2, -1, np.nan]), highs=np.array([1 / 3, 0, np.nan]), counts=np.full(3, 15),
        factors=("batch_size",), psis=numbers(3, 1), granulated=np.full(3, np.nan),
    ),
    "track": track(),
    "path": paths(),
}  # fmt: skip
every_result = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)


def read(text: str) -> tuple[list[str], list[list[str]]]:
    heads, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert all(len(row) == len(heads) for row in rows)
    assert len(set(heads)) == len(heads)
    assert all(heads)
    return heads, rows


def columns(result: Result) -> dict[str, list[str]]:
    heads, rows = read(to_csv(records(result)))
    return dict(zip(heads, map(list, zip(*rows, strict=True)), strict=True))


def assert_bits(cells: list[str], expected: np.ndarray | list) -> None:
    back = np.array([float(cell) if cell else np.nan for cell in cells])
    np.testing.assert_array_equal(back.view(np.int64), np.asarray(expected, float).ravel().view(np.int64))


# -- CSV ---------------------------------------------------------------------------------------------------


@every_result
def test_csv_has_every_number_of_its_table_bit_for_bit(result):
    table, written = records(result), columns(result)
    count = 0
    for place, heading in enumerate(table.headings):
        for row, cell in enumerate(cells[place] for cells in table.rows):
            if isinstance(cell, str):
                assert written.get(heading, written.get(f"{heading} low"))[row] == cell
            elif isinstance(cell, Interval):
                assert_bits([written[f"{heading} {end}"][row] for end in ("low", "high")], [cell.low, cell.high])
            else:
                assert_bits([written[heading][row]], [cell.value])
                if cell.error is not None:
                    assert_bits([written[f"{heading} error"][row]], [cell.error])
            count += not isinstance(cell, str)
    assert count


def test_csv_columns_are_the_arrays_of_the_results():
    h = columns(RESULTS["hessian"])
    assert list(h) == ["name", "eigenvalue", "residual", "sampling error", "converged"]
    assert_bits(h["eigenvalue"], RESULTS["hessian"].eigenvalues)
    assert h["sampling error"] == ["1.0", "", "3e-09"]
    assert h["converged"] == ["yes", "NO", "yes"]
    d = columns(RESULTS["density"])
    assert_bits(d["value"][4:6], RESULTS["density"].moments[:2])
    assert_bits(d["value error"][4:6], RESULTS["density"].moment_errors[:2])
    assert d["value error"][:4] == [""] * 4
    t = columns(RESULTS["trace"])
    assert_bits(t["trace"], np.r_[RESULTS["trace"].trace, RESULTS["trace"].layer_traces])
    assert_bits(t["trace error"], np.r_[0.1, RESULTS["trace"].layer_errors])
    assert (t["95 % interval low"][0], t["95 % interval high"][0]) == ("1e-07", "3300000000.0")
    assert t["95 % interval low"][1] == t["95 % interval high"][1] == t["trace"][1]  # measured exactly
    assert t["name"] == ["whole", *NASTY]
    s = columns(RESULTS["sharpness"])
    assert_bits(s["sharpness (%)"], RESULTS["sharpness"].sharpness)
    assert_bits(s["sharpness (%) error"], RESULTS["sharpness"].deviation)
    m = columns(RESULTS["measures"])
    assert_bits(m["value"], RESULTS["measures"].values)
    assert m["value error"] == [""] * 14
    c = columns(RESULTS["correlation"])
    assert c["95 % interval low"] == ["-1.0", "-0.2", ""]
    assert c["Kendall τ"] == ["-0.9", "0.1", ""]
    p, path = columns(RESULTS["path"]), RESULTS["path"]
    assert p["quantity"] == ["train loss", "train error (%)", "test loss"] * 3
    assert p["path"] == [name for name in path.paths for _ in range(3)]
    assert_bits(p["barrier"], path.barriers[:, :3] * [1, 100, 1])
    assert_bits(p["at t"], path.barrier_t[:, :3])
    assert_bits(p["length"], np.repeat(path.lengths, 3))
    a = columns(RESULTS["audit"])
    assert_bits(a["rescaling change"], RESULTS["audit"].changes[:, 1])
    assert_bits(a["permutation value error"], RESULTS["audit"].errors_after[:, 0])
    assert a["permutation verdict"] == ["invariant", "within error", "BROKEN"]


def test_csv_has_a_row_for_each_checkpoint_and_point():
    result = RESULTS["comparison"]
    cells = columns(result)
    assert cells["label"] == list(result.labels)
    assert cells["checkpoint"] == list(result.checkpoints)
    for j, name in enumerate(result.columns):
        assert_bits(cells[name], result.values[:, j])
        assert_bits(cells[f"{name} error"], result.errors[:, j])
    plane = RESULTS["plane"]
    cells = columns(plane)
    assert list(cells) == ["x", "y", "train loss", "test loss", "train accuracy"]
    assert_bits(cells["x"], np.repeat(plane.x, 2))
    assert_bits(cells["y"], np.tile(plane.y, 3))
    assert_bits(cells["train loss"], plane.train_loss)
    assert_bits(cells["test loss"], plane.test_loss)
    assert list(columns(RESULTS["line"])) == ["x", "train loss", "test loss", "train accuracy"]
    series = RESULTS["track"]
    cells = columns(series)
    for name, expected in {
        "λ2": series.eigenvalues[:, 1], "λ2 residual": series.residuals[:, 1], "loss": series.losses,
        "trace error": series.trace_errors, "accuracy (%)": 100 * series.accuracies, "products": series.matvecs,
    }.items():  # fmt: skip
        assert_bits(cells[name], expected)
    assert cells["done"] == ["yes", "yes", "NO", "yes"]
    assert cells["epoch"] == [""] * 4
    assert cells["trouble"][3] == NASTY[1]


def test_csv_is_as_rfc_4180_says():
    text = to_csv(Grid("t", ("", "a"), ((NASTY[2], Number(0.1, 0.2)), (NASTY[3], Number(np.float32(0.1))), ("x", "y"))))
    assert text == 'name,a,a error\r\n"a,b""c",0.1,0.2\r\n"two\nlines",0.10000000149011612,\r\nx,y,\r\n'


# -- LaTeX -------------------------------------------------------------------------------------------------


def tabular(result: Result) -> str:
    return to_latex(comparison(result, by_label=True) if type(result) is ComparisonResult else grid(result))


def assert_clean(text: str) -> None:
    """Specials only in their places: plain ASCII, balanced braces and dollars, no command but known ones."""
    assert text.isascii()
    bare = re.sub(r"\\[&%$#_{}]", "", text)  # escaped ones
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    formulas = bare.split("$")
    assert len(formulas) % 2 == 1
    outside = re.sub(r"\\[`'^~=.\"rHvc]\{[A-Za-z]\}", "", "".join(formulas[::2]))
    assert not re.search(r"[%#_^~\"<>|]", outside)
    assert not re.search(r"(?<!\{)[\[*]", outside)
    commands = set(re.findall(r"\\([A-Za-z]+)", "".join(formulas[::2])))
    assert commands <= {"textbackslash", "textasciitilde", "textasciicircum", "quad", "dots", "L", "r", "v", "c", "H"}


@every_result
def test_latex_is_a_table_of_equal_rows_without_bare_specials(result):
    package, caption, begin, top, *body, bottom, end, last = tabular(result).split("\n")
    assert (top, bottom, end, last) == (r"\toprule", r"\bottomrule", r"\end{tabular}", "")
    assert package == r"% \usepackage{booktabs}"
    assert caption.startswith(r"% \caption{")
    assert_clean(caption.removeprefix(r"% \caption"))
    align = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", begin)[1]
    assert body.pop(1) == r"\midrule"
    for row in body:
        assert row.endswith(r" \\")
        assert_clean(row.removesuffix(r"\\"))
        assert len(re.findall(r"(?<!\\)&", row)) == len(align) - 1


def test_a_comparison_is_a_row_for_each_label_and_numbers_are_rounded():
    result = ComparisonResult(
        labels=("a_1", "a_1", "b"), checkpoints=("x", "y", "z"), columns=("λ1", "‖w−w₀‖", "trace"),
        values=np.array([[1.0, 2e-7, np.nan], [2.0, 3e-7, 1.0], [3.0, np.inf, 3.0]]), errors=np.full((3, 3), np.nan),
    )  # fmt: skip
    assert tabular(result).splitlines()[2:] == [
        r"\begin{tabular}{lrrr}", r"\toprule", r" & $\lambda_{1}$ & $\|w-w_{0}\|$ & trace \\", r"\midrule",
        r"a\_1 & $1.5 \pm 0.7$ & $(2.5 \pm 0.7) \times 10^{-7}$ & -- \\", r"b & $3$ & $\infty$ & $3$ \\",
        r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ("1.2e-05", r"$1.2 \times 10^{-5}$"), ("3e+06", r"$3 \times 10^{6}$"), ("0.0e+00", "$0.0$"),
        ("-1.5", "$-1.5$"), ("+0.25", "$+0.25$"), ("–", "--"), ("-inf", r"$-\infty$"), ("1.23 ± 0", r"$1.23 \pm 0$"),
        (with_error(-1.234e10, 3e8), r"$(-1.234 \pm 0.030) \times 10^{10}$"),
    ],
)  # fmt: skip
def test_numbers_become_formulas(shown, written):
    assert latex.number(shown) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50 % & more_$5", r"50 \% \& more\_\$5"),
        ("{#}~^\\", r"\{\#\}\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("λ₁ λ12 λmax λ1x", r"$\lambda_{1}$ $\lambda_{12}$ $\lambda_{\max}$ $\lambda$1x"),
        ("‖Hv−λv‖", r"$\|Hv-\lambda v\|$"),
        ("a₁₂² tr H²", r"a$_{12}{}^{2}$ tr H$^{2}$"), ("ε≤ρ", r"$\varepsilon\leq\rho$"), ("two\nlines", "two lines"),
        ("  deep", r"\quad deep"), (" % x", r" \% x"), ("é 模", r"\'{e} {[}U+6A21{]}"), ("a--b", "a-{}-b"),
        ("a – b", "a -- b"), ("2 × 3 → ∞", r"2 $\times$ 3 $\to$ $\infty$"), ("‖", r"$\|$"), ("", ""), (" ", ""),
    ],
)  # fmt: skip
def test_text_is_escaped(text, written):
    assert latex.escape(text) == written


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    everything = Grid("", ("",), tuple((chr(code) + "x",) for code in range(0x20, 0x2300)))
    bodies = [*map(tabular, RESULTS.values()), to_latex(everything)]
    opening = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    for number, body in enumerate(bodies):
        (tmp_path / f"t{number}.tex").write_text(f"{opening}{body}\\end{{document}}\n", encoding="utf-8")
        words = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", f"t{number}.tex"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-2000:]
        assert b"Missing character" not in (tmp_path / f"t{number}.log").read_bytes()


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    printable = tuple(label.replace("\udcff", "") for label in RESULTS["comparison"].labels)
    save(dataclasses.replace(RESULTS["comparison"], labels=printable), "c.safetensors")
    return tmp_path / "c.safetensors"


def run(*words: object, code: int = 0):
    result = CliRunner().invoke(landscape, ["table", *map(str, words)])
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_the_table_is_printed_or_written_in_each_format(saved):
    assert "mean ± standard deviation over seeds" in run(saved).stdout
    assert run(saved, "--format", "text").stdout == run(saved).stdout
    printed = {form: run(saved, "--format", form).stdout_bytes for form in ("csv", "latex", "json")}
    for name, form in {"a.csv": "csv", "b.TEX": "latex", "c.json": "json"}.items():
        assert f"saved {name}" in run(saved, "-o", name).stderr
        assert Path(name).read_bytes() == printed[form]
    run(saved, "-o", "t.txt")
    assert "distance ‖w−w₀‖" in Path("t.txt").read_text(encoding="utf-8")
    assert read(printed["csv"].decode())[0][:3] == ["label", "checkpoint", "λ1"]
    assert json.loads(printed["json"])["kind"] == "comparison"
    run(saved, "-o", "a.csv", "--format", "latex", "--overwrite")
    assert Path("a.csv").read_bytes() == printed["latex"]


def test_names_of_files_that_are_no_text_are_written(saved):
    save(RESULTS["comparison"], "c.safetensors")  # a surrogate, as in a path that is not UTF-8
    for form in ("csv", "latex", "json"):
        assert run(saved, "--format", form).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("c.safetensors", "-o", "there.csv"), "--overwrite"),
        (("c.safetensors", "-o", "new.xls"), "ends in .txt, .csv, .tex, .json"),
        (("c.safetensors", "-o", "c.safetensors", "--format", "csv", "--overwrite"), "another file than the result"),
        (("c.safetensors", "-o", "."), "directory"),
        (("c.safetensors", "-o", "there.csv/x.csv"), "cannot write"),
        (("c.safetensors", "--format", "html"), "html"),
        (("nothing",), "does not exist"),
        (("there.csv",), "not a landscape result"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(saved, words, says):
    Path("there.csv").write_text("kept")
    before = saved.read_bytes()
    lines = run(*words, code=2).stderr.strip().splitlines()
    assert lines[-1].startswith(("landscape: ", "Error: "))
    assert says in lines[-1]
    assert Path("there.csv").read_text() == "kept"
    assert saved.read_bytes() == before
    assert {path.name for path in saved.parent.iterdir()} == {"c.safetensors", "there.csv"}


def test_tables_need_neither_torch_nor_for_csv_and_latex_rich(saved):
    code = (
        "import sys; from landscape_cli.main import landscape\n"
        "for form in ('csv', 'latex'):\n"
        "    landscape(['table', 'c.safetensors', '--format', form], standalone_mode=False)\n"
        "assert 'rich' not in sys.modules\n"
        "landscape(['table', 'c.safetensors'], standalone_mode=False)\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'matplotlib')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()


@every_result
def test_text_is_what_the_terminal_shows_in_long_lines(result):
    lines = to_text(result).splitlines()
    assert grid(result).title in " ".join(" ".join(lines).split())
    assert not any(line != line.rstrip() for line in lines)


def test_brackets_and_colons_in_labels_are_shown():
    result = ComparisonResult(
        labels=("[red]a", ":smile:"), checkpoints=("x", "y"), columns=("[b]λ1",), values=np.ones((2, 1)),
        errors=np.ones((2, 1)),
    )  # fmt: skip
    assert all(name in to_text(result) for name in ("[red]a", ":smile:", "[b]λ1"))
