"""The project's own figures: which results each is drawn from. `make figures` and `landscape demo` run this.

python -m landscape_figures.gallery RESULTS_FOLDER PICTURES_FOLDER TABLES_FOLDER
"""

import sys
from pathlib import Path
from typing import Any

from landscape.files import write_atomically
from landscape.results import StudyResult, load
from landscape.study_table import cells_table, to_csv

from . import draw, save_figure

Pictures = dict[str, tuple[str, tuple[str, ...], dict[str, Any]]]
"""Picture -> recipe, result files (without ending), options of the recipe."""

DEMO: Pictures = {
    "eigenvalues": ("eigenvalues", ("comparison",), {}),
    "sharpness": ("sharpness_bars", ("comparison",), {}),
    "parametric": ("parametric", ("line",), {}),
    "parametric_arc": ("parametric", ("arc",), {}),
    "plane": ("plane", ("plane",), {}),
    "sharp_and_flat": ("surface_pair", ("random-large-batch", "random-sam"), {}),
}
"""What `landscape demo` measures."""

GALLERY: Pictures = {
    **DEMO,
    "surface_3d": ("surface_3d", ("plane",), {}),
    "correlation": ("correlation", ("correlation",), {}),
    "audit": ("audit", ("audit",), {}),
    "trajectory": ("plane", ("mnist-trajectory",), {"names": ["epoch 10"]}),
    "mnist_plane": ("plane", ("mnist-plane",), {"names": ["batch 64 a", "batch 64 b", "batch 256"]}),
    "barriers": ("barriers", ("barrier-64a-64b", "barrier-64a-256", "barrier-64b-256"), {}),
    "barriers_batch_norm": ("barriers", ("barrier-sgd-large-batch", "barrier-large-batch-sam", "barrier-sgd-sam"), {}),
    "digits_batch": ("study", ("study-digits-batch",), {"x": "batch_size", "y": "λ1", "by": "momentum"}),
    "edges": (
        "edges",
        (
            "edge-lr0.1-rho0",
            "edge-lr0.13-rho0",
            "edge-lr0.16-rho0",
            "edge-lr0.1-rho0.02",
            "edge-lr0.1-rho0.05",
            "edge-lr0.1-rho0.1",
        ),
        {"names": ["η = 0.1", "η = 0.13", "η = 0.16", "η = 0.1, ρ = 0.02", "η = 0.1, ρ = 0.05", "η = 0.1, ρ = 0.1"]},
    ),
    "tabular_sgd": (
        "study",
        ("study-tabular",),
        {"x": "learning_rate", "y": "test loss", "by": "rho", "where": "optimiser=sgd,l2=0"},
    ),
    "tabular_adam": (
        "study",
        ("study-tabular",),
        {"x": "learning_rate", "y": "test loss", "by": "rho", "where": "optimiser=adam,l2=0"},
    ),
    "random_labels": (
        "study",
        ("study-random-labels",),
        {"x": "data_args.label_noise", "y": "sharpness full ε=0.001 (%)"},
    ),
    "sam_label_noise": (
        "study",
        ("study-sam-mnist",),
        {"x": "rho", "y": "test accuracy (%)", "by": "data_args.label_noise"},
    ),
    "sam_curvature": (
        "study",
        ("study-sam-mnist",),
        {"x": "rho", "y": "λ1", "by": "data_args.label_noise"},
    ),
    "keskar_batch_size": (
        "study",
        ("study-keskar",),
        {"x": "batch_size", "y": "sharpness full ε=0.001 (%)", "below": "test accuracy (%)"},
    ),
    "keskar_line": ("parametric", ("keskar-line",), {"names": ["batch 256", "batch 6000"]}),
    "keskar_arc": ("parametric", ("keskar-arc",), {"names": ["batch 256", "batch 6000"]}),
    "keskar_warm_start": (
        "study",
        ("study-keskar-warm",),
        {"x": "start_epoch", "y": "sharpness full ε=0.001 (%)", "below": "test accuracy (%)"},
    ),
    "keskar_along": (
        "study",
        ("study-keskar-along",),
        {"x": "train loss", "y": "sharpness full ε=0.001 (%)", "by": "batch_size"},
    ),
    "keskar_remedies": (
        "study",
        ("study-keskar-remedies",),
        {"x": "run", "y": "sharpness full ε=0.001 (%)", "below": "test accuracy (%)"},
    ),
    "hoffer_distance": (
        "study",
        ("study-hoffer-distance",),
        {"x": "step", "y": "distance ‖w−w₀‖", "by": "batch_size", "fit": "log"},
    ),
    "hoffer_mnist": ("study", ("study-hoffer-mnist",), {"x": "run", "y": "test accuracy (%)"}),
    "hoffer_cifar10": ("study", ("study-hoffer-cifar10",), {"x": "run", "y": "test accuracy (%)"}),
    "sam_cifar10": ("study", ("study-sam-cifar10",), {"x": "rho", "y": "test accuracy (%)", "below": "λ1"}),
    "sam_cifar10_spectra": (
        "density",
        ("sam-cifar10-density-rho0", "sam-cifar10-density-rho0.1"),
        {"names": ["SGD", "SAM, ρ = 0.1"]},
    ),
    "sam_cifar10_surfaces": (
        "surface_pair",
        ("sam-cifar10-random-rho0", "sam-cifar10-random-rho0.1"),
        {"names": ["SGD", "SAM, ρ = 0.1"]},
    ),
    "cats_dogs": (
        "study",
        ("study-cats-dogs",),
        {"x": "epoch", "y": "test F1 (%)", "below": "test loss", "by": "rho"},
    ),
    "keskar_dependence": ("dependence", ("keskar-dependence",), {}),
}


def render(results: Path, output: Path, pictures: Pictures = GALLERY) -> list[Path]:
    """Draw pictures of the gallery from a folder of results; returns the files written."""
    written: list[Path] = []
    for name, (recipe, sources, options) in pictures.items():
        found = [load(results / f"{source}.safetensors") for source in sources]
        written += save_figure(draw(found, recipe, **options), output / name)
    return written


def tabulate(results: Path, output: Path) -> list[Path]:
    """The table of every study in a folder of results, as CSV with all digits; returns the files written."""
    written: list[Path] = []
    for source in sorted(results.glob("study-*.safetensors")):
        found = load(source)
        assert isinstance(found, StudyResult)
        written.append(output / f"{source.stem.removeprefix('study-')}.csv")
        write_atomically(written[-1], to_csv(cells_table(found)).encode())
    return written


if __name__ == "__main__":
    for path in (*render(Path(sys.argv[1]), Path(sys.argv[2])), *tabulate(Path(sys.argv[1]), Path(sys.argv[3]))):
        print(path)
