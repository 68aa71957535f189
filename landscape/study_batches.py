"""Which runs of a study are trained as one program: small networks of one kind, on the same data."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from landscape.checkpoints import choose_device, prepare
from landscape.errors import InputError
from landscape.spec import ProblemSpec
from landscape.study_run import Job, perform, record_of
from landscape.study_spec import LAST

Batch = tuple[Job, ...]


def batches(jobs: Sequence[Job], together: bool) -> list[Batch]:
    """The jobs in their order, those that can be trained together as one batch; every other is one of its own.

    Together are runs of one source (network, data, loss, dtype) for which `ensemble.why_alone` gives no reason.
    """
    ensemble = _ensemble() if together else None
    if ensemble is None:
        return [(job,) for job in jobs]
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        key: Any = job.run.name if _alone(ensemble, job) else job.run.source
        groups.setdefault(key, []).append(job)
    return [tuple(group) for group in groups.values()]


def perform_batch(batch: Batch) -> list[dict[str, Any]]:
    """The outcomes of a batch: trained together where it has several runs, then each finished by itself.

    Training together only puts finished runs into the folders: `perform` finds them there and measures. What it
    could not train, `perform` trains alone.
    """
    ensemble: Any = _ensemble()
    if len(batch) > 1 and ensemble is not None:
        with suppress(InputError):  # whose fault it is shows when each is trained by itself
            _train_together(ensemble, [job for job in batch if not holds_something(job)])
    return [perform(job) for job in batch]


def _train_together(ensemble: Any, jobs: Sequence[Job]) -> None:
    """Put the finished runs of those that did not diverge into their folders."""
    if len(jobs) < 2:
        return
    source = jobs[0].run.source
    problem = ProblemSpec.from_dict(source.to_dict())
    members, dataset = [], None
    for job in jobs:
        model, dataset = prepare(problem, job.run.train.seed)
        members.append(ensemble.Member(model, job.run.train))
    trained = ensemble.train_together(members, dataset, loss=source.loss, device=choose_device(source.device))
    for job, member in zip(jobs, trained, strict=True):
        if member.diverged is None:
            ensemble.save_member(member, dataset, job.folder, record_of(job))


def holds_something(job: Job) -> bool:
    """Whether the run was begun: then it goes on by itself."""
    return Path(job.folder).is_dir() and any(Path(job.folder).iterdir())


def _ensemble() -> Any:
    """The module that trains several networks as one program; None where this version has none."""
    try:
        from landscape.training import ensemble  # type: ignore[attr-defined]
    except ImportError:
        return None
    return ensemble


def _alone(ensemble: Any, job: Job) -> bool:
    why_alone: Callable[..., str | None] = ensemble.why_alone
    if any(moment not in (0, LAST, job.run.train.epochs) for moment in job.at):
        return True  # an ensemble keeps no checkpoints between the first and the last
    try:
        model, _ = prepare(ProblemSpec.from_dict(job.run.source.to_dict()), job.run.train.seed)
        return why_alone(model, job.run.train) is not None
    except InputError:
        return True
