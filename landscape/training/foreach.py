"""torch's operations on lists of tensors: one kernel for all, where a loop would have one for each."""

from typing import Any

import torch

_torch: Any = torch  # their names begin with an underscore there

add_ = _torch._foreach_add_
copy_ = _torch._foreach_copy_
multiply = _torch._foreach_mul
multiply_ = _torch._foreach_mul_
