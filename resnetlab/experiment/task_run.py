"""One trial of a study's own task, an epoch or a few short ones a step. Imports neither torch nor what the task needs.

A task that is a generator has no state that could be kept: after a kill it is run from the beginning, and what it
yields for epochs that are recorded already is not recorded again. An object with `state` and `load` goes on from its
checkpoint.
"""

from __future__ import annotations

import inspect
import json
import math
import numbers
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from resnetlab.errors import BadRequest
from resnetlab.experiment.messages import Cell, Report, Task, TrialContext
from resnetlab.experiment.own_parts import OwnParts
from resnetlab.study.numbers import TEST
from resnetlab.study.records import ItemPredictions, TaskEpoch, TaskTest
from resnetlab.study.seeding import stream
from resnetlab.wording import plural

CHECKPOINT_SHARE = 0.05  # of the time since the last one: what writing a checkpoint may cost at most
SEEDS = 2**32  # NumPy's and scikit-learn's are below


ITEMS = "predictions"  # key of what a task took each item of the test split for
MOST_CLASSES = 100_000


class Diverged(Exception):
    """A task gave a number that is not finite."""


class Checkpoints(Protocol):
    """Of one trial. states: newest first, as `save` was given them. problems: what is wrong with the others."""

    states: Sequence[Mapping[str, Any]]
    problems: list[str]

    def save(self, state: Mapping[str, Any]) -> None:
        """Write over the older one. BadRequest for a state that cannot be kept."""
        ...


@dataclass(frozen=True)
class TaskTrial:
    """What the task is told: `protocol.Trial`."""

    root: int
    split_seed: int
    epochs: int
    device: str
    threads: int
    may_test: bool
    place: Path

    def seed(self, purpose: str) -> int:
        """A seed below 2**32, of its own for each purpose; equal for equal trials."""
        return stream(self.root, purpose) % SEEDS

    @property
    def folder(self) -> Path:
        """For the task's data, on this machine; kept, and shared by the trials that run the same code."""
        self.place.mkdir(parents=True, exist_ok=True)
        return self.place


def as_iterator(task: Any) -> Iterator[Any]:
    """What an object gives for one epoch after another; a generator is that already."""
    while True:
        yield task.epoch()


class TaskRun:
    """busy_seconds: that its last step spent in the task. code: folder of the study's files. checkpoints: opened only
    for a task that can go on from one. before: called once the task's code is imported, with the number of threads."""

    def __init__(
        self,
        task: Task,
        context: TrialContext,
        code: Path | None,
        checkpoints: Callable[[], Checkpoints | None],
        before: Callable[[int], None] = lambda threads: None,
    ):
        began = time.perf_counter()
        self._task, self._context, self.busy_seconds = task, context, 0.0
        config = task.config
        bound = OwnParts(config, code).one("experiment")
        assert bound is not None, "a trial without a task of its own"
        bound.reference.load()
        before(context.threads)
        self._name, self._epochs = bound.part.text, config.epochs
        trial = TaskTrial(
            root=config.seed,
            split_seed=config.split_seed % SEEDS,
            epochs=config.epochs,
            device=context.device,
            threads=context.threads,
            may_test=task.test,
            place=context.task_data,
        )
        self._object = bound.first(trial=trial)
        self._whole = not hasattr(self._object, "epoch")  # a generator
        self._iterator: Iterator[Any] = self._object if self._whole else as_iterator(self._object)
        self.history: list[TaskEpoch] = []
        self._checkpoints = None if self._whole else self._restored(checkpoints)
        self._reported, self._resumed, self._writes = 0, self.epoch, 0
        self._again = bool(self.history or task.recorded)
        self._restarted = self._again  # until that is reported
        self._saved, self._written = self.epoch, time.perf_counter()
        self._checkpoint_seconds = self._last_seconds = 0.0
        device = f"cpu ({platform.machine()}, {os.cpu_count()} cores)" if context.device == "cpu" else context.device
        self._columns: dict[str, Cell] = {
            "device": device,
            "device_share": context.cpus if context.device == "cpu" else context.gpus,
            "threads": context.threads,
            "host": platform.node(),
            "setup_seconds": time.perf_counter() - began,
        }

    def _restored(self, open_checkpoints: Callable[[], Checkpoints | None]) -> Checkpoints | None:
        """The checkpoints of an object that can use them, after it has taken the newest."""
        if not all(callable(getattr(self._object, name, None)) for name in ("state", "load")):
            return None
        found = open_checkpoints()
        if found is not None and found.states:
            newest = found.states[0]
            self._object.load(newest["task"])
            self.history = [TaskEpoch(**epoch) for epoch in newest["history"]]
        return found

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def resumes(self) -> bool:
        """Whether it goes on from checkpoints, as an object with `state` and `load` does."""
        return self._checkpoints is not None

    @property
    def ended(self) -> bool:
        """Whether all epochs are done and the task has nothing more to yield."""
        whole = self._whole and inspect.getgeneratorstate(self._iterator) == inspect.GEN_CLOSED  # type: ignore[arg-type]
        return self.epoch == self._epochs and (whole or not self._whole)

    def step(self) -> Report:
        """Run one epoch, several where they are short, none where the checkpoint has epochs that are not recorded or is
        complete; report what is new. Where it goes on after a loss, each new epoch has a report of its own, so that
        where it dies again is known."""
        self.busy_seconds, began = 0.0, time.perf_counter()
        goes_on = self._reported > 0 or self.epoch <= self._task.recorded
        while goes_on and self.epoch < self._epochs:
            self._run_epoch()
            last = self.epoch == self._epochs or self.epoch in self._task.saves
            self._checkpoint(wanted=last or self._context.every_epoch)
            soon = time.perf_counter() - began < self._context.reports_after
            known = not self._again or self.epoch < self._task.recorded
            goes_on = soon and known and self.epoch not in self._task.decided
        done = self.epoch == self._epochs
        test = self._tested() if done and self._task.test else None
        if done and self._whole:
            self._iterator.close()  # type: ignore[attr-defined]
        return replace(self.news(), test=test)

    def news(self) -> Report:
        note = ""
        if self._checkpoints is not None and self._checkpoints.problems:
            how = f"went on from epoch {self._reported}" if self._reported else "began again"
            note, self._checkpoints.problems = f"{how}: {'; '.join(self._checkpoints.problems)}", []
        epochs, restarted = tuple(self.history[self._reported :]), self._restarted
        how_it_ran = {"checkpoints": self._writes} | ({"code": self._context.code} if self._context.code else {})
        columns = self._columns | {
            "checkpoint_seconds": self._checkpoint_seconds,
            "settings": json.dumps(how_it_ran),
        }
        self._reported, self._columns, self._restarted = self.epoch, {}, False
        return Report(epochs, columns, note, restarted, self.busy_seconds, resumed=self._resumed)

    def _run_epoch(self) -> None:
        at, began = f"epoch {self.epoch + 1}", time.perf_counter()
        try:
            found = next(self._iterator)
        except StopIteration:
            many = f"ended after {plural(self.epoch, 'epoch')}" if self.epoch else "yielded nothing"
            raise self._wrong(at, f"{many} (allowed: one yield for each of trial.epochs = {self._epochs})") from None
        finally:
            self.busy_seconds += time.perf_counter() - began
        wanted = [name for name in self._context.numbers if not name.startswith(TEST)]
        values = self._checked(found, wanted, at, "yielded" if self._whole else "epoch() returned")
        self.history.append(TaskEpoch(self.epoch + 1, time.perf_counter() - began, values))

    def _tested(self) -> TaskTest:
        """What the task gives at its end."""
        began = time.perf_counter()
        try:
            found = self._last() if self._whole else self._object.test()
        finally:
            self.busy_seconds += time.perf_counter() - began
        wanted = [name for name in self._context.numbers if name.startswith(TEST)]
        items = None
        if isinstance(found, Mapping) and ITEMS in found:
            found = dict(found)
            try:
                items = item_predictions(found.pop(ITEMS))
            except ValueError as error:
                raise self._wrong("on the test split", f"{ITEMS}: {error}") from None
        said = "returned" if self._whole else "test() returned"
        return TaskTest(self._checked(found, wanted, "on the test split", said), items)

    def _last(self) -> Any:
        """What the generator returns."""
        try:
            next(self._iterator)
        except StopIteration as end:
            return end.value
        rule = f"yielded more than trial.epochs = {self._epochs} times (allowed: return after the last epoch)"
        raise self._wrong("on the test split", rule)

    def _checked(self, found: Any, wanted: Sequence[str], at: str, did: str) -> dict[str, float]:
        """The numbers by name, where they are those that were declared. Diverged where one is not finite."""
        if not isinstance(found, Mapping):
            shown = f" ({found!r})" if isinstance(found, str | int | float | None) else ""
            allowed = f"a mapping of names to numbers: {', '.join(wanted)}"
            raise self._wrong(at, f"{did} {type(found).__name__}{shown} (allowed: {allowed})")
        for name in wanted:
            if name not in found:
                got = ", ".join(map(str, found)) or "nothing"
                raise self._wrong(at, f"{did} no {name!r}, which METRICS declares (got: {got})")
        values = {}
        for name, value in found.items():
            if name not in wanted:
                rule = f"which METRICS does not declare (allowed here: {', '.join(wanted)})"
                raise self._wrong(at, f"{did} {name!r}, {rule}")
            number = value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
            if not isinstance(number, numbers.Real):
                raise self._wrong(at, f"{name}: need a number, got {type(value).__name__} ({value!r})")
            if not math.isfinite(number):
                raise Diverged(f"{at}: {name} is {float(number)}")
            values[name] = float(number)
        return values

    def _wrong(self, at: str, rule: str) -> BadRequest:
        return BadRequest(f"experiment: {self._name}: {at}: {rule}")

    def _checkpoint(self, wanted: bool) -> None:
        """Save, unless the last time was so recent that writing would cost more than its share."""
        mean = self._checkpoint_seconds / max(1, self._writes)
        cost = min(mean, self._last_seconds)
        if wanted or cost <= CHECKPOINT_SHARE * (time.perf_counter() - self._written):
            self.save()

    def save(self) -> None:
        """Write the state of an object that has one, where the newest checkpoint is older."""
        if self._checkpoints is None or self.epoch == self._saved:
            return
        began = time.perf_counter()
        rows = [{"epoch": e.epoch, "train_seconds": e.train_seconds, "metrics": dict(e.metrics)} for e in self.history]
        self._checkpoints.save({"history": rows, "task": self._object.state()})
        self._saved, self._written = self.epoch, time.perf_counter()
        self._last_seconds = self._written - began
        self._checkpoint_seconds += self._last_seconds
        self._writes += 1


def item_predictions(given: Any) -> ItemPredictions:
    """What a task hands over beside its numbers: `labels` and `predicted`, (N,) integers from 0; `items`, (N,) integers
    that name the items, by default their places; `classes`, names. ValueError, in words, where it is not that."""
    like = "allowed: a mapping of labels and predicted, and of items and classes where they are known"
    if not isinstance(given, Mapping) or not {"labels", "predicted"} <= set(given):
        got = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"got {got} ({like})")
    if unknown := set(given) - {"labels", "predicted", "items", "classes"}:
        raise ValueError(f"got {min(map(str, unknown))!r} ({like})")
    labels, predicted = (_integers(name, given[name]) for name in ("labels", "predicted"))
    items = _integers("items", given.get("items", np.arange(len(labels))))
    if not len(labels) == len(predicted) == len(items):
        many = f"{len(labels)} labels, {len(predicted)} predicted and {len(items)} items"
        raise ValueError(f"{many} (allowed: equally many)")
    if len(np.unique(items)) < len(items):
        raise ValueError("items: one number stands for two items (allowed: each once)")
    most = int(max(labels.max(), predicted.max())) + 1
    names = tuple(map(str, given.get("classes", range(most))))
    if not 2 <= max(most, len(names)) <= MOST_CLASSES or most > len(names) or len(set(names)) < len(names):
        raise ValueError(f"{most} classes with {len(names)} names (allowed: 2 or more classes, a name for each)")
    return ItemPredictions(predicted, labels, items, names)


def _integers(name: str, given: Any) -> np.ndarray:
    """(N,) int64 from 0."""
    found = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu" or found.min() < 0:
        raise ValueError(f"{name}: got {found.dtype} of shape {found.shape} (allowed: integers from 0, (N,))")
    return found.astype(np.int64)
