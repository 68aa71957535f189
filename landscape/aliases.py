"""Types that signatures share."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, " n"]
Matvec = Callable[[Tensor], Tensor]
Batch = tuple[Any, Any]
"""One batch as a pair: the model's inputs and the loss's targets, examples along the first axis."""
