import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from landscape.arguments import read
from landscape.errors import InputError
from landscape.factories import call, load_factory

NET = """
from __future__ import annotations
import dataclasses
from helper import CONSTANT

@dataclasses.dataclass
class Net:
    depth: int = CONSTANT
    rate: float | None = None

def typed(depth: int, widths: tuple[int, ...] = (4, 4), flag: bool = False) -> dict:
    return dict(depth=depth, widths=widths, flag=flag)

def broken(x=1):
    raise RuntimeError("no\\nluck")

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with `nets/net.py`, its neighbour `helper.py`, and a package `mypackage`."""
    for folder in ("nets", "mypackage"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(NET)
    (tmp_path / "nets" / "helper.py").write_text("CONSTANT = 7\n")
    (tmp_path / "helper.py").write_text("CONSTANT = 5\n")
    (tmp_path / "mypackage" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(("text", "depth"), [("nets/net.py:Net", 7), ("mypackage.net:Net", 5)])
def test_loads_from_a_file_and_from_a_module_and_leaves_the_path_alone(here, text, depth):
    before = list(sys.path)
    assert call(load_factory(text), (("rate", "0.5"),)).__dict__ == {"depth": depth, "rate": 0.5}
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain", "package.module:factory"),
        (":f", "package.module:factory"),
        ("nosuchpackage.sub:f", "no module named 'nosuchpackage'"),
        ("mypackage.absent:f", "no module named 'mypackage.absent'"),
        ("absent.py:f", "not a file"),
        ("nets/net.py:absent", "Net, broken, typed"),
        ("nets/net.py:number", "is a int"),
        ("syntax.py:f", "SyntaxError"),
        ("leaves.py:f", "SystemExit"),
        ("lacks.py:f", "No module named 'nosuchdependency'"),
        ("lacks:f", "No module named 'nosuchdependency'"),
        ("divides.py:f", "divides.py:2"),
    ],
)
def test_every_failure_to_load_is_one_line(here, text, words):
    Path("syntax.py").write_text("def f(:\n")
    Path("leaves.py").write_text("import sys\nsys.exit('usage: leaves')\n")
    Path("lacks.py").write_text("import nosuchdependency\n")
    Path("divides.py").write_text("\n1 / 0\n")
    before = list(sys.path)
    with pytest.raises(InputError) as caught:
        load_factory(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == before


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "12", 12),
        (float, "1e-3", 1e-3),
        (float, "2", 2.0),
        (bool, "No", False),
        (bool, "1", True),
        (str, "3", "3"),
        (Path, "a/b", Path("a/b")),
        (int | None, "none", None),
        (str | int, "4", 4),
        (str | int, "four", "four"),
        (bool | int, "1", 1),
        (tuple[int, ...], "64,64", (64, 64)),
        (tuple[int, ...], "(64,)", (64,)),
        (tuple[int, ...], "", ()),
        (tuple[int, str], "3,a", (3, "a")),
        (list[float], "[1, 2.5]", [1.0, 2.5]),
        (Literal["a", 2], "2", 2),
        (Annotated[int, "units"], "2", 2),
        (dict, "{'a': 1}", {"a": 1}),
        (object, "a,1,True", ("a", 1, True)),
        (object, "text", "text"),
    ],
)
def test_texts_become_what_the_annotation_says(kind, text, value):
    result = read(kind, text)
    assert result == value
    assert type(result) is type(value)


def untyped(count=2, rate=0.5, on=False, word="relu", sizes=(1, 2), nothing=None):
    return [count, rate, on, word, sizes, nothing]


def test_texts_become_what_the_default_is_like():
    arguments = (("count", "3"), ("rate", "1"), ("on", "yes"), ("word", "7"), ("sizes", "3,4,5"), ("nothing", "[1]"))
    result = call(untyped, arguments)
    assert result == [3, 1.0, True, "7", (3, 4, 5), [1]]
    assert [type(x) for x in result] == [int, float, bool, str, tuple, list]
    assert call(untyped, (("count", "0.5"),))[0] == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((("width", "3"),), "count=2, rate=0.5, on=False, word=relu, sizes=1,2, nothing=None"),
        ((("count", "three"),), "number"),
        ((("on", "maybe"),), "true or false"),
        ((("sizes", "1,x"),), "comma list"),
        ((("count", "1"), ("count", "2")), "twice"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_legal(arguments, words):
    with pytest.raises(InputError, match="untyped") as caught:
        call(untyped, arguments)
    assert words in str(caught.value)


def test_offered_values_go_only_where_the_signature_asks_and_the_user_is_silent():
    def wants(outputs, depth=1):
        return outputs, depth

    assert call(wants, (), outputs=10, input_shape=(3,)) == (10, 1)
    assert call(wants, (("outputs", "5"), ("depth", "2")), outputs=10) == (5, 2)
    assert call(lambda **anything: anything, (("a", "1"),), outputs=10) == {"a": 1}
    with pytest.raises(InputError, match="needs outputs"):
        call(wants, ())


def test_string_annotations_and_dataclasses_in_files(here):
    made = call(load_factory("nets/net.py:typed"), (("depth", "2"), ("widths", "8"), ("flag", "true")))
    assert made == {"depth": 2, "widths": (8,), "flag": True}


def test_a_failing_factory_is_one_line_with_its_place_and_the_cause_kept(here):
    with pytest.raises(InputError) as caught:
        call(load_factory("nets/net.py:broken"), ())
    assert "RuntimeError: no luck" in str(caught.value)
    assert "net.py:15" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_factorys_own_input_errors_pass_unchanged():
    @dataclass
    class Picky:
        size: int = 1

        def __post_init__(self):
            raise InputError("size is odd")

    with pytest.raises(InputError, match=r"^size is odd$"):
        call(Picky, ())
