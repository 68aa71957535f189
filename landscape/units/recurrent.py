"""The rule for torch's recurrent layers (LSTM, GRU, RNN), each one operation of many layers and steps."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from landscape.units.layers import consume
from landscape.units.tape import Rule, Tape, unknown

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(tape: Tape, name: str, func: Any, args: tuple, kwargs: dict, result: Any) -> None:
    """A unit is a row of each gate, and a column of the hidden weights; it keeps its scale."""
    if len(args) != 9 or not isinstance(args[3], bool):  # a packed sequence has its arguments elsewhere
        return unknown(tape, name, func, args, kwargs, result)
    x, start, weights, biased, layers, dropout, training, both_ways = args[:8]
    size, ways = weights[1].shape[1], 1 + bool(both_ways)
    cells = [weights[k : k + 2 + 2 * biased] for k in range(0, len(weights), 2 + 2 * biased)]
    initial = any(tape.concerns(state) for state in tree_leaves(start))
    followed = all(tape.is_leaf(w) and len(w) == _GATES[name] * size for cell in cells for w in cell)
    if initial or not followed or len(cells) != layers * ways or (dropout and training):
        return unknown(tape, name, func, args, kwargs, result)
    units = [_cell(tape, name, cell) for cell in cells]
    for number, (into, *_) in enumerate(cells):
        if number < ways:
            consume(tape, x, -1, into, 1)
        else:
            before = number // ways * ways
            tape.ties.tie(torch.cat(units[before - ways : before]), tape.axis(into, 1, "in"), "")
    tape.label(result[0], torch.cat(units[-ways:]).expand(result[0].shape))
    last = torch.stack(units) if result[1].dim() == 2 else torch.stack(units)[:, None]
    for state in result[1:]:
        tape.label(state, last.expand(state.shape))
    for one in result:
        tape.note(one)


def _cell(tape: Tape, name: str, cell: Any) -> Tensor:
    """The units of one layer in one direction."""
    hidden = tape.axis(cell[1], 1, "in")
    tape.ties.fix(hidden, f"{name} is not positively homogeneous", place=False)
    for weight in cell:
        rows = tape.axis(weight, 0, "out")
        tape.ties.fix(rows, f"{name} is not positively homogeneous", place=False)
        tape.ties.tie(hidden.repeat(_GATES[name]), rows, "")
    return hidden


RECURRENT: dict[str, Rule] = dict.fromkeys(_GATES, recurrent)
