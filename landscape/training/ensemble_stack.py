"""The training loop of a stack: members alike in everything but seed, weights, rates, radius and limits."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from landscape import seeds
from landscape.spec import ProblemSpec
from landscape.training.ensemble_chain import Chain
from landscape.training.ensemble_step import Optimiser, ascended, clip, norms
from landscape.training.ensemble_vmap import Stacked
from landscape.training.loop import is_last
from landscape.training.outcome import DivergedError, Row, check_finite
from landscape.training.prepare import Training
from landscape.training.schedule import schedule

Weights = Float[Tensor, "members n"]


Engine = Chain | Stacked
"""Outputs and gradients of all members at once: of perceptrons, of any other network."""


@dataclass
class Progress:
    """What a member has come to: its rows so far, and the error it ended with."""

    training: Training
    rows: list[Row] = field(default_factory=list)
    diverged: DivergedError | None = None


@torch.no_grad()
def train_stack(members: list[Progress], every_epoch: bool, advance: Callable[[int], None]) -> None:
    """Train all members to their ends; afterwards their models hold the weights and their rows are filled.

    every_epoch: measure the test set after each epoch, else after a member's last only. advance(n) is called after
    each epoch with the number of steps that it took, over all members. A member that diverges or reaches its
    `until_loss` leaves the stack, and the others go on.
    """
    stack, alive = _Stack([m.training for m in members]), members
    spec = members[0].training.spec
    for epoch in range(1, spec.epochs + 1):
        begun = time.monotonic()
        rows = stack.epoch(epoch)
        wanted = every_epoch or any(is_last(row, m.training.spec) for row, m in zip(rows, alive, strict=True))
        measured = stack.measure() if wanted else [_unmeasured(d) for d in stack.distances()]
        seconds = round((time.monotonic() - begun) / len(alive), 6)
        advance(len(alive) * len(stack.first.sizes))
        staying = []
        for place, (member, row, more) in enumerate(zip(alive, rows, measured, strict=True)):
            if not every_epoch and not is_last(row, member.training.spec):
                more = _unmeasured(more["distance"])
            ended = _note(member, {**row, **more}, seconds)
            if ended:
                stack.write_back(place, member.training)
            else:
                staying.append(place)
        if not staying:
            return
        if len(staying) < len(alive):
            alive = [alive[place] for place in staying]
            stack.keep(staying)


def _unmeasured(distance: float) -> Row:
    return {"test_loss": None, "test_accuracy": None, "distance": distance}


def _note(member: Progress, row: Row, seconds: float) -> bool:
    """Whether the member's training ends with this row, which is kept unless it says that training diverged."""
    try:
        check_finite(row, member.training)
    except DivergedError as error:
        member.diverged = error
        return True
    member.rows.append({**row, "seconds": seconds})
    return is_last(row, member.training.spec)


class _Stack:
    """Weights, optimiser and data of the members that still train."""

    def __init__(self, trainings: list[Training]) -> None:
        self.first, self.specs = trainings[0], [t.spec for t in trainings]
        self.engine: Engine = Chain.of(self.first) or Stacked(trainings)
        self.weights = self.engine.pack(trainings)
        self.initial, self.gradient = self.weights.clone(), torch.empty_like(self.weights)
        self.matrices = self.engine.matrices(self.weights)
        self.optimiser = Optimiser(self.specs, self.weights)
        column = self.weights.new_tensor
        self.rho = column([s.rho for s in self.specs])[:, None]
        limits = [s.clip_norm for s in self.specs if s.clip_norm is not None]
        self.limit = column(limits)[:, None] if limits else None
        self.inputs, self.targets = self.engine.arrange(self.first.train[0]), self.first.train[1]
        self.test = self.engine.arrange(self.first.test[0]), self.first.test[1]
        self.rate = schedule(self.specs[0], self.first.steps)

    def epoch(self, epoch: int) -> list[Row]:
        """Train one epoch; the part of each member's row that is known before the test set is measured."""
        step, factor, averages = (epoch - 1) * len(self.first.sizes), 1.0, _Averages(self.weights)
        for inputs, targets, terms in self._batches(epoch):
            factor = self.rate(step)
            averages.add(self._take_step(inputs, targets, terms, factor), terms)
            step += 1
        return [
            {
                "epoch": epoch, "step": step, "lr": spec.learning_rate * factor,
                "train_loss": loss, "train_accuracy": accuracy,
            }
            for spec, (loss, accuracy) in zip(self.specs, averages.results(), strict=True)
        ]  # fmt: skip

    def measure(self) -> list[Row]:
        """Test loss and accuracy of each member, and its distance from its initial weights."""
        (inputs, targets), averages = self.test, _Averages(self.weights)
        for start in range(0, len(targets), ProblemSpec.batch_size):
            part = slice(start, start + ProblemSpec.batch_size)
            shared = targets[part].expand(len(self.specs), *targets[part].shape)
            score = self.engine.score(self.engine.outputs(self.weights, inputs[part]), shared)
            averages.add(score, self.first.loss.count(targets[part]))
        return [
            {"test_loss": loss, "test_accuracy": accuracy, "distance": distance}
            for (loss, accuracy), distance in zip(averages.results(), self.distances(), strict=True)
        ]

    def distances(self) -> list[float]:
        """‖w − w₀‖₂ of each member."""
        return norms((self.weights - self.initial).double())[:, 0].tolist()

    def keep(self, places: list[int]) -> None:
        """Go on with the members at these places alone."""
        chosen = torch.tensor(places, device=self.weights.device)
        self.specs = [self.specs[place] for place in places]
        self.weights, self.initial = self.weights[chosen], self.initial[chosen]
        self.gradient, self.rho = torch.empty_like(self.weights), self.rho[chosen]
        self.limit = self.limit[chosen] if self.limit is not None else None
        self.optimiser.keep(chosen)
        self.engine.keep(chosen)

    def write_back(self, place: int, training: Training) -> None:
        """Put a member's weights into its model."""
        parameters = dict(training.model.named_parameters())
        for name, value in self.engine.unpack(self.weights[place]).items():
            parameters[name].copy_(value)

    def _take_step(self, inputs: Tensor, targets: Tensor, terms: int, factor: float) -> tuple[Tensor, Tensor | None]:
        engine, weights, gradient, spec = self.engine, self.weights, self.gradient, self.specs[0]
        outputs = engine.gradient(weights, inputs, targets, terms, gradient)
        score = engine.score(outputs, targets)
        if spec.rho > 0:
            there = ascended(weights, gradient, self.rho, spec, self.matrices)
            engine.gradient(there, inputs, targets, terms, gradient)
        if self.limit is not None:
            clip(gradient, self.limit)
        self.optimiser.step(weights, gradient, factor)
        return score

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """(inputs, targets, terms of each member's loss) of every step; each member goes in its own seed's order."""
        examples = len(self.targets)
        own = {
            seed: seeds.permutation(seeds.stream(seed, "order", epoch), examples)
            for seed in {spec.seed for spec in self.specs}
        }
        orders = torch.stack([own[spec.seed] for spec in self.specs]).to(self.first.device)
        for part in orders.split(self.first.sizes, 1):
            flat, shape = part.reshape(-1), part.shape
            inputs = self.inputs.index_select(0, flat).view(*shape, *self.inputs.shape[1:])
            targets = self.targets.index_select(0, flat).view(*shape, *self.targets.shape[1:])
            yield inputs, targets, max(self.first.loss.count(targets[0]), 1)


class _Averages:
    """Each member's loss and hits summed over batches in float64, divided once at the end."""

    def __init__(self, like: Weights) -> None:
        self.total, self.hits = like.new_zeros(2, len(like), dtype=torch.float64)
        self.count, self.counts_hits = 0, False

    def add(self, score: tuple[Tensor, Tensor | None], terms: int) -> None:
        self.total += score[0]
        self.count += terms
        if score[1] is not None:
            self.hits += score[1]
            self.counts_hits = True

    def results(self) -> list[tuple[float | None, float | None]]:
        """(mean loss, accuracy) of each member, None where there is none."""
        if self.count == 0:
            return [(None, None)] * len(self.total)
        accuracies = (self.hits / self.count).tolist() if self.counts_hits else [None] * len(self.hits)
        return list(zip((self.total / self.count).tolist(), accuracies, strict=True))
