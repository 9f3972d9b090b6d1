"""The worker's side of one trial: a class Trainable that lives through many trials, one epoch a step.

A worker process imports torch once, opens the data once, and is then handed one trial after another. Each step trains
one epoch, writes the trial's checkpoint (which carries its epoch history) to the results folder, and reports the epochs
that it has not reported yet. Endings that belong to the trial (a loss that is not a number, memory) are reported
as such; a process that dies, or that ends itself because an epoch takes too long, is Ray's to notice.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from resnetlab.errors import BadData
from resnetlab.experiment.messages import Ending, Report, Task, TrialContext
from resnetlab.ray_backend.preflight import check_here
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep.crashes import LEAVES, begins

if TYPE_CHECKING:
    from resnetlab.experiment.protocol import Run

UNSETTLED = 3  # times in a row that an epoch is thrown away because the data cache changed under it


class TrialWorker(tune.Trainable):
    """Tune's config has a Task under `task` and the TrialContext under `context`; each result a Report under `report`.

    An empty config makes a worker that waits for its first `reset_config`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._busy = self._leaving = False
        self._run: Run | None = None
        self.reset_config(config)
        if self.is_actor():  # type: ignore[no-untyped-call]
            signal.signal(signal.SIGTERM, self._notice)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: the machine is about to leave. The epoch under way is finished first."""
        self._leaving = True
        os.write(2, f"{LEAVES}\n".encode())  # should it be killed before
        if not self._busy:
            self._leave()

    def _leave(self) -> None:
        """End this process, with a checkpoint of every epoch done: the trial goes on from it elsewhere."""
        if self._run is not None:
            self._run.save()
        ray.actor.exit_actor()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self._leaving:
            self._leave()
        self._run = None
        if new_config:
            self._task: Task = new_config["task"]
            self._context: TrialContext = new_config["context"]
        self.config: dict[str, Any] = {}  # else every report would carry it
        return True

    def step(self) -> dict[str, Any]:
        self._busy = True
        # From a thread that needs no interpreter: what hangs is shown in the worker's log, and its process ends.
        faulthandler.dump_traceback_later(self._context.epoch_timeout_s, exit=True, file=2)
        try:
            report = self._report()
        except Exception as error:
            busy = self._run.busy_seconds if self._run is not None else 0.0
            report = Report(ending=self._ending(error), busy_seconds=busy)
            self._run = None
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._busy = False
        if self._leaving and self._run is not None:
            self._leave()  # what this step would have reported is reported from the checkpoint
        return {"report": report}

    def _ending(self, error: Exception) -> Ending:
        code = self._context.code_place if self._context.code else None
        last = self._run is not None and self._run.epoch == self._task.config.epochs
        at = "on the test split" if last else f"epoch {self._run.epoch + 1}" if self._run else "being set up"
        return Ending.of(error, code, f"{at}: ")

    def _report(self) -> Report:
        """Of one epoch more. Where the data cache changes under it the epoch is thrown away, and trained again."""
        if self._run is None:
            os.write(2, f"{begins(self._task.trial_id)}\n".encode())
            check_here(self._context.versions)
            self._run = self._new_run()
        for _ in range(UNSETTLED):
            if (report := self._run.step()) is not None:
                return report
            self._run = self._new_run(altered=True)
        raise BadData(f"{self._context.cache}: the data cache changes all the time")

    def _new_run(self, altered: bool = False) -> Run:
        if not isinstance(self._task.config, TrialConfig):
            from resnetlab.vision.own_task import begin

            return begin(self._task, self._context)
        from resnetlab.vision.trial_run import TrialRun  # torch, which the driver's process can do without

        return TrialRun(self._task, self._context, altered)
