"""What `landscape align` does once it is parsed: open two checkpoints, match, write the permuted one, show."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landscape.spec import AlignSpec, ProblemSpec

from .actions import announce, stem_of
from .cells import number
from .outputs import choose_output
from .tables import plain

if TYPE_CHECKING:
    from landscape.checkpoints import Opened
    from landscape.units.alignment import Aligned


def align_checkpoints(
    reference: str, other: str, problem: ProblemSpec, spec: AlignSpec, saving: Mapping[str, Any]
) -> None:
    """Align OTHER to REFERENCE, write it as a checkpoint that opens like OTHER, and say what was done."""
    from landscape.checkpoint_files import write_checkpoint
    from landscape.checkpoints import open_checkpoint
    from landscape.units.alignment import align

    output = choose_output(saving["output"], f"{stem_of(other)}-aligned", saving["overwrite"])
    first, second = (open_checkpoint(path, problem) for path in (reference, other))
    for one in (first, second):
        announce(one)
    aligned = align(first.main, second.main, spec.how, spec.seed, spec.match_examples, spec.restarts)
    facts = _facts(first, second, aligned)
    made = {
        "spec": spec.to_dict(), "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "reference": first.provenance(), "other": second.provenance(), **facts,
    }  # fmt: skip
    source = {k: getattr(second.spec, k) for k in ("model", "model_args", "data", "data_args", "loss")}
    record = {**second.weights.record, **plain(source), "aligned": plain(made)}
    write_checkpoint(output, record, aligned.problem.model.state_dict())
    click.echo(json.dumps(plain(facts), indent=2, ensure_ascii=False) if saving["as_json"] else _text(facts, spec))
    click.echo(f"saved {output}", err=True)


def _facts(first: "Opened", second: "Opened", aligned: "Aligned") -> dict[str, Any]:
    """What was found, in plain values; losses are of the problem that was asked for."""
    w = first.main.weights
    return {
        "groups": [[group.name, group.size, group.moved] for group in aligned.groups],
        "left_out": aligned.left_out,
        "objective": aligned.objective,
        "rounds": aligned.rounds,
        "loss": [second.evaluate().loss, aligned.problem.value(aligned.problem.weights)],
        "change": aligned.change,
        "distance": [float((v - w).double().norm()) for v in (second.main.weights, aligned.problem.weights)],
    }


def _text(facts: Mapping[str, Any], spec: AlignSpec) -> str:
    what = {"weights": "⟨w, w′⟩", "activations": "sum of correlations"}[spec.how]
    lines = [f"{name}: {size} units, {100 * moved:.0f} % moved" for name, size, moved in facts["groups"]]
    lines += [f"{name}: left as it is ({reason})" for name, reason in facts["left_out"]]
    for label, key in ((what, "objective"), ("distance ‖w − w′‖", "distance"), ("loss", "loss")):
        before, after = facts[key]
        lines.append(f"{label}: {number(before)} → {number(after)}")
    return "\n".join([*lines, f"rounds: {facts['rounds']}; outputs changed by {facts['change']:.1e} of the largest"])
