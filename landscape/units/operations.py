"""The operations of a run, one after another: their names, and their numbers, which are the same at every run."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch.overrides import TorchFunctionMode


class Operations(TorchFunctionMode):
    """Inside, `see` is called after each operation; `number` counts them from 1.

    Functions of torch that are written in Python and are made of operations (`_COMPOSED`) are followed inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = operation(func)
        if name in _COMPOSED:
            with self:
                return _opened(func)(*args, **kwargs)
        self.number += 1
        result = func(*args, **kwargs)
        self.see(name, func, args, kwargs, result)
        return result

    def see(self, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
        """What is done about an operation."""
        raise NotImplementedError


_COMPOSED = ("multi_head_attention_forward",)


def _opened(func: Any) -> Callable[..., Any]:
    """The function without its first lines, which hand the whole call to whoever watches operations."""
    known = {**func.__globals__, "has_torch_function": lambda tensors: False}
    opened = FunctionType(func.__code__, known, func.__name__, func.__defaults__, func.__closure__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened


def operation(func: Any) -> str:
    """The operation's name, the same for function, method, operator and in-place method: `add` for `x += y`."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = getattr(func.__self__, "__name__", name)
    plain = name.strip("_")
    return _ALIASES.get(name, _ALIASES.get(plain, plain))


_ALIASES = {
    "iadd": "add", "radd": "add", "isub": "sub", "imul": "mul", "rmul": "mul", "multiply": "mul", "subtract": "sub",
    "truediv": "div", "itruediv": "div", "divide": "div", "true_divide": "div", "rtruediv": "rdiv", "rdiv": "rdiv",
    "imatmul": "matmul", "absolute": "abs", "negative": "neg", "concat": "cat", "concatenate": "cat",
    "ipow": "pow", "mm": "matmul", "bmm": "matmul", "special_expit": "sigmoid", "arctan": "atan",
}  # fmt: skip
