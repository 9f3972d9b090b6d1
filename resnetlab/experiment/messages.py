"""What a sweep and its workers tell each other: a task and its context go out, reports come back.

Frozen dataclasses of plain values, arrays and configs. They travel pickled, between nodes that have the same versions.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resnetlab.errors import END_THE_SWEEP, BadRequest, ResnetlabError
from resnetlab.study.data_config import DataConfig
from resnetlab.study.parts import Part
from resnetlab.study.records import EpochRecord, Phase, Status, TaskEpoch, TaskTest, TestResult
from resnetlab.study.trial_config import RunConfig, starts_from

Cell = str | int | float | bool | None  # of a table
# As it is said of CPUs (torch), of GPUs and their drivers, of cuBLAS and cuDNN, and of Intel's GPUs.
NO_MEMORY = re.compile("can't allocate memory|out of memory|_ALLOC_FAILED|OUT_OF_DEVICE_MEMORY", re.IGNORECASE)
MOST_TRACEBACK = 20_000  # characters of it that are kept
REPORTS_AFTER = 2.0  # seconds of training; a report costs some hundredths of one (benchmarks/turnover.py)


@dataclass(frozen=True)
class Task:
    """One trial to run. test: it reads the test split at its last epoch. keep: others start from its weights.

    source_data: what the trial that it starts from was trained on. recorded: number of its epochs in the tables. saves:
    epochs after which it must have a checkpoint, because it may pause there. decided: epochs that are reported at once,
    because a stopping rule decides there. stays: its checkpoint at the full budget stays in the results folder.
    shorter: the same trial of a shorter budget, from whose kept checkpoint it begins.
    """

    trial_id: str
    config: RunConfig
    phase: Phase
    test: bool
    data_hash: str = ""
    keep: bool = False
    source_data: DataConfig | None = None
    recorded: int = 0
    saves: tuple[int, ...] = ()
    decided: tuple[int, ...] = ()
    stays: bool = False
    shorter: str = ""

    @property
    def source(self) -> str | None:
        """The trial whose weights it starts from."""
        kind, _, trial_id = starts_from(self.config).partition(":")
        return trial_id if kind == "trial" else None


@dataclass(frozen=True)
class TrialContext:
    """Where and how a sweep's trials run: the same for all of them.

    device: torch's name of what trials train on: `cpu`, `cuda` (ROCm too), `xpu` or `mps`. versions: of the packages
    that would alter results, which a node must have. epoch_timeout_s: seconds that one epoch may take. every_epoch:
    write a checkpoint after each epoch, whatever it costs. contents: content hash by `model name` of torchvision's
    weights that the results folder holds. code: hash of the study's own, which the results folder holds. metrics: that
    an evaluation computes besides accuracy and loss, a built-in one by its name. confirmed: the one whose effects are
    confirmed, of which a test keeps what each image adds, where that is known. last_epochs: over which its mean is
    confirmed. numbers: that the study's own task has declared.
    """

    folder: str  # path or URL of the results folder
    cache: Path  # of datasets, on each node
    cpus: float
    gpus: float
    epoch_timeout_s: float
    device: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    compile: bool = False
    every_epoch: bool = False
    contents: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    metrics: tuple[str | Part, ...] = ()
    confirmed: str = ""
    last_epochs: int = 1
    numbers: tuple[str, ...] = ()

    @property
    def code_place(self) -> Path:
        """Where own code is unpacked on each node."""
        return self.cache / "code"

    @property
    def task_data(self) -> Path:
        """Where a study's own task keeps its data on each node."""
        return self.cache / "tasks" / (self.code or "installed")

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    @property
    def reports_after(self) -> float:
        """Seconds: epochs that are over within them are reported together, as far as no decision waits for one."""
        return min(REPORTS_AFTER, self.epoch_timeout_s / 10)


@dataclass(frozen=True)
class Ending:
    """Why a trial cannot go on. traceback: of the error, where it helps to find the cause.

    ends_sweep: the error to end the whole sweep with, where no other trial would fare better.
    """

    status: Status
    reason: str
    traceback: str = ""
    ends_sweep: type[ResnetlabError] | None = None

    @classmethod
    def of(cls, error: BaseException, code: Path | None = None, when: str = "") -> Ending:
        """How a trial ends whose epoch raised `error`. Imports nothing: what failed may have been an import.

        code: folder below which a study's own code is unpacked; an error in there is shown as its author knows it.
        when: what the trial was at, in words, for such an error.
        """
        kind = type(error).__name__
        text = ": ".join(filter(None, (kind, str(error)))).splitlines()[0]
        if kind == "Diverged":
            return cls(Status.DIVERGED, str(error))
        if kind in END_THE_SWEEP:
            return cls(Status.INTERRUPTED, str(error), ends_sweep=END_THE_SWEEP[kind])
        trace = "".join(traceback.format_exception(error))[-MOST_TRACEBACK:]
        if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or NO_MEMORY.search(text):
            return cls(Status.OUT_OF_MEMORY, text, trace)
        if isinstance(error, ResnetlabError):
            return cls(Status.FAILED, str(error), "" if isinstance(error, BadRequest) and code else trace)
        if code is not None and (own := _own_frames(error, code)):
            shown = "".join(["Traceback (most recent call last):\n", *traceback.format_list(own), text])
            place = f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}"
            return cls(Status.FAILED, f"{when}{text} ({place})", shown)
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        traceback.print_exception(error)  # into the worker's log
        return cls(Status.FAILED, text + where, trace)


def _own_frames(error: BaseException, code: Path) -> list[traceback.FrameSummary]:
    """The frames in a study's own files, which are named as in the study's folder."""
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(code):
            name = Path(*path.relative_to(code).parts[2:])  # without the version's hash and `study`
            found.append(
                traceback.FrameSummary(str(name), frame.lineno, frame.name, lookup_line=False, line=frame.line)
            )
    return found


@dataclass(frozen=True)
class Report:
    """What a worker has to say of a trial after one epoch or several short ones, or when it cannot go on.

    epochs: those that this worker has not reported before, oldest first. columns: of the trial's row in the trials
    table. note: what people must hear of the trial. restarted: the trial was begun before, elsewhere. busy_seconds:
    spent in epochs and on the test split. test: at the full budget, where the task asks for it. before: epochs up to
    which the same trial of a shorter budget trained it. resumed: epochs that this worker did not train, but found in a
    checkpoint. printed: by its code, since the last report.
    """

    epochs: tuple[EpochRecord | TaskEpoch, ...] = ()
    columns: Mapping[str, Cell] = field(default_factory=dict)
    note: str = ""
    restarted: bool = False
    busy_seconds: float = 0.0
    ending: Ending | None = None
    test: TestResult | TaskTest | None = None
    before: int = 0
    resumed: int = 0
    printed: str = ""
