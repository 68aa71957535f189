"""The architecture, read from the sources: who imports whom, where numbers are drawn, who names a device."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEASURES = {"sharpness", "crosscheck"}
BASE = {"errors", "fields", "aliases"}

# module (or package) -> what of ours it may import; `errors` and `fields` are free to all.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "fields": {"errors"},
    "aliases": set(),
    "spec": {"basin_spec", "path_spec", "surface_spec", "train_spec"},
    "basin_spec": set(),
    "path_spec": set(),
    "surface_spec": set(),
    "train_spec": set(),
    "record": {"files"},
    "path_result": {"record", "spec"},
    "surface_result": {"record", "spec"},
    "basin_result": {"record", "spec"},
    "basin": {"basin_result", "basin_spec", "methods", "surface_result"},
    "files": set(),
    "checkpoint_files": {"files"},
    "spectrum": set(),
    "comparison_result": {"record", "spec"},
    "study_spec": {"spec"},
    "study_fields": {"spec"},
    "study_runs": {"spec", "study_fields", "study_spec"},
    "study_file": {"files", "spec", "study_fields", "study_runs", "study_spec"},
    "study_result": {"comparison_result", "study_spec"},
    "study_table": {"files", "study_result", "study_spec"},
    "study_measure": {
        "checkpoints",
        "compare",
        "density",
        "hessian",
        "measures",
        "metrics",
        "results",
        "sharpness",
        "spec",
        "study_spec",
        "trace",
    },
    "study_job": {"checkpoints", "spec", "study_spec", "training"},
    "study_run": {"checkpoints", "files", "study_job", "study_measure", "study_spec", "training"},
    "study_batches": {"checkpoints", "spec", "study_job", "study_run", "study_spec", "training"},
    "study_executors": {"devices"},
    "study_cluster": {"devices", "files", "study_executors"},
    "study": {
        "files",
        "results",
        "study_batches",
        "study_executors",
        "study_file",
        "study_result",
        "study_job",
        "study_run",
        "study_spec",
        "study_table",
        "training",
    },
    "curvature_result": {"record", "spec", "spectrum"},
    "sharpness_result": {"record", "spec"},
    "results": {
        "record",
        "curvature_result",
        "sharpness_result",
        "path_result",
        "surface_result",
        "basin_result",
        "comparison_result",
        "study_result",
    },
    "methods": {"methods"},
    "exchange": {"exchange", "files", "results", "spec"},
    "seeds": set(),
    "kernels": set(),
    "precision": set(),
    "losses": {"likelihoods", "batches", "spec"},
    "likelihoods": {"seeds", "batches"},
    "curvature": {"seeds", "likelihoods"},
    "parameter_names": set(),
    "arguments": set(),
    "factories": {"arguments"},
    "batches": set(),
    "batch_norms": {"batches"},
    "devices": set(),
    "plan": {"devices", "methods", "spec"},
    "products": {"products", "batches", "devices", "precision", "spec"},
    "problem": {
        "batch_norms",
        "batches",
        "devices",
        "curvature",
        "kernels",
        "precision",
        "losses",
        "parameter_names",
        "products",
        "spec",
    },
    "models": {"models", "factories"},
    "data": {"data", "factories", "seeds", "files"},
    "training": {
        "training",
        "batch_norms",
        "checkpoint_files",
        "spec",
        "seeds",
        "problem",
        "losses",
        "kernels",
        "methods",
        "files",
        "data",
    },
    "reading": {"reading", "files"},
    "setting": {"models", "data", "problem", "spec", "losses", "seeds"},
    "checkpoints": {"reading", "setting", "data", "problem", "spec"},
    "blocks": {"problem", "methods", "products"},
    "evaluation": {"evaluation", "batches", "devices", "kernels", "problem", "products"},
    "metrics": {"factories", "problem"},
    "surface_points": {"problem"},
    "surface_geometry": {"methods", "spec", "surface_points"},
    "surface_axes": {"problem", "methods", "seeds", "spec", "surface_geometry", "surface_points"},
    "surface_curvature": {"hessian", "problem", "spec", "units"},
    "surface_values": {
        "batch_norms",
        "evaluation",
        "methods",
        "problem",
        "surface_curvature",
        "surface_geometry",
        "surface_points",
    },
    "surface_resume": {"results"},
    **{
        name: {"problem", "methods", "seeds", "spec", "results", "kernels", "precision", "side_by_side"}
        for name in MEASURES
    },
    "measures": {
        "measures",
        "sharpness",
        "hessian",
        "trace",
        "curvature",
        "likelihoods",
        "precision",
        "problem",
        "products",
        "batches",
        "batch_norms",
        "devices",
        "losses",
        "kernels",
        "training",
        "methods",
        "seeds",
        "spec",
        "results",
    },
    "correlate": {"methods", "results", "seeds", "spec"},
    "side_by_side": {"devices", "methods", "problem", "products"},
    "units": {
        "methods",
        "units",
        "kernels",
        "parameter_names",
        "problem",
        "batches",
        "batch_norms",
        "precision",
        "seeds",
        "spec",
    },
    "audit": {"seeds", "measures", "units", "problem", "precision", "spec", "results"},
    "reduced": {"devices", "methods", "spec", "products", "plan"},
    "density": {"precision", "problem", "methods", "seeds", "spec", "results", "spectrum", "hessian"},
    "trace": {"precision", "problem", "methods", "seeds", "spec", "results", "blocks", "products"},
    "track": {"problem", "methods", "spec", "results", "hessian", "trace", "track_resume"},
    "track_resume": {"methods", "spec", "results"},
    "series": {"checkpoints", "reading", "problem", "spec", "series_order", "track"},
    "series_order": {"spec", "track_resume", "training"},
    "progressive": {"precision", "plan", "problem", "products", "methods", "seeds", "spec"},
    "hessian": {
        "precision",
        "problem",
        "methods",
        "seeds",
        "spec",
        "results",
        "products",
        "progressive",
        "plan",
        "reduced",
    },
    "study_keskar": {
        "demo",
        "sharpness",
        "checkpoints",
        "methods",
        "precision",
        "problem",
        "results",
        "seeds",
        "spec",
    },
    "path": {"problem", "methods", "results", "spec", "path_routes", "surface_points"},
    "path_routes": {"batch_norms", "methods", "problem", "spec", "surface_points", "units"},
    "connect": {"checkpoints", "methods", "problem", "reading", "setting", "spec", "training"},
    "surface": {
        "hessian",
        "methods",
        "precision",
        "problem",
        "results",
        "seeds",
        "spec",
        "surface_axes",
        "surface_fill",
        "surface_geometry",
        "surface_points",
        "surface_resume",
        "surface_values",
        "units",
    },
    "surface_fill": {"methods", "seeds", "surface_geometry", "surface_resume", "surface_values"},
}
TORCH_FREE = {
    "errors", "fields", "spec", "path_spec", "checkpoint_files", "surface_spec", "train_spec", "basin_spec", "spectrum",
    "files", "record", "results", "path_result", "surface_result", "basin_result", "exchange", "comparison_result",
    "curvature_result", "sharpness_result",
    "study_spec", "study_fields", "study_runs", "study_file", "study_result", "study_table",
}  # fmt: skip


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every dotted module name a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "landscape":
                found |= {f"landscape.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """The module's first name below the package: `methods/box.py` lives in the room `methods`."""
    first = path.relative_to(ROOT / "landscape").parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", sources("landscape"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    names = imported(path)
    assert not any(n.split(".")[0] in ("landscape_cli", "landscape_figures", "cli", "figures", "tests") for n in names)
    allowed = ALLOWED.get(room(path))
    if allowed is None:
        assert room(path) in ("__init__", "compare", "demo", "study_digits"), (
            f"{room(path)}: give the new module its row in ALLOWED"
        )
        return
    ours = {n.split(".")[1] for n in names if n.startswith("landscape.")}
    assert ours <= allowed | BASE, f"{path.name} may not import {sorted(ours - allowed - BASE)}"


@pytest.mark.parametrize("path", sources("landscape"), ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_stays_out_of_specs_and_results_and_nn_out_of_methods(path):
    names = imported(path)
    if room(path) in TORCH_FREE:
        assert not any(n.split(".")[0] in ("torch", "jaxtyping") for n in names)
    if room(path) == "methods":
        assert not any(n.startswith("torch.nn") for n in names)


@pytest.mark.parametrize("path", sources("figures"), ids=lambda p: str(p.relative_to(ROOT)))
def test_figures_read_results_and_never_torch(path):
    ours = {n for n in imported(path) if n.startswith("landscape.")}
    assert all(n.split(".")[1] in ("results", "spec", "errors", "files", "study_table") for n in ours)
    assert not any(n.split(".")[0] == "torch" for n in imported(path))


DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal_", "uniform_",
         "bernoulli", "multinomial", "manual_seed", "default_rng", "RandomState"}  # fmt: skip


@pytest.mark.parametrize("path", sources("landscape"), ids=lambda p: str(p.relative_to(ROOT)))
def test_numbers_are_drawn_in_seeds_alone(path):
    if room(path) in ("seeds", "models"):  # models initialise under seeds.global_stream
        return
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & DRAWS


@pytest.mark.parametrize("path", sources("landscape"), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_device_is_named_in_numerics(path):
    if room(path) == "checkpoints":
        return
    attributes = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "cuda" not in attributes or room(path) in ("seeds", "devices", "precision", "training", "checkpoints")
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not any(isinstance(f, ast.Attribute) and f.attr == "cuda" for f in calls)


def test_the_command_line_imports_no_torch_at_the_top():
    for path in sources("cli"):
        if path.name not in ("main.py", "options.py", "progress.py"):
            continue
        top = {n for node in ast.parse(path.read_text()).body for n in _top_names(node)}
        assert not any(n.split(".")[0] in ("torch", "matplotlib", "rich") for n in top)
        assert {n for n in top if n.startswith("landscape.")} <= {
            "landscape.spec",
            "landscape.fields",
            "landscape.errors",
        }


def _top_names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module} if isinstance(node, ast.ImportFrom) and node.module else set()
