"""Run a Sweep on Ray Tune: thin adapters from Tune's interfaces to `Sweep.next`, `report` and `ended`.

Tune stores nothing that is needed later. It runs in rounds, each a new experiment in a temporary folder that is never
restored. What Tune does in one step of its loop grows with the number of trials that the experiment has seen, so a
round ends after a bounded number of them. Trials that still train are then stopped at their next report and handed out
again in the next round, where they resume from their checkpoints.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from resnetlab.errors import ClusterLost
from resnetlab.experiment.messages import Task, TrialContext
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.ray_backend.environment import environment
from resnetlab.ray_backend.worker import TrialWorker
from resnetlab.ray_backend.worker_death import cause_of_death, killed_for_memory
from resnetlab.study.records import Status
from resnetlab.sweep import crashes
from resnetlab.sweep.state_machine import Sweep

# Environment variables of Tune, set while it runs: no loggers, snapshots, changes of directory or signal handler.
TUNE_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",  # started together; the sweep hands out no more than there is room for
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
ROUND_TRIALS, ROUND_TRIALS_PER_SLOT = 1000, 16  # a round has the larger of the first, and the second times the slots
MAX_LOSSES = 3  # consecutive rounds without a new epoch that may end with the loss of a worker whose trial is unknown
START_TIMEOUT = 600.0  # seconds within which some trial must start while none runs
OUT_OF_MEMORY = "the node ran out of memory"
WAIT = 0.2  # seconds between two looks while no trial may run
EXIT_GRACE = 60.0  # seconds that a trial's process has to end, after its time limit for an epoch


class _NotPickled:
    """Base class of the adapters. Tune pickles the objects it gets; these pickle to an empty object."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class _Guard:
    """Calls the sweep on Tune's behalf and stores its first exception, which Tune would wrap; `check` raises it."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `call` returns, or None if it or an earlier call raised an error."""
        if self._error is None:
            try:
                return call(*arguments)
            except Exception as error:
                self._error = error
        return None

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class _Proposals(_NotPickled, Searcher):
    """Tune's search algorithm: takes tasks from the sweep, one more than there are free slots, so that no worker waits.

    closed: True once the round has had all its tasks and the sweep has another one, for the next round.
    """

    def __init__(self, sweep: Sweep, guard: _Guard, capacity: Capacity):
        super().__init__()
        self._sweep, self._guard, self._capacity = sweep, guard, capacity
        self._left, self.closed = max(ROUND_TRIALS, ROUND_TRIALS_PER_SLOT * capacity.slots), False

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Task] | str | None:  # type: ignore[override]
        full = len(self._sweep.running) >= self._capacity.limit
        task = None if full else self._guard(self._sweep.next)
        if task is None:
            return Searcher.FINISHED if self._sweep.finished else None
        if not self._left:
            self._guard(self._sweep.hand_back, task.trial_id)
            self.closed = True
            return Searcher.FINISHED
        self._left -= 1
        return {"task": task}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the scheduler has already reported to the sweep."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: all that must last is in the results folder."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is continued from its results folder")


class _Decisions(_NotPickled, FIFOScheduler):
    """Tune's scheduler: passes results to the sweep, which decides whether a trial continues.

    drains: True once the round ends for want of the right to run trials.
    """

    def __init__(self, sweep: Sweep, guard: _Guard, silence: _SilenceWatch, proposals: _Proposals, capacity: Capacity):
        super().__init__()  # type: ignore[no-untyped-call]
        self._sweep, self._guard, self._silence, self._proposals = sweep, guard, silence, proposals
        self._capacity, self.drains = capacity, False

    @property
    def supports_buffered_results(self) -> bool:
        return False

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = _task(trial).trial_id
        continues = self._guard(self._sweep.report, trial_id, result["report"])
        ends = self._proposals.closed or self.drains or len(self._sweep.running) > self._capacity.bound
        if continues and ends:
            self._guard(self._sweep.hand_back, trial_id)
            continues = False
        if self.drains and self._sweep.waiting:
            return TrialScheduler.NOOP  # Tune would give the worker to a trial that waits
        return TrialScheduler.CONTINUE if continues else TrialScheduler.STOP

    def step_ended(self) -> None:
        """Begin to end the round if the sweep may run no trial; raise _RoundOver once no trial has a worker."""
        self.drains = self.drains or not self._capacity.bound
        if self.drains and not self._sweep.with_workers:
            raise _RoundOver

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Tell the sweep why the trial's process ended; the sweep, not Tune, runs it again, from its checkpoint."""
        trial_id, error = _task(trial).trial_id, _cause(trial)
        if "low on memory" in error:
            self._guard(self._sweep.died, trial_id, OUT_OF_MEMORY, Status.OUT_OF_MEMORY)
        elif self._silence.late(trial_id):
            crash = cause_of_death(error)
            reason, log = crashes.late(self._silence.limit, crash), "\n".join(crash.log if crash else ())
            self._guard(self._sweep.ended, trial_id, Status.FAILED, reason, log)
        elif "exit_actor" in error:
            self._guard(self._sweep.died, trial_id, "its machine is leaving")
        elif (crash := cause_of_death(error)) is not None:
            self._guard(self._sweep.crashed, trial_id, crash)
        else:
            last = (error.strip().splitlines() or ["no cause given"])[-1]
            self._guard(self._sweep.died, trial_id, last.rpartition("DeviceLost: ")[2][:300])


class _RoundOver(Exception):
    """Ends a round from within: Tune ends its workers and passes it on."""


def _task(trial: Any) -> Task:
    """The sweep's task that a trial of Tune runs."""
    task: Task = trial.config["task"]
    return task


def _cause(trial: Any) -> str:
    """The text of a trial's failure, from the file that Tune writes at once (`trial.get_error` reads a later copy)."""
    file = trial.error_file and Path(trial.error_file)
    return file.read_text(encoding="utf-8", errors="replace") if file and file.exists() else ""


class _SilenceWatch(_NotPickled, tune.Callback):
    """Measures how long each trial has been silent, so that a process that ended itself after its time limit can be
    told from one that crashed, and one that failed to end is noticed.

    limit: seconds that an epoch may take.
    """

    def __init__(self, sweep: Sweep, limit: float):
        self._sweep, self.limit = sweep, limit
        self._last_report: dict[str, float] = {}  # time of each running trial's last report, or of its start
        self._last_event = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._sweep.started(_task(trial).trial_id)
        self.on_trial_result(iteration, trials, trial, None)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self._last_event = time.monotonic()
        if (trial_id := _task(trial).trial_id) in self._sweep.running:
            self._last_report[trial_id] = self._last_event
        else:
            self._last_report.pop(trial_id, None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._last_report.pop(_task(trial).trial_id, None)
        self._last_event = time.monotonic()

    on_trial_error = on_trial_complete

    def forget(self) -> None:
        """Note that no trial runs any more."""
        self._last_report.clear()
        self._last_event = time.monotonic()

    def late(self, trial_id: str) -> bool:
        """True if the trial has been silent for longer than an epoch may take."""
        return time.monotonic() - self._last_report.get(trial_id, time.monotonic()) > self.limit

    def check(self, others: bool) -> None:
        """Raise ClusterLost if a silent trial cannot be ended, or if no trial can be started though there are no
        `others`, sweeps that hold workers."""
        now = time.monotonic()
        self._last_event = now if others else self._last_event
        for trial_id, last in self._last_report.items():
            if now - last > self.limit + EXIT_GRACE:
                raise ClusterLost(f"trial {trial_id} has been silent for {now - last:.0f} s, and cannot be ended")
        if not self._last_report and self._sweep.running and now - self._last_event > START_TIMEOUT:
            raise ClusterLost(
                f"no trial could be started for {START_TIMEOUT:.0f} s: no node is left that has room for one"
            )


_TUNE_KEYS = {"trial_id", "training_iteration", "done", "node_ip", "pid"}  # of a result, which Tune itself reads


class _EachStep(_NotPickled, tune.Callback):
    """Tune callback that runs `tick` after every step of Tune's loop, and drops results that the sweep has stored."""

    def __init__(self, tick: Callable[[], None]):
        self._tick = tick

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        for name in set(result) - _TUNE_KEYS:  # Tune would average every number in it
            del result[name]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._tick()


def run(sweep: Sweep, context: TrialContext, tick: Callable[[], None], capacity: Capacity) -> None:
    """Run `sweep` to its end on the connected Ray cluster.

    tick: called after every step of Tune's loop, several times a second while anything happens.
    Raises whatever the sweep and `tick` raise, and ClusterLost if Ray fails.
    """
    guard, silence = _Guard(), _SilenceWatch(sweep, context.epoch_timeout_s)

    def look() -> None:
        guard.check()
        capacity.update()
        tick()

    def step_ended() -> None:
        silence.check(bool(capacity.others))
        look()

    losses = 0
    while not sweep.finished:
        look()
        while not capacity.bound:
            time.sleep(WAIT)
            look()
        silence.forget()
        epochs = sweep.progress.epochs
        loss = _round(sweep, context, step_ended, capacity, guard, silence)
        guard.check()
        if loss is not None and not _report_loss(sweep, loss):
            losses = losses + 1 if sweep.progress.epochs == epochs else 1
            if losses > MAX_LOSSES:
                raise ClusterLost(f"workers were lost {losses} times in a row: {_lines(loss)[0]}")
        for trial_id in list(sweep.running):
            sweep.hand_back(trial_id)


def _round(
    sweep: Sweep,
    context: TrialContext,
    step_ended: Callable[[], None],
    capacity: Capacity,
    guard: _Guard,
    silence: _SilenceWatch,
) -> RayError | None:
    """Run one experiment of Tune. Returns the error that ended it if a worker was lost in a way that Tune does not
    handle, else None."""
    resources = {"CPU": context.cpus} | ({"GPU": context.gpus} if context.gpus else {})
    proposals = _Proposals(sweep, guard, capacity)
    decisions = _Decisions(sweep, guard, silence, proposals, capacity)

    def each_step() -> None:
        step_ended()
        decisions.step_ended()

    with tempfile.TemporaryDirectory(prefix="resnetlab-tune-") as scratch, environment(TUNE_VARIABLES):
        tuner = tune.Tuner(
            tune.with_resources(TrialWorker, resources),
            param_space={"context": context},
            tune_config=tune.TuneConfig(
                search_alg=proposals,
                scheduler=decisions,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: _task(trial).trial_id,
                trial_dirname_creator=lambda trial: f"{_task(trial).trial_id}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=Path(scratch).name,
                storage_path=scratch,
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # else a notebook gets an empty table
                callbacks=[silence, _EachStep(each_step)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except _RoundOver:
            return None
        except Exception as error:
            cause = error.__cause__
            if isinstance(cause, (OutOfMemoryError, NodeDiedError)):
                return cause
            if not isinstance(error, (RayError, TuneError, ConnectionError)) and not isinstance(cause, RayError):
                raise
            traceback.print_exc()  # into the log
            raise ClusterLost(f"Ray failed: {_lines(error)[-1]}") from None
    return None


def _lines(error: Exception) -> list[str]:
    """The lines of an error's message, at least one."""
    return str(error).strip().splitlines() or [type(error).__name__]


def _report_loss(sweep: Sweep, loss: RayError) -> bool:
    """Tell the sweep which trials Ray's memory monitor killed; False if the error does not tell which."""
    killed = [trial_id for trial_id in killed_for_memory(str(loss)) if trial_id in sweep.running]
    for trial_id in killed:
        sweep.died(trial_id, OUT_OF_MEMORY, Status.OUT_OF_MEMORY)
    if not killed:
        sweep.notes.append(
            f"a worker was lost, of an unknown trial: all go on from their checkpoints ({_lines(loss)[0]})"
        )
    return bool(killed)
