"""A study's TOML file read into its spec; whatever is wrong is one line with file, table and key.

    [study]      name, seeds (how many, or a list), threads, together
    [source]     model, model_args, data, data_args, … as of `landscape train`
    [train]      how every run is trained, unless something below says otherwise
    [start]      fields in which a run differs that is trained first, one for each seed: the others start from it
    [grid]       field = [value, …]: every combination
    [[runs]]     name, and fields: one table for each; with a grid, each is crossed with it
    [[when]]     field = value or [value, …], set = { field = value }: runs with such values are trained so
    [problem]    what is measured on: split, examples, batch_size, …; engine is recompute unless named, see below
    [measure]    at = [epoch, …, "last"], and a table for each measurement: hessian, density, trace, sharpness, measures
    [table]      by = [factor, …]: what makes a cell; columns = [name, …]: those shown

A field is one of [train] or [source], or `model_args.NAME`, `data_args.NAME`; "none" switches an optional one off.
With [start] there is also `start_epoch`, after which of its epochs the weights are taken; the last unless named.
The engine `auto` is faster for many products, but chooses by time: the last bits of its eigenvalues may differ between
two executions.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from landscape.errors import InputError, illegal
from landscape.files import read_bytes
from landscape.spec import ProblemSpec, SourceSpec
from landscape.study_fields import built, unknown
from landscape.study_runs import read_runs
from landscape.study_spec import LAST, WORDS, StudyOptions, StudyRun, StudySpec

_TABLES = ("study", "source", "train", "start", "grid", "runs", "when", "problem", "measure", "table")


def read_study(path: str | os.PathLike[str]) -> StudySpec:
    """The study that a file describes, every run of it checked. Raises `InputError`."""
    try:
        text = read_bytes(path).decode()
        return _study(tomllib.loads(text), text)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}. Mend the line.") from None


def _study(tables: dict[str, Any], text: str) -> StudySpec:
    for name, value in tables.items():
        if name not in _TABLES:
            unknown("table", name, _TABLES)
        if isinstance(value, dict) == (name in ("runs", "when")):
            form = f"[[{name}]]" if name in ("runs", "when") else f"[{name}]"
            raise illegal(f"[{name}]", value, f"a table written {form}", "See its brackets.")
    head = dict(tables.get("study", {}))
    name, seeds = head.pop("name", None), _seeds(head.pop("seeds", None))
    if not isinstance(name, str) or not name.strip():
        raise illegal("[study] name", name, "a string", "It heads the table.")
    options = built(StudyOptions, head, "[study]", also=("name", "seeds"))
    runs, factors = read_runs(tables, seeds)
    problem = _problem(tables.get("problem", {}))
    measurements, at = _measure(tables.get("measure", {}), runs)
    by, columns = _table(tables.get("table", {}), factors)
    return StudySpec(name, tuple(runs), factors, options, problem, measurements, at, by, columns, text)


def _seeds(value: Any) -> list[int]:
    seeds: Any = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
    whole = isinstance(seeds, list) and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise illegal("[study] seeds", value, "how many, or a list of different whole numbers", "Such as seeds = 3.")
    return seeds


def _problem(table: Mapping[str, Any]) -> dict[str, Any]:
    own = [i.name for i in fields(ProblemSpec) if i.name not in {f.name for f in fields(SourceSpec)}] + ["dtype"]
    for key in table:
        if key not in own:
            unknown("[problem] key", key, own)
    given = {key: getattr(built(ProblemSpec, table, "[problem]"), key) for key in table}
    return given


def _measure(
    table: Mapping[str, Any], runs: Sequence[StudyRun]
) -> tuple[tuple[tuple[str, Any], ...], tuple[int | str, ...]]:
    """(word, spec) of each measurement, and when."""
    words = dict(table)
    at = words.pop("at", [LAST])
    if not isinstance(at, list) or not at or len(set(map(str, at))) < len(at):
        raise illegal("[measure] at", at, 'a list of different epochs or "last"', 'For example at = [0, 10, "last"].')
    for moment in at:
        if moment != LAST and (isinstance(moment, bool) or not isinstance(moment, int) or moment < 0):
            raise illegal("[measure] at", moment, 'an epoch or "last"', "Epoch 0 is the initial weights.")
        for run in runs:
            kept = moment == LAST or moment % run.train.save_every == 0 or moment == run.train.epochs
            if not kept or (moment != LAST and moment > run.train.epochs):
                raise illegal("[measure] at", moment, f"an epoch that {run.label or 'the run'} keeps",
                              f"It has {run.train.epochs} and keeps every {run.train.save_every}th: see [train] "
                              "save_every.")  # fmt: skip
    for key, values in words.items():
        if key not in WORDS:
            unknown("[measure] key", key, ("at", *WORDS))
        if not isinstance(values, dict):
            raise illegal(f"[measure] {key}", values, f"a table, [measure.{key}]", "It may be empty.")
    return tuple((key, built(WORDS[key], values, f"[measure.{key}]")) for key, values in words.items()), tuple(at)


def _table(table: Mapping[str, Any], factors: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {"by": factors, "columns": ()}
    for key, values in table.items():
        if key not in found:
            unknown("[table] key", key, tuple(found))
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise illegal(f"[table] {key}", values, "a list of names", f'For example {key} = ["test loss"].')
        found[key] = tuple(values)
    for factor in found["by"]:
        if factor not in factors:
            raise illegal("[table] by", factor, f"one of what varies: {', '.join(factors) or 'nothing'}", "Remove it.")
    return found["by"], found["columns"]
