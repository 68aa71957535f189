"""Which runs of a study are trained as one program: small networks of one kind, on the same data."""

from collections.abc import Callable, Sequence
from typing import Any

from landscape.checkpoints import choose_device, prepare
from landscape.errors import InputError
from landscape.spec import ProblemSpec
from landscape.study_run import Job, perform

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
        source = batch[0].run.source
        problem = ProblemSpec.from_dict(source.to_dict())
        try:
            members = [(prepare(problem, job.run.train.seed)[0], job.run.train, job.folder) for job in batch]
            dataset = prepare(problem, 0)[1]
            record = {name: getattr(source, name) for name in ("model", "model_args", "data", "data_args", "loss")}
            ensemble.train_together(members, dataset, record, choose_device(source.device), source.loss)
        except InputError:  # whose fault it is shows when each is trained by itself
            pass
    return [perform(job) for job in batch]


def _ensemble() -> Any:
    """The module that trains several networks as one program; None where this version has none."""
    try:
        from landscape.training import ensemble  # type: ignore[attr-defined]
    except ImportError:
        return None
    return ensemble


def _alone(ensemble: Any, job: Job) -> bool:
    why_alone: Callable[..., str | None] = ensemble.why_alone
    try:
        model, _ = prepare(ProblemSpec.from_dict(job.run.source.to_dict()), job.run.train.seed)
        return why_alone(model, job.run.train) is not None
    except InputError:
        return True
