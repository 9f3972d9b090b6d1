"""Progress of a sweep for the live view, time that its driver takes, and the end of a sweep that cannot work."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any

from resnetlab.experiment.messages import Report
from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.storage.store import Store
from resnetlab.study.metrics import Metric
from resnetlab.study.records import EpochRecord, Status, TaskEpoch

Take = Callable[[Any, str, Report], bool]  # `Sweep.report`
FUSE = 4  # trials that may fail, all before an epoch of any trial has been recorded or all for one reason
NUMBER = re.compile(r"\d+(\.\d+)?([eE][-+]?\d+)?")  # by which reasons of one kind may differ: an epoch, a value
WORKED = (Status.COMPLETE, Status.STOPPED, Status.DIVERGED)


@dataclass
class SweepProgress:
    """Counts of planned trials and of epochs, and the best explore trial so far.

    searched: the metric that the search optimises. images_per_second: of all trials together, evaluation time included,
    smoothed. best: the best value of `searched` that an explore trial had at the full budget, in `best_trial`.
    """

    explore_planned: int
    searched: Metric
    confirm_planned: int = 0
    pilot_planned: int = 0
    epochs: int = 0
    images_per_second: float = 0.0
    best: float | None = None
    best_trial: str = ""

    @property
    def planned(self) -> int:
        """Number of trials planned so far."""
        return self.pilot_planned + self.explore_planned + self.confirm_planned

    def trained(self, epoch: EpochRecord | TaskEpoch, trials: int) -> None:
        """Count an epoch that ended while `trials` trials were training."""
        self.epochs += 1
        seconds = max(epoch.train_seconds + epoch.eval_seconds, 1e-9)
        rate = epoch.images_per_second * epoch.train_seconds / seconds * max(trials, 1)
        before = self.images_per_second
        self.images_per_second = rate if not before else 0.8 * before + 0.2 * rate

    def ended(self, row: Mapping[str, Any]) -> None:
        """Take note of an explore trial that has ended. row: of the trials table."""
        value, sign = row.get(self.searched.name), self.searched.sign
        complete = row["status"] == Status.COMPLETE and value is not None
        if value is not None and complete and (self.best is None or sign * value > sign * self.best):
            self.best, self.best_trial = value, row["trial_id"]


class Fuse:
    """Ends a sweep in which nothing works: `most` trials have failed, before any trial recorded an epoch or all for the
    same reason, and none has ended as trials should."""

    def __init__(self, most: int):
        self.most = most
        self._reasons: list[str] = []

    def blown(self, reason: str, epochs: int, worked: bool) -> bool:
        """Count a trial that failed; True if the sweep must end. epochs: recorded by all trials. worked: a trial has
        ended as trials should, in this session or before."""
        self._reasons.append(NUMBER.sub("#", reason))
        alike = not epochs or len(set(self._reasons)) == 1
        return not worked and len(self._reasons) == self.most and alike


class Clock:
    """Seconds spent in one session of a sweep.

    busy: by workers, in epochs and tests. driver: by this process, on `reports` reports, without the time of the
    sampler and of publishing tables, which are counted separately.
    """

    def __init__(self, search: OptunaSampler, store: Store):
        self._search, self._store = search, store
        self.busy, self.driver, self.reports = 0.0, 0.0, 0

    @property
    def sampler(self) -> float:
        return self._search.seconds

    @property
    def publishing(self) -> float:
        return self._store.publish_seconds


def clocked(take: Take) -> Take:
    """Decorator of `Sweep.report` that measures it with the sweep's clock."""

    @wraps(take)
    def counted(sweep: Any, trial_id: str, report: Report) -> bool:
        clock = sweep.clock
        began = perf_counter() - clock.sampler - clock.publishing
        try:
            return take(sweep, trial_id, report)
        finally:
            clock.driver += perf_counter() - clock.sampler - clock.publishing - began
            clock.reports += 1

    return counted
