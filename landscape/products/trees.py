"""Arguments of tensor operations: tuples and lists of tensors and plain values, nested at most a little.

torch's pytrees can do the same and are several times slower, which matters at one call per recorded operation.
"""

from collections.abc import Callable, Iterator
from typing import Any

_NESTS = (tuple, list, dict)


def leaves(args: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dictionaries, in order."""
    for x in args.values() if isinstance(args, dict) else args:
        if isinstance(x, _NESTS):
            yield from leaves(x)
        else:
            yield x


def mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """The same nesting with the function's values for leaves."""
    if isinstance(x, tuple | list):
        return type(x)([mapped(function, y) for y in x])
    if isinstance(x, dict):
        return {k: mapped(function, y) for k, y in x.items()}
    return function(x)
