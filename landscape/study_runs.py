"""The trainings of a study's file: [source] and [train], crossed with [grid] and [[runs]], changed by [[when]].

With a table [start], each begins with the weights of another run, which is trained first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from landscape.errors import InputError, illegal
from landscape.spec import SourceSpec, TrainSpec
from landscape.study_fields import ARGUMENTS, StartSpec, built, fitting, flat, known_as, parted, unknown
from landscape.study_spec import RUN, Start, StudyRun


def read_runs(tables: Mapping[str, Any], seeds: Sequence[int]) -> tuple[list[StudyRun], tuple[str, ...]]:
    """Every training, and what differs between their settings."""
    base = _settings(tables.get("source", {}), "[source]", SourceSpec) | _settings(
        tables.get("train", {}), "[train]", TrainSpec
    )
    grid = _grid(tables.get("grid", {}))
    named = [_named(table, number) for number, table in enumerate(tables.get("runs", ()), start=1)]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise illegal("[[runs]] name", name, "different for each", "Rename one of them.")
    varied = dict.fromkeys(key for _, values in named for key in values)
    for key in grid:
        if key in varied:
            raise illegal("[grid] key", key, "none that [[runs]] set", "Vary it in one place.")
    factors = (*((RUN,) if named else ()), *varied, *grid)
    first = base | _start(tables["start"]) if "start" in tables else None
    rules = [_rule(table, number, factors) for number, table in enumerate(tables.get("when", ()), start=1)]
    runs: dict[str, StudyRun] = {}
    for (name, own), combination in product(named or [("", {})], product(*grid.values())):
        values = base | own | dict(zip(grid, combination, strict=True))
        for conditions, changes in rules:
            if all(_value(values, key) in accepted for key, accepted in conditions.items()):
                values |= changes
        setting = {key: name if key == RUN else _value(values, key) for key in factors}
        for seed in seeds:
            run = _run(setting, values, seed, first)
            if run.name in runs:
                raise InputError(f"the run {run.name} is there twice. Leave out what [grid] or [[runs]] repeat.")
            runs[run.name] = run
    return list(runs.values()), factors


def _run(setting: Mapping[str, Any], values: Mapping[str, Any], seed: int, first: Mapping[str, Any] | None) -> StudyRun:
    """first: the values of the run that it starts from, if there is one."""
    where = " ".join(["run", *(f"{key}={value}" for key, value in setting.items())])
    source, train, start = _specs(values, seed, where)
    if first is None:
        if start.start_epoch is not None:
            raise illegal(f"{where}: start_epoch", start.start_epoch, "left out without a table [start]",
                          "[start] says how the run before is trained; it may be empty.")  # fmt: skip
        return StudyRun(setting, source, train)
    before, how, _ = _specs(first, seed, "[start]")
    last = how.adapted().epochs
    epoch = last if start.start_epoch is None else start.start_epoch
    if epoch > last or (epoch % how.save_every and epoch != last):
        raise illegal(f"{where}: start_epoch", epoch, "an epoch that the run of [start] keeps",
                      f"It has {last} and keeps every {how.save_every}th: see its save_every.")  # fmt: skip
    return StudyRun(setting, source, train, Start(before, how, epoch))


def _specs(values: Mapping[str, Any], seed: int, where: str) -> tuple[SourceSpec, TrainSpec, StartSpec]:
    source, train, start = parted(values)
    if not source.get("model"):
        raise illegal("[source] model", source.get("model"), "a model's name or factory", 'For example "mlp".')
    source.setdefault("data", "digits")
    return (
        built(SourceSpec, source, where), built(TrainSpec, {**train, "seed": seed}, where),
        built(StartSpec, start, where),
    )  # fmt: skip


def _settings(table: Mapping[str, Any], where: str, spec: type) -> dict[str, Any]:
    own = {item.name for item in fields(spec)}
    for key in table:
        if key not in own - {"seed"}:
            unknown(f"{where} key", key, sorted(own - {"seed"}), "[study] has the seeds." if key == "seed" else "")
    return {key: fitting(key, value, where) for key, value in flat(table, where).items()}


def _start(table: Mapping[str, Any]) -> dict[str, Any]:
    if "start_epoch" in table:
        raise illegal(
            "[start] start_epoch", table["start_epoch"], "a field of [grid], [[runs]] or [[when]]", "Move it."
        )
    return _checked(table, "[start]")


def _grid(table: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    grid = {}
    for key, values in flat(table, "[grid]").items():
        _check_known(key, "[grid] key")
        if not isinstance(values, list) or not values:
            raise illegal(f"[grid] {key}", values, "a list of at least one value", f"For example {key} = [{values}].")
        grid[key] = tuple(fitting(key, value, "[grid]") for value in values)
    return grid


def _named(table: Mapping[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    where = f"[[runs]] {number}"
    values = dict(table)
    name = values.pop("name", None)
    if not isinstance(name, str) or not name.strip():
        raise illegal(f"{where} name", name, "a string", "The table calls the run by it.")
    return name, _checked(values, where)


def _rule(
    table: Mapping[str, Any], number: int, factors: Sequence[str]
) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    """(conditions, changes) of a `[[when]]` table."""
    where = f"[[when]] {number}"
    values = dict(table)
    changes = values.pop("set", None)
    if not isinstance(changes, dict) or not changes or not values:
        raise illegal(where, dict(table), "fields with the values they must have, and set = { field = value }", "")
    conditions = {}
    for key, accepted in flat(values, where).items():
        _check_known(key, f"{where} key")
        several = accepted if isinstance(accepted, list) else [accepted]
        conditions[key] = tuple(fitting(key, value, where) for value in several)
    changes = _checked(changes, f"{where} set")
    for key in changes:
        if key in factors:
            raise illegal(f"{where} set", key, "a field that is not varied", "Change [grid] or [[runs]] instead.")
    return conditions, changes


def _checked(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    values = flat(table, where)
    for key in values:
        _check_known(key, f"{where} key")
    return {key: fitting(key, value, where) for key, value in values.items()}


def _check_known(key: str, what: str) -> None:
    if key == "seed":
        raise illegal(what, key, "a field of [train] or [source]", "[study] has the seeds.")
    if known_as(key) is None:
        others = [
            i.name for spec in (TrainSpec, SourceSpec) for i in fields(spec) if i.name not in (*ARGUMENTS, "seed")
        ]
        unknown(what, key, others, "Or model_args.NAME, data_args.NAME.")


def _value(values: Mapping[str, Any], key: str) -> Any:
    """The value that a run has, the default where the file says nothing."""
    if key in values:
        return values[key]
    found = known_as(key)
    return None if found is None or found.name in ARGUMENTS else found.default
