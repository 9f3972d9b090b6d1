"""Ray Tune as the engine of a Sweep: thin adapters from Tune's interfaces to `Sweep.next`, `report` and `ended`.

Tune keeps nothing that matters: its experiment lives in a temporary folder under a fresh name, and is never restored.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read by Tune when it runs: no loggers of its own, no snapshots, no changes of directory, no signal handler.
os.environ.update(
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_STRICT_METRIC_CHECKING="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_GLOBAL_CHECKPOINT_S="1000000000",
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    TUNE_MAX_PENDING_TRIALS_PG="16",  # that are started at once; the sweep hands out no more than there is room for
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_AIR_NEW_OUTPUT="0",
)

from ray import tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from resnetlab.errors import ClusterLost
from resnetlab.experiment.messages import Task, TrialContext
from resnetlab.ray_backend import compat
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.ray_backend.worker import TrialWorker
from resnetlab.ray_backend.worker_death import cause_of_death
from resnetlab.study.records import Status
from resnetlab.sweep import crashes
from resnetlab.sweep.state_machine import Sweep

# Tune knows one error for the death of a trial's process. Where Ray's memory monitor ends it the error is another, for
# which Tune would end the whole sweep.
_controllers, _loop = compat.private(*compat.CONTROLLER), compat.private(*compat.LOOP)
_TuneController: Any = _controllers.TuneController
for module in (compat.private(*compat.ACTORS), _controllers):
    vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError, NodeDiedError)

KEPT = 64  # trials that are over and that Tune still knows
START = 600.0  # seconds in which a trial must start where none runs
DYING = 60.0  # seconds after its time limit in which a trial's process must have ended


class _Controller(_TuneController):  # type: ignore[misc]
    """Tune's loop without what grows with the number of trials: it forgets those that are over, and saves nothing but
    the empty snapshot at the end, without which `fit` fails."""

    _trials: list[Any]
    _live_trials: set[Any]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        compat.check(self, "ray.tune.execution.tune_controller.TuneController", *compat.OF_A_CONTROLLER)

    def _mark_trial_to_checkpoint(self, trial: Any) -> None:
        """Not for the snapshot."""

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        if force:
            super().checkpoint(force=force, wait=wait)

    def on_step_end(self) -> None:
        super().on_step_end()
        over = len(self._stopped_trials) + len(self._failed_trials)
        if over > KEPT and over > len(self._live_trials):
            self._trials = [trial for trial in self._trials if not trial.is_finished()]
            self._live_trials = {trial for trial in self._live_trials if not trial.is_finished()}
            self._stopped_trials.clear()
            self._failed_trials.clear()


vars(_loop)["TuneController"] = _Controller


class _Kept:
    """Tune pickles what it is given beside its experiment; what stands for the sweep leaves nothing in that pickle."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class _Guard:
    """Calls into the sweep. Tune would wrap what they raise; it is kept, and `check` raises it."""

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
    """Tune asks for configs; the sweep hands out tasks: one more than there is room for, so that no worker waits."""

    def __init__(self, sweep: Sweep, guard: _Guard, capacity: Capacity):
        super().__init__()
        self._sweep, self._guard, self._capacity = sweep, guard, capacity

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Task] | str | None:  # type: ignore[override]
        full = len(self._sweep.running) > self._capacity.slots
        task = None if full else self._guard(self._sweep.next)
        if task is not None:
            return {"task": task}
        return Searcher.FINISHED if self._sweep.finished else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The sweep has heard of it through the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the results folder is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is continued from its results folder")


class _Decisions(_Kept, FIFOScheduler):
    """Tune reports results; the sweep records them and says whether the trial goes on."""

    def __init__(self, sweep: Sweep, guard: _Guard, silence: _SilenceWatch):
        super().__init__()  # type: ignore[no-untyped-call]
        self._sweep, self._guard, self._silence = sweep, guard, silence

    @property
    def supports_buffered_results(self) -> bool:
        return False

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        go_on = self._guard(self._sweep.report, _task(trial).trial_id, result["report"])
        return TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Its process is gone. Tune retries nothing: the sweep hands the trial out again, from its checkpoint."""
        trial_id, error = _task(trial).trial_id, _cause(trial)
        if "low on memory" in error:
            self._guard(self._sweep.died, trial_id, "the node ran out of memory", Status.OUT_OF_MEMORY)
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
    """What Tune wrote down of a trial's failure. `trial.get_error` looks for it where it is copied only later."""
    file = trial.error_file and Path(trial.error_file)
    return file.read_text(encoding="utf-8", errors="replace") if file and file.exists() else ""


class _SilenceWatch(_Kept, tune.Callback):
    """How long trials have said nothing. Their processes end themselves; here it is known why, and that they do."""

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

    def late(self, trial_id: str) -> bool:
        return time.monotonic() - self._heard.get(trial_id, time.monotonic()) > self.limit

    def check(self) -> None:
        """Raise ClusterLost where nothing will happen any more."""
        now = time.monotonic()
        for trial_id, heard in self._heard.items():
            if now - heard > self.limit + DYING:
                raise ClusterLost(f"trial {trial_id} has been silent for {now - heard:.0f} s, and cannot be ended")
        if not self._heard and self._sweep.running and now - self._any > START:
            raise ClusterLost(f"no trial could be started for {START:.0f} s: no node is left that has room for one")


_NEEDED = {"trial_id", "training_iteration", "done", "node_ip", "pid"}  # of a result, by Tune itself


class _Round(_Kept, tune.Callback):
    """What happens in every round of Tune's loop."""

    def __init__(self, tick: Callable[[], None]):
        self._tick = tick

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        for name in set(result) - _NEEDED:  # recorded; Tune would work out means of every number in it
            del result[name]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._tick()


def run(sweep: Sweep, context: TrialContext, tick: Callable[[], None], capacity: Capacity) -> None:
    """Run `sweep` to its end on the connected Ray cluster.

    `tick` is called once a round, several times a second while anything happens.
    """
    resources = {"CPU": context.cpus} | ({"GPU": context.gpus} if context.gpus else {})
    guard, silence = _Guard(), _SilenceWatch(sweep, context.epoch_limit)

    def round_ended() -> None:
        guard.check()
        silence.check()
        capacity.update()
        tick()

    with tempfile.TemporaryDirectory(prefix="resnetlab-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(TrialWorker, resources),
            param_space={"context": context},
            tune_config=tune.TuneConfig(
                search_alg=_Proposals(sweep, guard, capacity),
                scheduler=_Decisions(sweep, guard, silence),
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
                callbacks=[silence, _Round(round_ended)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            if not isinstance(error, (RayError, TuneError, ConnectionError)) and not isinstance(
                error.__cause__, RayError
            ):
                raise
            traceback.print_exc()  # into the log
            cause = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ClusterLost(f"Ray failed: {cause}") from None
    guard.check()
