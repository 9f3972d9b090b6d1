"""One trial in this process, step by step, from its newest checkpoint on. Knows nothing of who hands trials out."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from resnetlab.errors import BadData, OtherData
from resnetlab.experiment.messages import Cell, Report, Task, TrialContext
from resnetlab.experiment.own_parts import scores
from resnetlab.storage.layout import WEIGHTS
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.records import TestResult
from resnetlab.study.trial_config import TrialConfig, of_images
from resnetlab.vision.data import prepare
from resnetlab.vision.models.pretrained import Weights
from resnetlab.vision.own_files import unpacked
from resnetlab.vision.training import accelerator, machine, prefix
from resnetlab.vision.training.checkpoint import CheckpointDamaged
from resnetlab.vision.training.kept_weights import by_name, kept
from resnetlab.vision.training.loop import Training
from resnetlab.vision.training.transfer import backbone, check_source
from resnetlab.vision.trial_checkpoints import TrialCheckpoints, kept_state

Work = TypeVar("Work")
CHECKPOINT_SHARE = 0.05  # of the time since the last one: what writing a checkpoint may cost at most


class TrialRun:
    """The training of one task. busy_seconds: that its last step spent in epochs and on the test split.

    altered: the data cache changed under an earlier run of the task in this process. Raises OtherData where the data
    here is not the sweep's, BadData where what the trial starts from is missing or damaged.
    """

    def __init__(self, task: Task, context: TrialContext, altered: bool = False):
        began = time.perf_counter()
        self._task, self._context, self._altered, self.busy_seconds = task, context, altered, 0.0
        accelerator.check_usable(context.device)
        self._folder = ResultsFolder.at(context.folder)
        config = of_images(task.config)
        dataset = prepare(config.data, context.cache)
        if dataset.hash != task.data_hash:
            where = f"{config.data.name}: node {platform.node()}"
            raise OtherData(
                f"{where} sees data {dataset.hash}, the sweep's is {task.data_hash}: restore the data there"
            )
        self._dataset = dataset
        self._checkpoints = TrialCheckpoints(self._folder, task.trial_id, task.stays, context.code)
        self._again = bool(self._checkpoints.states or self._checkpoints.problems or task.recorded)
        self._restarted = self._again  # until that is reported
        self._before = 0  # epochs that the same trial of a shorter budget trained, where it began from there
        self._training = self._trained(config)
        self._reported, self._resumed = 0, self.epoch
        self._columns: dict[str, Cell] = {
            "parameters": self._training.facts.parameters,
            "trainable": self._training.facts.trainable,
            "multiply_adds": self._training.facts.multiply_adds,
            "device": _device_name(context.device),
            "device_share": context.cpus if context.device == "cpu" else context.gpus,
            "threads": context.threads,
            "weights_hash": self._training.weights_hash,
            "host": platform.node(),
            "setup_seconds": time.perf_counter() - began,
        }
        self._note = self._how_it_went_on()
        self._saved, self._written = self._training.epoch, time.perf_counter()
        self._writes = 0
        self._checkpoint_seconds = self._last_seconds = 0.0

    def _trained(self, config: TrialConfig) -> Training:
        """As far as the newest checkpoint that can be used, else from the beginning."""
        device, threads, compile = self._context.device, self._context.threads, self._context.compile
        weights, code = self._weights(config), unpacked(self._folder, self._context)
        how: Any = {"compile": compile, "code": code, "scores": scores(self._context.metrics, code)}
        how["confirmed"] = self._context.confirmed
        how["last_epochs"] = self._context.last_epochs if self._task.test else 1
        for state in self._checkpoints.states:
            try:
                return Training(config, self._dataset, device, threads, state, weights, **how)
            except CheckpointDamaged as error:
                self._checkpoints.problems.append(str(error))
        if self._task.shorter:
            try:
                state = kept_state(self._folder, self._task.shorter, config.epochs, self._context.code)
                mine = state | {"trial_id": config.trial_id}
                training = Training(config, self._dataset, device, threads, mine, weights, **how)
                self._before = training.epoch
                return training
            except CheckpointDamaged as error:
                self._checkpoints.problems.append(str(error))
        return Training(config, self._dataset, device, threads, None, weights, **how)

    def _how_it_went_on(self) -> str:
        """What people must hear of it; empty where there is nothing to say."""
        epoch, recorded = self._training.epoch, self._task.recorded
        if self._altered:
            return f"went on from epoch {epoch}: the data cache was altered while it ran, and was made again"
        if not self._checkpoints.problems:
            if self._before and not recorded:
                return f"went on from epoch {epoch} of trial {self._task.shorter}, whose checkpoint was kept"
            lost = recorded and not epoch
            return f"began again: epochs up to {recorded} are recorded, but no checkpoint is there" if lost else ""
        how = f"went on from epoch {epoch}" if epoch else "began again"
        return f"{how}: a checkpoint could not be used ({'; '.join(self._checkpoints.problems)})"

    def _weights(self, config: TrialConfig) -> Weights | None:
        """What this trial starts from: what the source task's trial left, or the file that was given."""
        kind, _, source = config.weights.partition(":")
        if kind == "file":
            return kept(self._folder, source)
        if held := self._context.contents.get(by_name(config.model, config.weights)):
            return kept(self._folder, held)
        if kind != "trial":
            return None
        raw = self._folder.read(f"{WEIGHTS}/{source}.safetensors")
        if raw is None:
            raise BadData(
                f"{WEIGHTS}/{source}.safetensors: the weights of trial {source} are not in the results folder"
            )
        found = Weights.unpack(raw, f"trial {source}")
        if found.about.get("digest", found.digest) != found.digest:
            raise BadData(f"{self._folder.url}/{WEIGHTS}/{source}.safetensors: altered: its values are others")
        assert self._task.source_data is not None, "a task that starts from another trial names its data"
        check_source(found, prepare(self._task.source_data, self._context.cache))
        return found

    def _keep(self) -> None:
        """Leave the stages for the trials that start from them."""
        left = backbone(self._training.state(), self._training.config, self._dataset)
        left = replace(left, about=left.about | {"digest": left.digest})
        self._folder.write(f"{WEIGHTS}/{self._task.trial_id}.safetensors", left.pack())

    def step(self) -> Report | None:
        """Train one epoch, several where they are short, none where the checkpoint was complete, and report what is
        new. Epochs that it begins with and that are not recorded are reported before any is trained: the sweep may stop
        it at one of them. A trial that goes on after a loss reports each epoch, so that where it dies again is known.

        None where the data cache changed meanwhile: this run is then to be thrown away.
        """
        training, config = self._training, self._training.config
        self.busy_seconds, began = 0.0, time.perf_counter()
        goes_on = self._reported > 0 or training.epoch <= self._task.recorded
        while goes_on and training.epoch < config.epochs:
            self._timed(training.run_epoch)
            if not self._dataset.unchanged():
                prefix.forget()
                machine.forget()
                return None
            last = training.epoch == config.epochs or training.epoch in self._task.saves
            self._checkpoint(wanted=last or self._context.every_epoch)
            soon = time.perf_counter() - began < self._context.reports_after
            goes_on = soon and not self._again and training.epoch not in self._task.decided
        test: TestResult | None = None
        if training.epoch == config.epochs and self._task.keep:
            self._keep()
        if training.epoch == config.epochs and self._task.test:
            test = self._timed(training.test)
        return replace(self.news(), test=test)

    def news(self) -> Report:
        epochs = tuple(self._training.history[self._reported :])
        columns, note, restarted = self._columns | self._cost(), self._note, self._restarted
        self._reported, self._columns, self._note, self._restarted = self.epoch, {}, "", False
        spent, before = self.busy_seconds, self._before
        return Report(epochs, columns, note, restarted, spent, before=before, resumed=self._resumed)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._training.epoch

    def _timed(self, work: Callable[[], Work]) -> Work:
        """Do what a slot is there for."""
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.busy_seconds += time.perf_counter() - began

    def _code(self) -> dict[str, str]:
        """Which version of the study's own code ran, by its hash."""
        return {"code": self._context.code} if self._context.code else {}

    def _cost(self) -> dict[str, Cell]:
        """Columns that grow, or are known only once an epoch was trained."""
        columns: dict[str, Cell] = {
            "checkpoint_seconds": self._checkpoint_seconds,
            "settings": json.dumps(self._training.settings | {"checkpoints": self._writes} | self._code()),
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
        last = self._task.stays and self._training.epoch == self._training.config.epochs
        (self._checkpoints.keep if last else self._checkpoints.save)(self._training.state())
        self._saved, self._written = self._training.epoch, time.perf_counter()
        self._last_seconds = self._written - began
        self._checkpoint_seconds += self._last_seconds
        self._writes += 1


def _device_name(device: str) -> str:
    if device != "cpu":
        return accelerator.device_name(torch.device(device))
    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
