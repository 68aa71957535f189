"""Which runs of a study are trained as one program: small networks of one kind, on the same data."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.checkpoints import choose_device, initial_model, prepare
from landscape.errors import InputError
from landscape.spec import ProblemSpec
from landscape.study_job import Job, record_of
from landscape.study_run import perform
from landscape.study_spec import LAST
from landscape.training.ensemble import STACK, Member, kind, save_member, train_together, why_alone
from landscape.training.run import threads


@dataclass(frozen=True)
class Batch:
    """Runs that are trained as one program where there are several; `todo` are the names of those that are asked for.

    Which runs belong to a batch does not depend on what is done, so that a study that was killed, or runs elsewhere,
    ends with the same bits.
    """

    jobs: tuple[Job, ...]
    todo: frozenset[str]

    @property
    def asked(self) -> list[Job]:
        """The jobs to be done."""
        return [job for job in self.jobs if job.run.name in self.todo]


def batches(jobs: Sequence[Job], todo: set[str], together: bool) -> list[Batch]:
    """The jobs in batches, those that can be trained as one stack in one; batches with nothing to do are left out.

    Together are runs of one source and kind for which `why_alone` gives no reason, with initial weights of their own,
    and that keep no more checkpoints than the first and the last, which is all that a stack has: those with
    `save_every` of at least `epochs`.
    """
    groups: dict[Hashable, list[Job]] = {}
    known: dict[Hashable, bool] = {}
    for job in jobs:
        key = (job.run.source, kind(job.run.train))
        stacks = together and job.run.start is None and _keeps_ends_alone(job)
        if stacks and key not in known:
            known[key] = _stacks(job)
        groups.setdefault(key if stacks and known[key] else job.run.name, []).append(job)
    parts = [part for group in groups.values() for part in _parts(group)]
    found = [Batch(part, frozenset(job.run.name for job in part) & todo) for part in parts]
    return [batch for batch in found if batch.todo]


def _parts(group: list[Job]) -> list[tuple[Job, ...]]:
    """As few parts of nearly equal size as have at most STACK jobs each."""
    count = -(-len(group) // STACK)
    return [tuple(group[place::count]) for place in range(count)]


def perform_batch(batch: Batch) -> list[dict[str, Any]]:
    """The outcomes of what is asked for: trained together where there are several runs, then each finished by itself.

    Training together only puts finished runs into the folders: `perform` finds them there and measures. What it
    could not train, `perform` trains alone.
    """
    if len(batch.jobs) > 1 and not all(map(holds_something, batch.asked)):
        with suppress(InputError):  # whose fault it is shows when each is trained by itself
            _train_together(batch.jobs)
    return [perform(job) for job in batch.asked]


def _train_together(jobs: Sequence[Job]) -> None:
    """Put the finished runs of those that did not diverge into their folders, if these are empty."""
    source = jobs[0].run.source
    problem = ProblemSpec.from_dict(source.to_dict())
    _, dataset = prepare(problem)
    members = [Member(initial_model(problem, dataset, job.run.train.seed), job.run.train) for job in jobs]
    with threads(jobs[0].threads):
        trained = train_together(members, dataset, source.loss, choose_device(source.device))
    for job, member in zip(jobs, trained, strict=True):
        if member.diverged is None and not holds_something(job):
            save_member(member, dataset, job.folder, record_of(job.run.source))


def holds_something(job: Job) -> bool:
    """Whether the run was begun: then it goes on by itself."""
    return Path(job.folder).is_dir() and any(Path(job.folder).iterdir())


def _keeps_ends_alone(job: Job) -> bool:
    epochs = job.run.train.adapted().epochs
    return job.run.train.save_every >= epochs and all(moment in (0, LAST, epochs) for moment in job.at)


def _stacks(job: Job) -> bool:
    try:
        model, _ = prepare(ProblemSpec.from_dict(job.run.source.to_dict()), job.run.train.seed)
        return why_alone(model, job.run.train) is None
    except InputError:
        return False
