"""Ray Tune as the engine of a Sweep: thin adapters from Tune's interfaces to `Sweep.next`, `report` and `ended`.

Tune keeps nothing that matters: its experiment lives in a temporary folder under a fresh name, and is never restored.
"""

from __future__ import annotations

import os
import tempfile
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
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_AIR_NEW_OUTPUT="0",
)

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from resnetlab.records import Status
from resnetlab.tuning.sweep import Sweep
from resnetlab.tuning.trial import TrialWorker

RETRIES = 3  # deaths of a trial's process in a row, without an epoch between them, before it is called failed


class _Kept:
    """Tune pickles what it is given beside its experiment; what stands for the sweep leaves nothing in that pickle."""

    def __reduce__(self) -> tuple[type, tuple]:
        return object, ()

    def __deepcopy__(self, memo: dict) -> Any:
        return self


class _Proposals(_Kept, Searcher):
    """Tune asks for configs; the sweep hands out tasks."""

    def __init__(self, sweep: Sweep):
        super().__init__()
        self._sweep = sweep

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        task = self._sweep.next()
        if task is not None:
            return {"task": task.as_message()}
        return Searcher.FINISHED if self._sweep.finished else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The sweep has heard of it through the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the results folder is the memory."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is continued from its results folder")


class _Decisions(_Kept, FIFOScheduler):
    """Tune reports results; the sweep records them and says whether the trial goes on."""

    def __init__(self, sweep: Sweep):
        super().__init__()
        self._sweep = sweep

    @property
    def supports_buffered_results(self) -> bool:
        return False

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        (report,) = result["report"]
        if report["epochs"]:
            trial.run_metadata.num_failures = 0  # nodes may come and go for as long as the trial gets on
        go_on = self._sweep.report(trial.config["task"]["trial_id"], report)
        return TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP


class _Round(_Kept, tune.Callback):
    """What happens in every round of Tune's loop, and when Tune gives a trial up.

    The scheduler's `on_trial_error` is called for deaths that Tune recovers from, too.
    """

    def __init__(self, sweep: Sweep, tick: Callable[[], None]):
        self._sweep, self._tick = sweep, tick

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        result.pop("report", None)  # recorded; Tune would keep the last one of each trial in memory

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = trial.get_error()
        text = str(error).strip().splitlines()[-1] if error else "its process died"
        memory = "OutOfMemory" in type(error).__name__ or "OutOfMemoryError" in str(error)
        status = Status.OUT_OF_MEMORY if memory else Status.FAILED
        self._sweep.ended(trial.config["task"]["trial_id"], status, text[:500])

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self._tick()


def run(sweep: Sweep, context: dict[str, Any], tick: Callable[[], None]) -> None:
    """Run `sweep` to its end on the connected Ray cluster.

    `tick` is called once a round, several times a second while anything happens.
    """
    resources = {"CPU": context["cpus"]} | ({"GPU": context["gpus"]} if context["gpus"] else {})
    with tempfile.TemporaryDirectory(prefix="resnetlab-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(TrialWorker, resources),
            param_space={"context": context},
            tune_config=tune.TuneConfig(
                search_alg=_Proposals(sweep),
                scheduler=_Decisions(sweep),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["task"]["trial_id"],
                trial_dirname_creator=lambda trial: trial.config["task"]["trial_id"],
            ),
            run_config=tune.RunConfig(
                name=Path(scratch).name,
                storage_path=scratch,
                verbose=0,
                callbacks=[_Round(sweep, tick)],
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
