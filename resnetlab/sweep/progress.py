"""How far a sweep is, for the live view, and what its driver costs."""

from __future__ import annotations

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
FUSE = 4  # trials that may fail before any epoch of any trial has been recorded


@dataclass
class SweepProgress:
    """best: the best value of `searched`, the metric that is searched for, of an explore trial at the full budget."""

    explore_planned: int
    searched: Metric
    confirm_planned: int = 0
    pilot_planned: int = 0
    epochs: int = 0
    images_per_second: float = 0.0  # of all trials together, smoothed, evaluation time counted in
    best: float | None = None
    best_trial: str = ""

    @property
    def planned(self) -> int:
        """Trials that are planned as yet."""
        return self.pilot_planned + self.explore_planned + self.confirm_planned

    def trained(self, epoch: EpochRecord | TaskEpoch, trials: int) -> None:
        """One epoch more, while `trials` trials were under way."""
        self.epochs += 1
        seconds = max(epoch.train_seconds + epoch.eval_seconds, 1e-9)
        rate = epoch.images_per_second * epoch.train_seconds / seconds * max(trials, 1)
        old = self.images_per_second
        self.images_per_second = rate if not old else 0.8 * old + 0.2 * rate

    def ended(self, row: Mapping[str, Any]) -> None:
        """An explore trial is over."""
        value, sign = row.get(self.searched.name), self.searched.sign
        complete = row["status"] == Status.COMPLETE and value is not None
        if value is not None and complete and (self.best is None or sign * value > sign * self.best):
            self.best, self.best_trial = value, row["trial_id"]


class Fuse:
    """Ends a sweep in which nothing works, rather than let every trial fail alike: after `most` trials in a row that
    failed before any epoch of any trial."""

    def __init__(self, most: int):
        self.most = most
        self._lost = 0

    def blown(self, status: Status, epochs: int) -> bool:
        """Told of each trial that ended; epochs: that all trials have recorded."""
        self._lost = 0 if epochs else self._lost + 1
        return status is Status.FAILED and self._lost == self.most


class Clock:
    """Seconds of one session of a sweep.

    busy: that workers say they spent in epochs and tests. driver: that `reports` reports took here, without what the
    sampler and publishing the tables did meanwhile; these have sums of their own.
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
    """Around `Sweep.report`: counts it in the sweep's clock."""

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
