"""Runs a Sweep on Ray Tune: thin adapters from Tune's interfaces to `Sweep.next`, `report` and `ended`.

Tune stores nothing that is needed later. It runs in rounds, each a new experiment in a temporary folder that is never
restored. What Tune does in one step of its loop grows with the number of trials that the experiment has seen, so a
round ends after a bounded number of them. Trials that still train are then stopped at their next report and handed out
again in the next round, where they go on from their checkpoints.
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

# Tune reads these when it runs: no loggers of its own, no snapshots, no changes of directory, no signal handler.
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",  # started at once; the sweep hands out no more than there is room for
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
ROUND, PER_SLOT = 1000, 16  # trials of a round: at least, and for each trial that fits at once
LOSSES = 3  # rounds in a row without a new epoch that may end with a lost worker whose trial is not known
START = 600.0  # seconds in which a trial must start where none runs
OUT_OF_MEMORY = "the node ran out of memory"
DYING = 60.0  # seconds after its time limit in which a trial's process must have ended


class _Kept:
    """Base class of the adapters. Tune pickles the objects it is given; these pickle to an empty object."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class _Guard:
    """Calls the sweep on Tune's behalf. Tune would wrap its exceptions, so the first one is stored and `check` raises
    it."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What `call` returns; None after an error."""
        if self._error is None:
            try:
                return call(*arguments)
            except Exception as error:
                self._error = error
        return None

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class _Proposals(_Kept, Searcher):
    """Tune's search algorithm: asks the sweep for tasks, one more than there are free slots, so that no worker waits.

    closed: whether the round is over, because it had its number of tasks and another one waits.
    """

    def __init__(self, sweep: Sweep, guard: _Guard, capacity: Capacity):
        super().__init__()
        self._sweep, self._guard, self._capacity = sweep, guard, capacity
        self._left, self.closed = max(ROUND, PER_SLOT * capacity.slots), False

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Task] | str | None:  # type: ignore[override]
        full = len(self._sweep.running) > self._capacity.slots
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
        """Nothing to do: the scheduler has told the sweep."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the results folder is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is continued from its results folder")


class _Decisions(_Kept, FIFOScheduler):
    """Tune's scheduler: passes results to the sweep, which decides whether the trial continues."""

    def __init__(self, sweep: Sweep, guard: _Guard, silence: _SilenceWatch, proposals: _Proposals):
        super().__init__()  # type: ignore[no-untyped-call]
        self._sweep, self._guard, self._silence, self._proposals = sweep, guard, silence, proposals

    @property
    def supports_buffered_results(self) -> bool:
        return False

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = _task(trial).trial_id
        go_on = self._guard(self._sweep.report, trial_id, result["report"])
        if go_on and self._proposals.closed:
            self._guard(self._sweep.hand_back, trial_id)
            go_on = False
        return TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Its process is gone. Tune retries nothing: the sweep hands the trial out again, from its checkpoint."""
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
            self._guard(self._sweep.died, trial_id, (error.strip().splitlines() or ["no cause given"])[-1][:300])


def _task(trial: Any) -> Task:
    """The sweep's task that a trial of Tune runs."""
    task: Task = trial.config["task"]
    return task


def _cause(trial: Any) -> str:
    """The text of a trial's failure as Tune stored it. `trial.get_error` would look in a place to which it is copied
    later."""
    file = trial.error_file and Path(trial.error_file)
    return file.read_text(encoding="utf-8", errors="replace") if file and file.exists() else ""


class _SilenceWatch(_Kept, tune.Callback):
    """Measures for how long each trial has not reported. A trial's process ends itself after its time limit; this class
    tells why it ended, and notices if it does not."""

    def __init__(self, sweep: Sweep, limit: float):
        self._sweep, self.limit = sweep, limit
        self._heard: dict[str, float] = {}  # trials that run, and when they last spoke
        self._any = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._sweep.started(_task(trial).trial_id)
        self.on_trial_result(iteration, trials, trial, None)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self._any = self._heard[_task(trial).trial_id] = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard.pop(_task(trial).trial_id, None)
        self._any = time.monotonic()

    on_trial_error = on_trial_complete

    def forget(self) -> None:
        """No trial runs any more."""
        self._heard.clear()
        self._any = time.monotonic()

    def late(self, trial_id: str) -> bool:
        return time.monotonic() - self._heard.get(trial_id, time.monotonic()) > self.limit

    def check(self) -> None:
        """Raise ClusterLost if a silent trial cannot be ended, or if no trial can be started."""
        now = time.monotonic()
        for trial_id, heard in self._heard.items():
            if now - heard > self.limit + DYING:
                raise ClusterLost(f"trial {trial_id} has been silent for {now - heard:.0f} s, and cannot be ended")
        if not self._heard and self._sweep.running and now - self._any > START:
            raise ClusterLost(f"no trial could be started for {START:.0f} s: no node is left that has room for one")


_NEEDED = {"trial_id", "training_iteration", "done", "node_ip", "pid"}  # of a result, by Tune itself


class _EachStep(_Kept, tune.Callback):
    """Tune's callback: runs `tick` after every step of Tune's loop."""

    def __init__(self, tick: Callable[[], None]):
        self._tick = tick

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        for name in set(result) - _NEEDED:  # recorded; Tune would work out means of every number in it
            del result[name]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._tick()


def run(sweep: Sweep, context: TrialContext, tick: Callable[[], None], capacity: Capacity) -> None:
    """Run `sweep` to its end on the connected Ray cluster.

    `tick` is called in every step of Tune's loop, several times a second while anything happens. Raises what the sweep
    and `tick` raise, and ClusterLost where Ray fails.
    """
    guard, silence = _Guard(), _SilenceWatch(sweep, context.epoch_timeout_s)

    def step_ended() -> None:
        guard.check()
        silence.check()
        capacity.update()
        tick()

    losses = 0
    while not sweep.finished:
        epochs = sweep.progress.epochs
        lost = _round(sweep, context, step_ended, capacity, guard, silence)
        guard.check()
        silence.forget()
        if lost is not None and not _known(sweep, lost):
            losses = losses + 1 if sweep.progress.epochs == epochs else 1
            if losses > LOSSES:
                raise ClusterLost(f"workers were lost {losses} times in a row: {_first_line(lost)}")
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
    """One experiment of Tune. Returns the error that ended it, if a worker was lost in a way that Tune does not handle;
    else None."""
    resources = {"CPU": context.cpus} | ({"GPU": context.gpus} if context.gpus else {})
    proposals = _Proposals(sweep, guard, capacity)
    with tempfile.TemporaryDirectory(prefix="resnetlab-tune-") as scratch, environment(SETTINGS):
        tuner = tune.Tuner(
            tune.with_resources(TrialWorker, resources),
            param_space={"context": context},
            tune_config=tune.TuneConfig(
                search_alg=proposals,
                scheduler=_Decisions(sweep, guard, silence, proposals),
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
                callbacks=[silence, _EachStep(step_ended)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            cause = error.__cause__
            if isinstance(cause, (OutOfMemoryError, NodeDiedError)):
                return cause
            if not isinstance(error, (RayError, TuneError, ConnectionError)) and not isinstance(cause, RayError):
                raise
            traceback.print_exc()  # into the log
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ClusterLost(f"Ray failed: {last}") from None
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _known(sweep: Sweep, lost: RayError) -> bool:
    """Tell the sweep which trials Ray's memory monitor killed; False if the error does not say which."""
    killed = [trial_id for trial_id in killed_for_memory(str(lost)) if trial_id in sweep.running]
    for trial_id in killed:
        sweep.died(trial_id, OUT_OF_MEMORY, Status.OUT_OF_MEMORY)
    if not killed:
        why = _first_line(lost)
        sweep.notes.append(f"a worker was lost, of an unknown trial: all go on from their checkpoints ({why})")
    return bool(killed)
