"""How sharp or flat is the minimum in a neural-network checkpoint?

What can be asked (`landscape.spec`), of what (`Problem`, `open_checkpoint`), what was found
(`landscape.results`, `load`, `save`):

    hessian     eigenvalues of the Hessian by Lanczos, with residual bounds and sampling errors
    density     the whole spectrum of the Hessian by stochastic Lanczos quadrature
    trace       trace of the Hessian with its standard error
    sharpness   Keskar's ε-sharpness, full space and random subspace
    measures    measures of sharpness and their companions in one table
    audit       the same before and after rescalings and permutations that keep the function
    surface     the loss along lines, arcs and planes
    basin       shape of the basins a surface shows, merge tree of its minima, passes between them
    path        barriers between minima, and curves of low loss that join them
    compare     several checkpoints in one table
    track       the checkpoints of one training: eigenvalues, edge of stability, distance from the start
    train       the trainer: SAM as a switch on any optimiser

Every measurement module has `measure(problem, spec) -> result` (`basin` takes a surface). Attributes load on
first use, so that `import landscape` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape import audit, basin, compare, density, hessian, measures, path, sharpness, surface, trace, track
    from landscape.checkpoints import open_checkpoint
    from landscape.problem import Problem
    from landscape.results import load, save
    from landscape.training.run import train

__all__ = [
    "Problem",
    "audit",
    "basin",
    "compare",
    "density",
    "hessian",
    "load",
    "measures",
    "open_checkpoint",
    "path",
    "save",
    "sharpness",
    "surface",
    "trace",
    "track",
    "train",
]
__version__ = "0.2.0"

_HOMES = {
    "Problem": "landscape.problem",
    "load": "landscape.results",
    "open_checkpoint": "landscape.checkpoints",
    "save": "landscape.results",
    "train": "landscape.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'landscape' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    return importlib.import_module(f"landscape.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
