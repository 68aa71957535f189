import dataclasses

import numpy as np
import pytest

from landscape.errors import InputError
from landscape.files import seal, write_atomically
from landscape.results import ComparisonResult, HessianResult, TraceResult, load, save
from landscape.spec import HessianSpec, TraceSpec

HESSIAN = HessianResult(
    spec=HessianSpec(count=2, vectors=True),
    eigenvalues=np.array([2.0, -1e-300]),
    residuals=np.array([1e-6, np.nan]),
    sampling_errors=np.array([np.nan, np.inf]),
    converged=np.array([True, False]),
    scale=2.0,
    matvecs=7,
    restarts=0,
    vectors=np.eye(2, 5, dtype=np.float32),
    conditions={"loss": 0.1, "device": "cpu"},
)
TRACE = TraceResult(
    spec=TraceSpec(), trace=3.0, standard_error=0.1, converged=True, matvecs=2, samples=np.array([2.9, 3.1])
)
TABLE = ComparisonResult(
    labels=("a", "b", "a"),
    checkpoints=("x", "y", "z"),
    columns=("λ1",),
    values=np.ones((3, 1)),
    errors=np.full((3, 1), np.nan),
)


@pytest.mark.parametrize("result", [HESSIAN, TRACE, TABLE], ids=lambda r: r.kind)
def test_what_is_saved_is_loaded(tmp_path, result):
    save(result, tmp_path / "r", checkpoint="some/file")
    back = load(tmp_path / "r")
    assert type(back) is type(result)
    assert back.provenance["checkpoint"] == "some/file"
    for item in dataclasses.fields(result):
        if item.name != "provenance":
            np.testing.assert_equal(getattr(back, item.name), getattr(result, item.name))


def test_groups_keep_the_order_of_first_appearance():
    groups = TABLE.groups()
    assert list(groups) == ["a", "b"]
    np.testing.assert_array_equal(groups["a"], [0, 2])


def test_other_files_and_newer_formats_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="not a landscape result"):
        load(tmp_path / "text")
    record, arrays = TRACE.to_record()
    write_atomically(tmp_path / "newer", seal({**record, "format": 99}, arrays))
    with pytest.raises(InputError, match="newer landscape"):
        load(tmp_path / "newer")
