"""What the commands do once they are parsed: open, measure, save, show."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from landscape.checkpoints import Opened, open_checkpoint
from landscape.errors import InputError, illegal
from landscape.fields import Spec
from landscape.results import ComparisonResult, HessianResult, Result
from landscape.spec import (
    CompareSpec,
    CorrelateSpec,
    HessianSpec,
    MeasuresSpec,
    ProblemSpec,
    SharpnessSpec,
)

from . import tables
from .outputs import choose_output, store
from .progress import progress


def check_verifiable(verify: str | None, spec: HessianSpec) -> None:
    """PyHessian finds the largest magnitudes only: refuse to check anything else, before measuring it."""
    if verify and spec.operator != "hessian":
        raise illegal("--operator", spec.operator, f"hessian with --verify {verify}", "It knows no other matrix.")
    if verify and spec.ends in ("smallest", "both"):
        raise illegal("--ends", spec.ends, f"largest or magnitude with --verify {verify}", "It finds no other ends.")


def show_plan(checkpoint: str, problem: ProblemSpec, spec: HessianSpec) -> None:
    """The memory that an eigenvalue search would take, of what is free now; nothing is measured."""
    from landscape.plan import plan_basis

    w = open_checkpoint(checkpoint, problem).main.weights
    plan = plan_basis(spec, w)
    click.echo(f"basis: {plan}; the smallest is {plan.fewest} rows, {plan.fewest * plan.row_bytes / 2**30:.2g} GiB")


def measure_one(
    measure: Callable[..., Result],
    checkpoint: str,
    problem: ProblemSpec,
    spec: Spec,
    word: str,
    saving: Mapping[str, Any],
    more: Callable[[Opened], Mapping[str, Any]] = lambda opened: {},
) -> tuple[Any, Opened]:
    """Open, measure, save and show one checkpoint; `more` gives arguments that only an opened one has."""
    output = choose_output(saving["output"], f"{stem_of(checkpoint)}-{word}", saving["overwrite"])
    opened = open_checkpoint(checkpoint, problem)
    announce(opened)
    with progress(word) as report:
        result = measure(opened.main, spec, progress=report, **more(opened))
    return store(result, output, opened.provenance(), saving["as_json"]), opened


def measure_sharpness(
    checkpoint: str,
    audited: bool,
    problem: ProblemSpec,
    keskar: SharpnessSpec,
    spec: MeasuresSpec,
    saving: Mapping[str, Any],
) -> None:
    """Keskar's measure alone as its own result; several measures as one; or the audit of what was asked for."""
    from landscape import audit, measures, sharpness

    if not audited and spec.measures == ("keskar",):
        measure_one(sharpness.measure, checkpoint, problem, keskar, "sharpness", saving)
        return
    measure, word = (audit.measure, "audit") if audited else (measures.measure, "measures")
    measure_one(
        measure, checkpoint, problem, spec, word, saving, lambda opened: {"initial": opened.initial, "keskar": keskar}
    )


def announce(opened: Opened) -> None:
    """Loss and accuracy at the loaded weights, so that a wrong network is noticed at once."""
    loss, accuracy = opened.evaluate()
    share = f", accuracy {100 * accuracy:.2f} %" if accuracy == accuracy else ""
    split, examples = opened.spec.split, opened.main.size
    click.echo(f"{opened.path} · {split} loss {loss:.6g}{share} ({examples} examples)", err=True)
    for note in opened.notes:
        click.echo(f"note: {note}", err=True)


def stem_of(checkpoint: str) -> str:
    """What files about this checkpoint are called."""
    return Path(checkpoint).resolve().stem.replace(" ", "_") or "checkpoint"


def verify_with_pyhessian(result: HessianResult, opened: Opened, quiet: bool) -> None:
    """PyHessian's eigenvalues of the same problem, each beside the nearest of ours, the difference relative to λ1.

    PyHessian goes by magnitude, so that a large negative eigenvalue is among its values and not among `largest`.
    """
    from landscape.crosscheck import pyhessian_eigenvalues

    check = pyhessian_eigenvalues(opened.main, len(result.eigenvalues))
    click.echo(f"PyHessian ({check.products} products; {check.note})", err=quiet)
    for theirs in check.eigenvalues:
        k = int(abs(result.eigenvalues - theirs).argmin())
        ours = result.eigenvalues[k]
        click.echo(
            f"  PyHessian {theirs:.8g}  nearest of ours λ{k + 1} {ours:.8g}  "
            f"difference {abs(ours - theirs) / result.scale:.1e} of |λ1|",
            err=quiet,
        )


def compare_all(
    checkpoints: tuple[str, ...],
    problem: ProblemSpec,
    spec: CompareSpec,
    keskar: SharpnessSpec,
    measures: MeasuresSpec,
    ranks: CorrelateSpec | None,
    saving: Mapping[str, Any],
) -> None:
    """Measure every checkpoint and show them in one table, or with `ranks` what predicts the generalisation gap."""
    from landscape import compare, correlate

    output = choose_output(saving["output"], "correlation" if ranks else "comparison", saving["overwrite"])
    pairs = [labelled(text) for text in checkpoints]

    def entries() -> Any:
        for label, path in pairs:
            opened = open_checkpoint(path, problem)
            announce(opened)
            yield label or opened.label, opened

    with progress("compare") as report:
        result = compare.measure(entries(), spec, keskar, report, measures)
    result = correlate.measure(result, ranks) if ranks else result
    store(result, output, {}, saving["as_json"])


def labelled(text: str) -> tuple[str | None, str]:
    """`label=path`, or a path alone (also one that has an equals sign in it and exists)."""
    label, sign, path = text.partition("=")
    return (None, text) if not sign or Path(text).exists() else (label, path)


def draw_figure(
    paths: tuple[str, ...],
    recipe: str | None,
    output: str | None,
    overwrite: bool,
    names: tuple[str, ...],
    settings: dict,
) -> None:
    """Draw result files into a PDF and a PNG."""
    from landscape.results import load
    from landscape_figures import draw, save_figure  # pyright: ignore[reportMissingImports]

    options: dict[str, Any] = {key: _number_or_text(value) for key, value in settings.items()}
    if names:
        options["names"] = list(names)
    stem = Path(output) if output else Path(paths[0]).with_suffix("")
    for ending in (".pdf", ".png"):
        target = stem.with_name(stem.name + ending)
        if target.exists() and not overwrite:
            raise illegal(
                "--output", str(target), "a picture that does not exist yet", "Choose another, or add --overwrite."
            )
    for written in save_figure(draw([load(path) for path in paths], recipe, **options), stem):
        click.echo(f"saved {written}", err=True)


def _number_or_text(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def inspect_file(path: Path, as_json: bool) -> None:
    """Print what a result file or checkpoint holds."""
    import json

    from landscape.checkpoints import describe
    from landscape.results import load

    try:
        result = load(path) if path.is_file() else None
    except InputError as error:
        if "is not a landscape result" not in str(error):
            raise
        result = None
    if result is not None and as_json:
        click.echo(tables.to_json(result))
    elif result is not None:
        tables.show(result)
        click.echo(json.dumps(tables.plain(result.provenance), indent=2, ensure_ascii=False))
    elif as_json:
        click.echo(json.dumps(tables.plain(describe(path)), indent=2, ensure_ascii=False))
    else:
        tables.show_checkpoint(describe(path))


def run_demo(output: Path, seeds: int) -> None:
    """Train, measure and draw the demo, then say where everything is."""
    from landscape import demo
    from landscape_figures.gallery import DEMO, render  # pyright: ignore[reportMissingImports]

    with progress("demo") as report:
        results = demo.run(output, seeds, report)
    comparison = results["comparison"]
    assert isinstance(comparison, ComparisonResult)
    tables.show_demo(comparison)
    render(output / "results", output / "figures", DEMO)
    click.echo(f"\nresults in {output / 'results'}, figures in {output / 'figures'}, runs in {output / 'runs'}")
