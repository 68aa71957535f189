"""What a study is: trainings × seeds, and what is measured of each."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from landscape.fields import Spec, option
from landscape.spec import (
    DensitySpec,
    HessianSpec,
    MeasuresSpec,
    ProblemSpec,
    SharpnessSpec,
    SourceSpec,
    TraceSpec,
    TrainSpec,
)

WORDS: dict[str, type[Spec]] = {
    "hessian": HessianSpec,
    "density": DensitySpec,
    "trace": TraceSpec,
    "sharpness": SharpnessSpec,
    "measures": MeasuresSpec,
}
"""What can be measured of each run, by the name of its table in the file."""

LAST = "last"
"""The moment of a run's final checkpoint."""

RUN = "run"
"""The factor that is the name of a `[[runs]]` table."""

_ELSEWHERE = ("device", "data_folder")
"""Where a run is computed and where its data lie: part of neither its name nor its numbers."""


@dataclass(frozen=True)
class StudyOptions(Spec):
    """How a study is executed."""

    threads: int = option(1, "threads of each run; the last bits depend on it", minimum=1)
    together: bool = option(True, "train small networks of one kind as one program where that is possible")


@dataclass(frozen=True)
class Start:
    """The run that others start from, of the same seed, and after which of its epochs."""

    source: SourceSpec
    train: TrainSpec
    epoch: int

    @property
    def name(self) -> str:
        """The folder of the run, one for all epochs."""
        return f"seed={self.train.seed}-{digest(self.source, self.train)}"


@dataclass(frozen=True)
class StudyRun:
    """One training of a study.

    setting: the value of every factor, in their order. seed is `train.seed`. start: whose weights it starts from,
    None for initial weights of its own.
    """

    setting: Mapping[str, Any]
    source: SourceSpec
    train: TrainSpec
    start: Start | None = None

    @property
    def label(self) -> str:
        """What repetitions with other seeds share."""
        return label_of(self.setting)

    @property
    def name(self) -> str:
        """The folder of the run: readable, and with a digest of everything that decides its weights."""
        words = re.sub(r"[^A-Za-z0-9._=+,-]+", "_", f"{self.label} seed={self.train.seed}".strip())
        start = None if self.start is None else [self.start.name, self.start.epoch]
        return f"{words[:100].strip('._')}-{digest(self.source, self.train, words=start)}"


@dataclass(frozen=True)
class StudySpec:
    """A whole study.

    factors: what differs between the runs' settings, but for the seed. problem: fields of `ProblemSpec` that the
    measurements' problem has besides the run's source. measurements: (word, spec). at: when each run is measured,
    epochs or `LAST`. by: the factors that make a cell of the table. columns: those shown, () for all.
    text: of the file.
    """

    name: str
    runs: tuple[StudyRun, ...]
    factors: tuple[str, ...]
    options: StudyOptions
    problem: Mapping[str, Any]
    measurements: tuple[tuple[str, Spec], ...]
    at: tuple[int | str, ...]
    by: tuple[str, ...]
    columns: tuple[str, ...]
    text: str

    def problem_of(self, run: StudyRun) -> ProblemSpec:
        """What a run is measured on; by an engine whose numbers repeat to the last bit, unless the file names one.

        `auto` may choose by the time that a trial takes, and so differently in each process.
        """
        return ProblemSpec.from_dict({"engine": "recompute", **run.source.to_dict(), **self.problem})

    def measured(self, run: StudyRun) -> str:
        """A digest of everything that decides a run's measurements, given its weights."""
        specs = [digest(spec, words=word) for word, spec in self.measurements]
        return digest(self.problem_of(run), words=[specs, self.at])


def label_of(setting: Mapping[str, Any]) -> str:
    """`batch_size=16 rho=0.05`; the name alone where that is all there is."""
    if set(setting) == {RUN}:
        return str(setting[RUN])
    return " ".join(f"{key}={word(value)}" for key, value in setting.items())


def word(value: Any) -> str:
    """A setting's value as a table shows it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(word, value)) if isinstance(value, tuple | list) else str(value)


def digest(*specs: Spec, words: Any = None) -> str:
    """Eight hexadecimal digits of what differs from the defaults, so that a new field with its default changes none."""
    told = [
        {
            item.name: getattr(spec, item.name)
            for item in fields(spec)  # type: ignore[arg-type]
            if item.name not in _ELSEWHERE and getattr(spec, item.name) != item.default
        }
        for spec in specs
    ]
    text = json.dumps([told, words], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
