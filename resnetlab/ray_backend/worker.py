"""The worker: a Trainable of Tune that runs many trials in one process, step by step.

A worker process imports torch once, opens the data once, and then gets one trial after another. Each step trains one
epoch, or several short ones, writes the trial's checkpoint (which holds its epoch history) to the results folder, and
reports the epochs that it has not reported yet. Failures of the trial itself (a loss that is not a number, too little
memory) are reported as its ending; Ray notices a process that dies, or that ends itself because an epoch takes too long
or its GPU failed.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from resnetlab.errors import BadData
from resnetlab.experiment.messages import Ending, Report, Task, TrialContext
from resnetlab.experiment.printed import Printed, kept
from resnetlab.ray_backend.preflight import check_here
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep.crashes import LEAVES, begins
from resnetlab.vision.training import accelerator

if TYPE_CHECKING:
    from resnetlab.experiment.protocol import Run

CACHE_RETRIES = 3  # times in a row that an epoch is discarded because the data cache changed while it ran


class TrialWorker(tune.Trainable):
    """Trainable whose config holds a Task (`task`) and a TrialContext (`context`), and each result a Report (`report`).

    With an empty config it waits for its first `reset_config`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._busy = self._leaving = False
        self._printed = Printed()
        self._run: Run | None = None
        self.reset_config(config)
        if self.is_actor():  # type: ignore[no-untyped-call]
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Leave after the current step, because the machine is about to shut down."""
        self._leaving = True
        os.write(2, f"{LEAVES}\n".encode())  # in the log even if the process is killed before it can leave
        if not self._busy:
            self._leave()

    def _leave(self) -> None:
        """Write a checkpoint of all finished epochs, from which the trial resumes elsewhere, and end this process."""
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
        # A thread that does not need the interpreter writes the stack to the log and ends a process that hangs.
        faulthandler.dump_traceback_later(self._context.epoch_timeout_s, exit=True, file=2)
        try:
            with kept(self._printed):
                report = self._next_report()
        except Exception as error:
            if (device_lost := accelerator.lost(error)) is not None:
                raise device_lost from error  # which ends this process: it could not use the GPU again
            told = self._run.news() if self._run is not None else Report()
            report = replace(told, ending=self._ending(error))
            self._run = None
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._busy = False
        if self._leaving and self._run is not None:
            self._leave()  # the next worker reports this step's epochs from the checkpoint
        return {"report": replace(report, printed=self._printed.take())}

    def _ending(self, error: Exception) -> Ending:
        """How the trial ended, if `error` ended it: its status, and a reason that names the epoch."""
        code = self._context.code_place if self._context.code else None
        last = self._run is not None and self._run.epoch == self._task.config.epochs
        stage = "on the test split" if last else f"epoch {self._run.epoch + 1}" if self._run else "being set up"
        return Ending.of(error, code, f"{stage}: ")

    def _next_report(self) -> Report:
        """Take one step and return its report. An epoch during which the data cache changed is trained again."""
        if self._run is None:
            os.write(2, f"{begins(self._task.trial_id)}\n".encode())
            check_here(self._context.versions)
            self._run = self._new_run()
        for _ in range(CACHE_RETRIES):
            if (report := self._run.step()) is not None:
                return report
            self._run = self._new_run(altered=True)
        raise BadData(f"{self._context.cache}: the data cache changes all the time")

    def _new_run(self, altered: bool = False) -> Run:
        if not isinstance(self._task.config, TrialConfig):
            from resnetlab.vision.own_task import begin

            return begin(self._task, self._context)
        from resnetlab.vision.trial_run import TrialRun  # imports torch, which the driver need not load

        return TrialRun(self._task, self._context, altered)
