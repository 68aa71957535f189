import dataclasses
import json
import subprocess
import sys

import pytest

from landscape import spec
from landscape.errors import InputError
from landscape.fields import Spec

SPECS = [v for v in vars(spec).values() if isinstance(v, type) and issubclass(v, Spec) and v is not Spec]


@pytest.mark.parametrize("kind", SPECS)
def test_defaults_are_legal_and_survive_json(kind):
    default = kind()
    assert kind.from_dict(json.loads(json.dumps(default.to_dict()))) == default


@pytest.mark.parametrize("kind", SPECS)
def test_every_field_says_what_it_is(kind):
    for item in dataclasses.fields(kind):
        assert item.metadata["help"], item.name


@pytest.mark.parametrize(
    ("kind", "argument", "value", "legal"),
    [
        (spec.HessianSpec, "count", 0, "at least 1"),
        (spec.HessianSpec, "count", 2.5, "whole number"),
        (spec.HessianSpec, "ends", "top", "largest, smallest, magnitude, both"),
        (spec.HessianSpec, "tolerance", float("nan"), "above 0 and below 1"),
        (spec.DensitySpec, "steps", 1, "at least 2"),
        (spec.DensitySpec, "width", 0.0, "above 0"),
        (spec.SharpnessSpec, "epsilons", (1e-3, -1.0), "above 0"),
        (spec.SharpnessSpec, "epsilons", (), "at least one"),
        (spec.TrainSpec, "rho", True, "at least 0"),
        (spec.TrainSpec, "rho", float("inf"), "finite"),
        (spec.TrainSpec, "nesterov", 1, "True or False"),
        (spec.LineSpec, "stop", -3.0, "above start = -1"),
        (spec.ProblemSpec, "device", 3, "string"),
    ],
)
def test_an_illegal_value_is_one_line_with_name_value_and_range(kind, argument, value, legal):
    with pytest.raises(InputError) as caught:
        kind(**{argument: value})
    message = str(caught.value)
    assert argument in message
    assert legal in message
    assert "\n" not in message


def test_unknown_fields_are_refused():
    with pytest.raises(InputError, match="HessianSpec field = 'colour'"):
        spec.HessianSpec.from_dict({"colour": 1})


def test_a_trace_of_version_0_1_0_is_still_read():
    old = {"tolerance": 0.02, "min_probes": 10, "max_probes": 40, "seed": 1}
    assert spec.TraceSpec.from_dict(old) == spec.TraceSpec(method="hutchinson", max_matvecs=40, seed=1)


def test_specs_and_results_need_no_torch():
    code = "import sys, landscape, landscape.spec, landscape.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
