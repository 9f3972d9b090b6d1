"""The worker's side of one trial: a class Trainable that lives through many trials, one epoch a step.

A worker process imports torch once, opens the data once, and is then handed one trial after another. Each step trains
one epoch, writes the trial's checkpoint (which carries its epoch history) to the results folder, and reports the epochs
that it has not reported yet. Endings that belong to the trial (a loss that is not a number, memory) are reported
as such; a process that dies, or that ends itself because an epoch takes too long, is Ray's to notice.
"""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray import tune

from resnetlab.errors import END_THE_SWEEP, BadData, OtherData, ResnetlabError
from resnetlab.ray_backend.preflight import check_here
from resnetlab.storage.layout import WEIGHTS
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.records import Status
from resnetlab.study.trial_config import DataConfig, TrialConfig
from resnetlab.sweep.crashes import LEAVES, begins
from resnetlab.vision.training.kept_weights import by_name, kept

if TYPE_CHECKING:
    from resnetlab.vision.training.loop import Training

Work = TypeVar("Work")
UNSETTLED = 3  # times in a row that an epoch is thrown away because the data cache changed under it
MOST_TRACEBACK = 20_000  # characters of it that are kept
CHECKPOINT_SHARE = 0.05  # of the time since the last one: what writing a checkpoint may cost at most


class TrialWorker(tune.Trainable):
    """config: {"task": Task.as_message(), "context": {"folder", "cache", "cpus", "gpus", "epoch_limit", "compile"}}."""

    def setup(self, config: dict[str, Any]) -> None:
        self._busy = self._leaving = False
        self._run: _Run | None = None
        self.reset_config(config)
        if self.is_actor():  # type: ignore[no-untyped-call]
            signal.signal(signal.SIGTERM, self._notice)

    def _notice(self, number: int, frame: Any) -> None:
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
        self._message = new_config
        self.config: dict[str, Any] = {}  # else every report would carry it
        return True

    def step(self) -> dict[str, Any]:
        self._busy = True
        task, context = self._message["task"], self._message["context"]
        # From a thread that needs no interpreter: what hangs is shown in the worker's log, and its process ends.
        faulthandler.dump_traceback_later(context["epoch_limit"], exit=True, file=2)
        run = self._run
        try:
            if run is None:
                os.write(2, f"{begins(task['trial_id'])}\n".encode())
            run = self._run = run or _Run(task, context)
            for _ in range(UNSETTLED):
                if (report := run.step()) is not None:
                    break
                run = self._run = _Run(task, context, altered=True)
            else:
                raise BadData(f"{context['cache']}: the data cache changes all the time")
        except Exception as error:
            report = {"epochs": [], "ending": _ending(error)}
            self._run = None
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._busy = False
        if self._leaving and self._run is not None:
            self._leave()  # what this step would have reported is reported from the checkpoint
        report["busy_seconds"] = run.busy_seconds if run is not None else 0.0
        return {"report": [report]}  # in a list, or Tune would flatten it


class _Run:
    """One trial in this process. busy_seconds: that its last step spent in an epoch and on the test split."""

    def __init__(self, task: dict[str, Any], context: dict[str, Any], altered: bool = False):
        from resnetlab.ray_backend.checkpoints import Checkpoints
        from resnetlab.vision.data import prepare

        began = time.perf_counter()
        self._task, self._context, self._altered, self.busy_seconds = task, context, altered, 0.0
        check_here(context.get("versions", {}))
        self._folder = ResultsFolder.at(context["folder"])
        config = TrialConfig.model_validate(task["config"])
        dataset = prepare(config.data, Path(context["cache"]))
        if dataset.hash != task["data_hash"]:
            where = f"{config.data.name}: node {platform.node()}"
            raise OtherData(
                f"{where} sees data {dataset.hash}, the sweep's is {task['data_hash']}: restore the data there"
            )
        self._dataset = dataset
        device = "cuda" if context["gpus"] > 0 else "cpu"
        threads = max(1, int(context["cpus"]))
        self._checkpoints = Checkpoints(self._folder, task["trial_id"])
        self._restarted = bool(self._checkpoints.states or self._checkpoints.problems or task["recorded"])
        self._training = self._trained(config, device, threads)
        self._reported = 0
        self._columns: dict[str, Any] = {
            "parameters": self._training.facts.parameters,
            "trainable": self._training.facts.trainable,
            "multiply_adds": self._training.facts.multiply_adds,
            "device": _device_name(device),
            "device_share": context["gpus"] if device == "cuda" else context["cpus"],
            "threads": threads,
            "weights_hash": self._training.weights_hash,
            "host": platform.node(),
            "setup_seconds": time.perf_counter() - began,
        }
        if note := self._note():
            self._columns["reason"] = note
        self._saved, self._written = self._training.epoch, time.perf_counter()
        self._writes = 0
        self._checkpoint_seconds = self._last_seconds = 0.0

    def _trained(self, config: TrialConfig, device: str, threads: int) -> Training:
        """As far as the newest checkpoint that can be used, else from the beginning."""
        from resnetlab.vision.training.checkpoint import CheckpointDamaged
        from resnetlab.vision.training.loop import Training

        weights, compile = self._weights(config), self._context.get("compile", False)
        for state in self._checkpoints.states:
            try:
                return Training(config, self._dataset, device, threads, state, weights, compile=compile)
            except CheckpointDamaged as error:
                self._checkpoints.problems.append(str(error))
        return Training(config, self._dataset, device, threads, None, weights, compile=compile)

    def _note(self) -> str:
        """What people must hear of how it went on."""
        epoch, recorded = self._training.epoch, self._task["recorded"]
        if self._altered:
            return f"went on from epoch {epoch}: the data cache was altered while it ran, and was made again"
        if not self._checkpoints.problems:
            lost = recorded and not epoch
            return f"began again: epochs up to {recorded} are recorded, but no checkpoint is there" if lost else ""
        how = f"went on from epoch {epoch}" if epoch else "began again"
        return f"{how}: a checkpoint could not be used ({'; '.join(self._checkpoints.problems)})"

    def _weights(self, config: TrialConfig) -> Any:
        """What this trial starts from: what the source task's trial left, or the file that was given."""
        kind, _, source = config.weights.partition(":")
        if kind == "file":
            return kept(self._folder, source)
        if held := self._context.get("contents", {}).get(by_name(config.model, config.weights)):
            return kept(self._folder, held)
        if kind != "trial":
            return None
        from resnetlab.vision.data import prepare
        from resnetlab.vision.models.pretrained import Weights
        from resnetlab.vision.training.transfer import check_source

        raw = self._folder.read(f"{WEIGHTS}/{source}.safetensors")
        if raw is None:
            raise BadData(
                f"{WEIGHTS}/{source}.safetensors: the weights of trial {source} are not in the results folder"
            )
        found = Weights.unpack(raw, f"trial {source}")
        if found.about.get("digest", found.digest) != found.digest:
            raise BadData(f"{self._folder.url}/{WEIGHTS}/{source}.safetensors: altered: its values are others")
        check_source(found, prepare(DataConfig(**self._task["source_data"]), Path(self._context["cache"])))
        return found

    def _keep(self) -> None:
        """Leave the stages for the trials that start from them."""
        from resnetlab.vision.training.transfer import backbone

        left = backbone(self._training.state(), self._training.config, self._dataset)
        left = replace(left, about=left.about | {"digest": left.digest})
        self._folder.write(f"{WEIGHTS}/{self._task['trial_id']}.safetensors", left.pack())

    def step(self) -> dict[str, Any] | None:
        """Train one epoch, or none where the checkpoint was complete, and report what is new.

        None where the data cache changed meanwhile: this run is then to be thrown away.
        """
        from resnetlab.vision.training import machine, prefix

        training, config = self._training, self._training.config
        self.busy_seconds = 0.0
        if training.epoch < config.epochs:
            self._timed(training.run_epoch)
            if not self._dataset.unchanged():
                prefix.forget()
                machine.forget()
                return None
            self._checkpoint(wanted=training.epoch == config.epochs or self._context.get("every_epoch", False))
        report = {
            "epochs": [record.as_row() for record in training.history[self._reported :]],
            "columns": self._columns | self._cost(),
            "restarted": self._restarted,
        }
        self._reported, self._columns, self._restarted = len(training.history), {}, False
        if training.epoch == config.epochs and self._task["keep"]:
            self._keep()
        if training.epoch == config.epochs and self._task["test"]:
            result = self._timed(training.test)
            report["test"] = {
                "accuracy": result.accuracy,
                "loss": result.loss,
                "predictions": result.predictions,
                "labels": result.labels,
                "image": result.image,
            }
        return report

    def _timed(self, work: Callable[[], Work]) -> Work:
        """Do what a slot is there for."""
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.busy_seconds += time.perf_counter() - began

    def _cost(self) -> dict[str, Any]:
        """Columns that grow, or are known only once an epoch was trained."""
        columns: dict[str, Any] = {
            "checkpoint_seconds": self._checkpoint_seconds,
            "settings": json.dumps(self._training.settings | {"checkpoints": self._writes}),
            "energy": self._training.energy,
        }
        if self._training.config.frozen and self._training.prefix_cached is not None:
            columns |= {
                "prefix_cached": self._training.prefix_cached,
                "prefix_seconds": self._training.prefix_seconds,
            }
        return columns

    def _checkpoint(self, wanted: bool) -> None:
        """Save, unless the last time was so recent that writing would cost more than its share."""
        mean = self._checkpoint_seconds / max(1, self._writes)
        cost = min(mean, self._last_seconds)  # one that took long, on a busy disk, is not what the next will cost
        if wanted or cost <= CHECKPOINT_SHARE * (time.perf_counter() - self._written):
            self.save()

    def save(self) -> None:
        """Write the state, where the newest checkpoint is older."""
        if self._training.epoch == self._saved:
            return
        began = time.perf_counter()
        self._checkpoints.save(self._training.state())
        self._saved, self._written = self._training.epoch, time.perf_counter()
        self._last_seconds = self._written - began
        self._checkpoint_seconds += self._last_seconds
        self._writes += 1


def _ending(error: Exception) -> dict[str, str]:
    """How a trial ends whose epoch raised `error`. Imports nothing: what failed may have been an import."""
    kind = type(error).__name__
    text = f"{kind}: {error}".splitlines()[0]
    if kind == "Diverged":
        return {"status": str(Status.DIVERGED), "reason": str(error)}
    if kind in END_THE_SWEEP:
        return {"status": str(Status.INTERRUPTED), "reason": str(error), "error": kind}
    told = {"traceback": "".join(traceback.format_exception(error))[-MOST_TRACEBACK:]}
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in text:
        return {"status": str(Status.OUT_OF_MEMORY), "reason": text} | told
    if isinstance(error, ResnetlabError):
        return {"status": str(Status.FAILED), "reason": str(error)} | told
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    traceback.print_exc()  # into the worker's log
    return {"status": str(Status.FAILED), "reason": text + where} | told


def _device_name(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
