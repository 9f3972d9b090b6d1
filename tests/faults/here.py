"""A whole sweep in this process: `run_study` as every script calls it, with workers but without a Ray cluster; and its
crash, as SIGKILL would leave the folder: nothing is flushed, published or released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resnetlab.driver.options import Options
from resnetlab.driver.run import run_study
from resnetlab.experiment import messages
from resnetlab.experiment.messages import Report, Task, TrialContext
from resnetlab.ray_backend import cluster
from resnetlab.ray_backend.worker import TrialWorker
from resnetlab.storage import lease
from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import Study, build_study


class Crash(BaseException):
    """The process is gone."""


Step = Callable[[Task, int], Report]


class Here:
    """`step(task, reported)` gives the report of a trial's next epoch; None: real workers train."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, study: dict[str, Any], step: Step | None = None):
        self.place, self._patch, self._step = place, monkeypatch, step
        self.study: Study = build_study(study, "study.yaml")
        self.extend = False  # what is asked beyond the study before
        self.cache = place / "cache"
        self.reports = 0
        self.at_report: Callable[[int], None] = lambda number: None  # called before each report is taken
        from resnetlab.ray_backend import backend

        monkeypatch.setattr(messages, "REPORTS_AFTER", 0.0)  # a report is an epoch
        monkeypatch.setattr(backend, "run", self._engine)
        monkeypatch.setattr(cluster, "connect", _no_cluster)
        monkeypatch.setattr(lease, "_alive", lambda *holder: False)  # whoever held the folder has crashed

    def at(self, case: str) -> Path:
        """The results folder of a case; all have one name, because the seeds depend on it."""
        return self.place / case / self.study.name

    def run(self, case: str) -> Path:
        """Run or continue; raises what `run_study` raises."""
        self.reports = 0
        run_study(self.study, Options(storage=str(self.place / case), cache=self.cache, extend=self.extend))
        return self.at(case)

    def crash(self, case: str, after: int, publish: int | None = None) -> Path:
        """Run until `after` reports were taken, with the tables published after `publish`; then die."""

        def at_report(number: int) -> None:
            if number == publish:
                self.sweep.store.publish()
            if number == after:
                raise Crash

        self.at_report = at_report
        with self._patch.context() as dying:
            dying.setattr(Store, "close", lambda store: None)
            with pytest.raises(Crash):
                self.run(case)
        self.at_report = lambda number: None
        return self.at(case)

    def hash(self, case: str) -> str:
        return content_hash(ResultsFolder.at(self.at(case)))

    def _engine(self, sweep: Any, context: TrialContext, tick: Callable[[], None], capacity: Any) -> None:
        self.sweep = sweep
        while (task := sweep.next()) is not None:
            worker = None if self._step else TrialWorker({"task": task, "context": context})
            reported, goes_on = 0, True
            while goes_on:
                report = self._step(task, reported) if self._step else worker.step()["report"]
                reported += len(report.epochs)
                self.at_report(self.reports)
                self.reports += 1
                goes_on = sweep.report(task.trial_id, report)
                tick()


@contextmanager
def _no_cluster(*arguments: Any) -> Iterator[Callable[[], list]]:
    yield list
