"""What torch has, but does not name in public: operations on lists of tensors, and who else holds a tensor's memory."""

from typing import Any

import torch
from torch import Tensor, nn

_torch: Any = torch  # their names begin with an underscore there

add_ = _torch._foreach_add_
copy_ = _torch._foreach_copy_
multiply = _torch._foreach_mul
multiply_ = _torch._foreach_mul_


def owns_memory(tensor: Tensor) -> bool:
    """Whether no other tensor sees this one's memory: no view, alias, tied parameter, NumPy array or graph."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return False
    memory = tensor.untyped_storage()
    return _torch._C._storage_Use_Count(memory._cdata) == 2  # the tensor, and the name above
