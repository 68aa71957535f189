"""A study's file: which runs it means, and one line for everything that can be wrong with it."""

import itertools
from pathlib import Path

import pytest

from landscape.errors import InputError
from landscape.spec import HessianSpec, ProblemSpec, SharpnessSpec, TrainSpec
from landscape.study_file import read_study
from landscape.study_spec import StudySpec

HEAD = """
[study]
name = "a study"
seeds = 2
[source]
model = "mlp"
model_args = { widths = [8, 4] }
[train]
epochs = 200
save_every = 50
"""


def read(text: str, folder: Path, head: str = HEAD) -> StudySpec:
    path = folder / "spec.toml"
    path.write_text(head + text)
    return read_study(path)


def test_grid_is_every_combination_with_every_seed(tmp_path):
    spec = read('[grid]\nbatch_size = [16, 64]\nrho = [0, 0.05]\n"model_args.widths" = [[8], "8,8"]', tmp_path)
    assert spec.factors == ("batch_size", "rho", "model_args.widths")
    expected = list(itertools.product((16, 64), (0.0, 0.05), ("8", "8,8"), (0, 1)))
    found = [
        (run.train.batch_size, run.train.rho, dict(run.source.model_args)["widths"], run.train.seed)
        for run in spec.runs
    ]
    assert found == expected
    assert all(run.train == TrainSpec(epochs=200, save_every=50, batch_size=b, rho=r, seed=s)
               for run, (b, r, _, s) in zip(spec.runs, expected, strict=True))  # fmt: skip
    assert {run.source.data for run in spec.runs} == {"digits"}
    assert spec.runs[0].label == "batch_size=16 rho=0 model_args.widths=8"


def test_dotted_keys_and_tables_of_arguments_mean_the_same(tmp_path):
    dotted = read("[grid]\nmodel_args.widths = [[8], [9]]", tmp_path)
    quoted = read('[grid]\n"model_args.widths" = [[8], [9]]', tmp_path)
    assert dotted.runs == quoted.runs


def test_named_runs_are_crossed_with_the_grid(tmp_path):
    text = """
    [[runs]]
    name = "small batch"
    batch_size = 16
    [[runs]]
    name = "sam"
    rho = 0.1
    [grid]
    learning_rate = [0.1, 0.01]
    """
    spec = read(text, tmp_path)
    assert spec.factors == ("run", "batch_size", "rho", "learning_rate")
    settings = [tuple(run.setting.values()) for run in spec.runs[::2]]
    assert settings == [
        ("small batch", 16, 0.0, 0.1), ("small batch", 16, 0.0, 0.01), ("sam", 32, 0.1, 0.1), ("sam", 32, 0.1, 0.01),
    ]  # fmt: skip
    assert [run.train.seed for run in spec.runs] == [0, 1] * 4


def test_when_changes_the_runs_it_describes(tmp_path):
    text = """
    [grid]
    rho = [0, 0.02, 0.05]
    optimiser = ["sgd", "adam"]
    [[when]]
    rho = [0.02, 0.05]
    set = { epochs = 100 }
    [[when]]
    optimiser = "adam"
    epochs = 100
    set = { weight_decay = 0.5 }
    """
    found = {
        (r.train.rho, r.train.optimiser): (r.train.epochs, r.train.weight_decay) for r in read(text, tmp_path).runs
    }
    assert found == {
        (0.0, "sgd"): (200, 0.0), (0.0, "adam"): (200, 0.0), (0.02, "sgd"): (100, 0.0), (0.02, "adam"): (100, 0.5),
        (0.05, "sgd"): (100, 0.0), (0.05, "adam"): (100, 0.5),
    }  # fmt: skip


def test_measurements_and_their_problem(tmp_path):
    text = """
    [problem]
    examples = 100
    dtype = "float64"
    [measure]
    at = [0, 50, "last"]
    hessian = { count = 3 }
    [measure.sharpness]
    epsilons = [1e-3]
    [table]
    columns = ["λ1"]
    """
    spec = read(text, tmp_path)
    assert spec.measurements == (("hessian", HessianSpec(count=3)), ("sharpness", SharpnessSpec(epsilons=(1e-3,))))
    assert spec.at == (0, 50, "last")
    assert spec.columns == ("λ1",)
    problem = spec.problem_of(spec.runs[0])
    assert problem == ProblemSpec(
        model="mlp", model_args=(("widths", "8,4"),), data="digits", examples=100, dtype="float64", engine="recompute"
    )


def test_none_switches_an_optional_field_off(tmp_path):
    assert [run.train.clip_norm for run in read('[grid]\nclip_norm = ["none", 1]', tmp_path).runs[::2]] == [None, 1.0]


def test_names_depend_on_what_decides_the_weights_and_on_nothing_else(tmp_path):
    names = {run.name for run in read("[grid]\nrho = [0.0, 0.1]", tmp_path).runs}
    assert len(names) == 4
    same = read('[grid]\nrho = [0, 0.1]\n[measure.hessian]\n[problem]\nexamples = 9\n[table]\nby = ["rho"]', tmp_path)
    assert {run.name for run in same.runs} == names
    elsewhere = read("[grid]\nrho = [0.0, 0.1]", tmp_path, HEAD.replace("[train]", 'device = "cpu"\n[train]'))
    assert {run.name for run in elsewhere.runs} == names
    for old, new in (("[8, 4]", "[8, 5]"), ("epochs = 200", "epochs = 250"), ("seeds = 2", "seeds = [2, 3]")):
        others = {run.name for run in read("[grid]\nrho = [0.0, 0.1]", tmp_path, HEAD.replace(old, new)).runs}
        assert not others & names


@pytest.mark.parametrize("text", ["[problem]\nexamples = 5", "[measure.hessian]\ncount = 1", "[measure]\nat = [50]"])
def test_what_is_measured_has_its_own_digest(text, tmp_path):
    plain, other = read("", tmp_path), read(text, tmp_path)
    assert plain.measured(plain.runs[0]) != other.measured(other.runs[0])
    assert plain.runs == other.runs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[grdi]\nrho = [0]", ("table = 'grdi'", "Did you mean grid?")),
        ("[grid]\nbatch_sise = [1]", ("[grid] key = 'batch_sise'", "Did you mean batch_size?")),
        ("[grid]\nbatch_size = 16", ("[grid] batch_size = 16", "a list of at least one value")),
        ("[grid]\nbatch_size = [16, 0]", ("batch_size=0", "at least 1")),
        ("[grid]\nbatch_size = [16, [32]]", ("[grid] batch_size = [32]", "a single value")),
        ("[grid]\nbatch_size = [1.5]", ("batch_size=1.5", "a whole number")),
        ("[grid]\nrho = [0.1, 0.1]", ("is there twice",)),
        ("[grid]\nseed = [1, 2]", ("[grid] key = 'seed'", "[study] has the seeds")),
        ("[grid]\nmilestones = [[1.5]]", ("[grid] milestones", "whole numbers")),
        ("[grid]\nmodel_args = 3", ("[grid] model_args = 3", "a table")),
        ("[grid]\nmodel_args.widths = [{ a = 1 }]", ("[grid] model_args.widths", "a string, a number")),
        ("[[grid]]\nrho = [1]", ("[grid]", "a table written [grid]")),
        ("[[runs]]\nrho = 1", ("[[runs]] 1 name = None", "a string")),
        ('[[runs]]\nname = "a"\n[[runs]]\nname = "a"', ("[[runs]] name = 'a'", "different for each")),
        ('[[runs]]\nname = "a"\nrho = 0.1\n[grid]\nrho = [1]', ("[grid] key = 'rho'", "none that [[runs]] set")),
        ("[[when]]\nrho = 1", ("[[when]] 1", "set = {")),
        ("[[when]]\nrho = 1\nset = { rhoo = 1 }", ("[[when]] 1 set key = 'rhoo'", "Did you mean rho?")),
        ("[grid]\nrho = [1]\n[[when]]\nepochs = 200\nset = { rho = 2 }", ("[[when]] 1 set", "not varied")),
        ("[grid]\nstart_epoch = [1]", ("start_epoch = 1", "without a table [start]")),
        ("[start]\nstart_epoch = 1", ("[start] start_epoch = 1", "[grid]")),
        ("[start]\nrhoo = 1", ("[start] key = 'rhoo'", "Did you mean rho?")),
        ("[start]\n[grid]\nstart_epoch = [51]", ("start_epoch = 51", "save_every")),
        ("[start]\nepochs = 100\n[grid]\nstart_epoch = [150]", ("start_epoch = 150", "It has 100")),
        ("[start]\n[grid]\nstart_epoch = [-50]", ("start_epoch = -50", "at least 0")),
        ("[problem]\nmodel = 'mlp'", ("[problem] key = 'model'",)),
        ("[problem]\nexamples = 0", ("[problem]: examples = 0", "at least 1")),
        ("[measure.hesian]", ("[measure] key = 'hesian'", "Did you mean hessian?")),
        ("[measure]\nhessian = 3", ("[measure] hessian = 3", "[measure.hessian]")),
        ("[measure.hessian]\ncount = 0", ("[measure.hessian]: count = 0", "at least 1")),
        ("[measure.hessian]\ncont = 1", ("[measure.hessian] key = 'cont'", "Did you mean count?")),
        ("[measure.sharpness]\nepsilons = 0.1", ("[measure.sharpness] epsilons = 0.1", "a list")),
        ('[measure.sharpness]\nspaces = ["full", 1]', ("[measure.sharpness] spaces", "a list of strings")),
        ("[measure]\nat = [51]", ("[measure] at = 51", "save_every")),
        ("[measure]\nat = [250]", ("[measure] at = 250", "an epoch that")),
        ("[measure]\nat = [-1]", ("[measure] at = -1", "an epoch or")),
        ("[table]\nby = ['rho']", ("[table] by = 'rho'", "one of what varies")),
        ("[table]\ncolums = []", ("[table] key = 'colums'", "Did you mean columns?")),
        ("[table]\ncolumns = [1]", ("[table] columns = [1]", "a list of names")),
        ("rho = ", ("is not valid TOML",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_file_table_and_key(text, words, tmp_path):
    with pytest.raises(InputError) as refusal:
        read(text, tmp_path)
    message = str(refusal.value)
    assert message.startswith(str(tmp_path / "spec.toml"))
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "a study"', "", "[study] name = None"),
        ("seeds = 2", "", "[study] seeds = None"),
        ("seeds = 2", "seeds = 0", "[study] seeds = 0"),
        ("seeds = 2", "seeds = [1, 1]", "[study] seeds = [1, 1]"),
        ("seeds = 2", "seeds = true", "[study] seeds = True"),
        ("seeds = 2", "seeds = 2\nthread = 1", "Did you mean threads?"),
        ("seeds = 2", "seeds = 2\nthreads = 0", "[study]: threads = 0"),
        ('model = "mlp"', "", "[source] model = None"),
        ('model = "mlp"', 'modle = "mlp"', "[source] key = 'modle'"),
        ('model = "mlp"', "model = 3", "model = 3"),
        ("epochs = 200", "epochs = [200]", "[train] epochs = [200]"),
        ("epochs = 200", "epochs = 200\nseed = 1", "[train] key = 'seed'"),
        ("epochs = 200", "epochs = true", "a whole number"),
        ("epochs = 200", 'optimiser = "sdg"', "one of sgd, adam"),
    ],
)
def test_what_is_wrong_with_the_head(old, new, words, tmp_path):
    with pytest.raises(InputError) as refusal:
        read("", tmp_path, HEAD.replace(old, new))
    assert str(refusal.value).startswith(str(tmp_path / "spec.toml"))
    assert words in str(refusal.value)


def test_committed_studies_can_be_read():
    paths = sorted((Path(__file__).resolve().parent.parent / "studies").glob("*.toml"))
    assert paths
    for path in paths:
        assert read_study(path).runs
