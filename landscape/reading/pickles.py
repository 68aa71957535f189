"""What a pickle would build, found out without building it.

The opcodes are read with `pickletools` and their effect is only written down: a call becomes a `Call` that
names the callable, never the callable itself. So a file can be judged before `torch.load` sees it: which
classes it wants, and how much memory it asks for.
"""

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_OPCODE_LIMIT = 5_000_000
_KEYS = (str, int, float, bool, bytes, type(None))


class UnreadableError(ValueError):
    """The bytes are not a pickle, or one that nobody needs for weights."""


@dataclass(frozen=True)
class Name:
    """A class or function the pickle refers to, as `module.name`."""

    path: str


@dataclass(eq=False)
class Call:
    """What calling `name` with `arguments` would make; `items` and `state` were put into it afterwards."""

    name: str
    arguments: Any
    items: list[Any] = field(default_factory=list)
    state: Any = None


@dataclass(frozen=True, eq=False)
class External:
    """A persistent id: data that lies outside the pickle (a tensor's storage)."""

    identity: Any


class _Mark:
    pass


def read(file: io.BytesIO) -> Any:
    """The object described by the pickle that starts at the file's position, which moves behind it.

    Raises `UnreadableError` for anything that is not a whole pickle, without ever importing, calling or
    allocating what it names.
    """
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= _OPCODE_LIMIT:
                raise UnreadableError(f"it has more than {_OPCODE_LIMIT} steps")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except UnreadableError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way, and every one means the same
        raise UnreadableError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    raise UnreadableError("it ends before its last step")


def walk(root: Any) -> Iterator[Any]:
    """Every object below `root`, itself included, each once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _KEYS) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, External):
            waiting.append(item.identity)
        elif isinstance(item, Call):
            waiting += [item.arguments, item.state, *item.items]


class _Machine:
    """The pickle virtual machine with all its effects removed."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _PUSHED:
            self.stack.append(argument if name not in _CONSTANTS else _CONSTANTS[name]())
        elif name in _GROUPED:
            _GROUPED[name](self, self.pop_mark())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise UnreadableError(f"it uses the instruction {name}")

    def pop_mark(self) -> list[Any]:
        position = len(self.stack) - 1
        while not isinstance(self.stack[position], _Mark):
            position -= 1
            if position < 0:
                raise UnreadableError("a list in it has no beginning")
        items = self.stack[position + 1 :]
        del self.stack[position:]
        return items

    def fold(self, count: int) -> None:
        """Replace the last `count` values by their tuple."""
        if len(self.stack) < count:
            raise UnreadableError("a tuple in it is too short")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(values)

    def call(self, arguments: Any, target: Any) -> None:
        if isinstance(target, External) and isinstance(target.identity, tuple):  # a class with its source code
            target = next((part for part in target.identity if isinstance(part, Name)), target)
        name = target.path if isinstance(target, Name) else "something that is not a name"
        self.stack.append(Call(name, arguments))

    def insert(self, items: list[Any]) -> None:
        """Put keys and values, alternately, into the dict on top of the stack."""
        pairs = list(zip(items[::2], items[1::2], strict=True))
        for key, _ in pairs:
            if not hashes_quickly(key):
                raise UnreadableError(f"a dict in it has a {type(key).__name__} as key")
        target = self.stack[-1]
        if isinstance(target, Call):
            target.items += pairs
        else:
            target.update(pairs)

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Call) else target).extend(items)

    def build(self, state: Any) -> None:
        if not isinstance(self.stack[-1], Call):
            raise UnreadableError("it sets the state of something that has none")
        self.stack[-1].state = state

    def attribute(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(f"{module}.{name}"))

    def call_keywords(self) -> None:
        keywords, arguments = self.stack.pop(), self.stack.pop()
        self.call((arguments, keywords), self.stack.pop())


def hashes_quickly(key: Any) -> bool:
    """False for a nest of tuples: when they are shared, hashing takes for ever."""
    plain = (*_KEYS, Name, Call, External)  # the last two hash by identity
    return isinstance(key, plain) or (isinstance(key, tuple) and all(isinstance(k, plain) for k in key))


_IGNORED = {"PROTO", "FRAME"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": _Mark, "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": lambda: Call("builtins.set", ()),
}  # fmt: skip
_PUSHED = set(_CONSTANTS) | {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_GROUPED: dict[str, Callable[[_Machine, list[Any]], Any]] = {
    "TUPLE": lambda m, items: m.stack.append(tuple(items)),
    "LIST": lambda m, items: m.stack.append(items),
    "DICT": lambda m, items: (m.stack.append({}), m.insert(items)),
    "APPENDS": lambda m, items: m.extend(items),
    "ADDITEMS": lambda m, items: m.extend(items),
    "SETITEMS": lambda m, items: m.insert(items),
    "FROZENSET": lambda m, items: m.stack.append(Call("builtins.frozenset", tuple(items))),
    "OBJ": lambda m, items: m.call(tuple(items[1:]), items[0]),
    "POP_MARK": lambda m, items: None,
}
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "TUPLE1": lambda m, _: m.fold(1),
    "TUPLE2": lambda m, _: m.fold(2),
    "TUPLE3": lambda m, _: m.fold(3),
    "POP": lambda m, _: m.stack.pop(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "SETITEM": lambda m, _: m.insert([m.stack.pop(-2), m.stack.pop()]),
    "GLOBAL": lambda m, name: m.stack.append(Name(name.replace(" ", ".", 1))),
    "STACK_GLOBAL": lambda m, _: m.attribute(),
    "INST": lambda m, name: m.call(tuple(m.pop_mark()), Name(name.replace(" ", ".", 1))),
    "REDUCE": lambda m, _: m.call(m.stack.pop(), m.stack.pop()),
    "NEWOBJ": lambda m, _: m.call(m.stack.pop(), m.stack.pop()),
    "NEWOBJ_EX": lambda m, _: m.call_keywords(),
    "BUILD": lambda m, _: m.build(m.stack.pop()),
    "PERSID": lambda m, identity: m.stack.append(External(identity)),
    "BINPERSID": lambda m, _: m.stack.append(External(m.stack.pop())),
    **{name: lambda m, key: m.memo.__setitem__(key, m.stack[-1]) for name in ("PUT", "BINPUT", "LONG_BINPUT")},
    **{name: lambda m, key: m.stack.append(m.memo[key]) for name in ("GET", "BINGET", "LONG_BINGET")},
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
}
