"""A world with known answers: learning curves with planted effects, to try the whole chain on truth.

`Truth` says what every config would reach; `run` plays one trial, `confirm_values` many repeats of a confirm stage at
once, and `drive` a whole sweep through the real state machine (`Sweep`), arrivals out of order, so that
plan, effects and report see the tables they would see in earnest. Nothing is trained. Truth is in percentage points;
what it emits is in fractions, as the tables are.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from resnetlab.experiment.messages import Ending, Report, Task
from resnetlab.storage.schema import KEYS, schema
from resnetlab.study.records import EpochRecord, Phase, Status, TestResult
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import of_images

if TYPE_CHECKING:
    from resnetlab.sweep.state_machine import Sweep

Levels = Mapping[str, Mapping[Any, float]]
_RISE = 4.0  # a run is (1 - exp(-4 e/E)) / (1 - exp(-4)) of the way from chance to its plateau after e of E epochs
_TEST_IMAGES = 2000


@dataclass(frozen=True)
class Truth:
    """What the simulated networks would do, in percentage points of accuracy at the full budget.

    Levels that are not named do nothing: null factors need no entry.
    """

    base: float = 80.0
    chance: float = 10.0
    main: Levels = field(default_factory=dict)  # factor: {level: points}
    together: Sequence[tuple[Mapping[str, Any], float]] = ()  # points where all of these levels meet
    lag: Levels = field(default_factory=dict)  # points behind after one epoch, made good at the full budget
    tuned: Sequence[
        tuple[Mapping[str, Any], str, float, float]
    ] = ()  # under these levels: factor, best, points/decade²
    sd: float = 0.74  # between seeds
    spread: Levels = field(default_factory=dict)  # factor: {level: multiplies sd}
    shared: float = 0.0  # correlation between runs of one seed
    wobble: float = 0.3  # sd of one epoch's validation score about the run's own curve
    collapse: float = 0.0  # chance of a run to collapse; half of these diverge, half fall to chance level

    def mean(self, values: Mapping[str, Any]) -> float:
        """Expected accuracy at the full budget of runs that train, points."""
        points = self.base + sum(levels.get(values.get(name), 0.0) for name, levels in self.main.items())
        points += sum(value for where, value in self.together if _holds(where, values))
        for where, name, best, loss in self.tuned:
            if _holds(where, values) and values.get(name):
                points -= loss * np.log10(values[name] / best) ** 2
        return float(points)

    def deviation(self, values: Mapping[str, Any]) -> float:
        """Standard deviation between seeds, points."""
        factors = [levels.get(values.get(name), 1.0) for name, levels in self.spread.items()]
        return float(self.sd * np.prod(factors))

    def behind(self, values: Mapping[str, Any]) -> float:
        """Points by which a slow starter lags after its first epoch."""
        return float(sum(levels.get(values.get(name), 0.0) for name, levels in self.lag.items()))


@dataclass(frozen=True)
class Run:
    """One simulated trial. val: (epochs,) fractions up to where it diverged, test: fraction, NaN where it diverged."""

    val: np.ndarray
    test: float

    @property
    def diverged(self) -> bool:
        return bool(np.isnan(self.test))


def _holds(where: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(values.get(name) == level for name, level in where.items())


def run(truth: Truth, values: Mapping[str, Any], seed: int, epochs: int) -> Run:
    """Play one trial of `epochs` epochs; the same arguments give the same run."""
    key = repr(sorted(values.items(), key=lambda item: item[0]))
    rng = np.random.default_rng(stream(seed, "simulate", key))
    common = np.random.default_rng(stream(seed, "simulate")).standard_normal()
    luck = np.sqrt(truth.shared) * common + np.sqrt(1 - truth.shared) * rng.standard_normal()
    final = truth.mean(values) + truth.deviation(values) * luck
    epoch = np.arange(1, epochs + 1)
    rise = np.expm1(-_RISE * epoch / epochs) / np.expm1(-_RISE)
    left = (epochs - epoch) / max(epochs - 1, 1)
    val = truth.chance + (final - truth.chance) * rise - truth.behind(values) * left**2
    val = val + truth.wobble * rng.standard_normal(epochs)
    collapses, diverges, when = rng.random(3)
    if collapses < truth.collapse:
        end = int(when * epochs)
        if diverges < 0.5:
            return Run(_fraction(val[:end]), float("nan"))
        val[end:] = truth.chance
        final = truth.chance
    return Run(_fraction(val), float(_fraction(final)))


def _fraction(points: Any) -> Any:
    return np.clip(np.asarray(points) / 100, 0.0, 1.0)


def confirm_values(
    truth: Truth, arms: Sequence[Mapping[str, Any]], seeds: int, repeats: int, rng: np.random.Generator
) -> np.ndarray:
    """Test accuracies of `repeats` confirm stages: (repeats, arms, seeds) fractions, NaN where a run diverged.

    The distribution is that of `run`; only the streams differ, so that a thousand repeats take milliseconds.
    """
    shape = repeats, len(arms), seeds
    mean = np.array([truth.mean(values) for values in arms])[:, None]
    sd = np.array([truth.deviation(values) for values in arms])[:, None]
    common = rng.standard_normal((repeats, 1, seeds))
    luck = np.sqrt(truth.shared) * common + np.sqrt(1 - truth.shared) * rng.standard_normal(shape)
    collapses, diverges = rng.random(shape) < truth.collapse, rng.random(shape) < 0.5
    points = np.where(collapses, truth.chance, mean + sd * luck)
    return np.where(collapses & diverges, np.nan, _fraction(points))


def confirm_rows(plan: Any, values: np.ndarray, epochs: int = 15) -> list[dict[str, Any]]:
    """Rows of the trials table, in the columns that effects rest on, for one confirm stage's `values` (arms, seeds)."""
    rows = []
    for (row, block), value in np.ndenumerate(values):
        lost = bool(np.isnan(value))
        rows.append(
            {
                "trial_id": f"{plan.plan_hash}-{row}-{block}",
                "phase": str(Phase.CONFIRM),
                "status": str(Status.DIVERGED if lost else Status.COMPLETE),
                "arm": plan.arms[row].name,
                "plan_hash": plan.plan_hash,
                "design_row": row,
                "seed_block": block,
                "epochs_run": epochs - 1 if lost else epochs,
                "epochs_allowed": epochs,
                plan.metric.name: None if lost else float(value),
            }
        )
    return rows


class Memory:
    """Stands in for a `Store` where hundreds of sweeps are simulated and none need outlive the process.

    Keeps trials, epochs, rungs and the folder's files; predictions and classes are dropped.
    """

    publish_seconds = 0.0

    def __init__(self) -> None:
        self.trials: dict[str, dict[str, Any]] = {}
        self.folder = _Files()
        self._rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {"epochs": {}, "rungs": {}}

    def add(self, table: str, row: Mapping[str, Any]) -> bool:
        if table == "trials":
            self.trials.setdefault(row["trial_id"], defaultdict(lambda: None)).update(row)
            return True
        return self._rows[table].setdefault(tuple(row[name] for name in KEYS[table]), dict(row)) is not None

    def add_all(self, table: str, trial_id: str, columns: Mapping[str, Any]) -> None: ...

    def read(self, table: str) -> pa.Table:
        return pa.Table.from_pylist(list(self._rows[table].values()), schema=schema(table))

    def flush(self) -> None: ...

    def tick(self) -> None: ...


class _Files:
    url = "memory"

    def __init__(self) -> None:
        self._content: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self._content.get(name)

    def write(self, name: str, content: bytes) -> None:
        self._content[name] = content

    def names(self, sub: str = "") -> list[str]:
        prefix = f"{sub}/" if sub else ""
        rests = (name[len(prefix) :] for name in self._content if name.startswith(prefix))
        return sorted(rest for rest in rests if "/" not in rest)

    def delete(self, name: str) -> None:
        self._content.pop(name, None)


@dataclass(order=True)
class _Running:
    time: float
    number: int
    task: Task = field(compare=False)
    run: Run = field(compare=False)
    epoch: int = field(compare=False)
    seconds: float = field(compare=False)  # that its next epoch takes


@dataclass
class SimulatedClock:
    """now: seconds since the simulated world began. until: when whoever drives a sweep there is killed."""

    now: float = 0.0
    until: float = np.inf

    def __call__(self) -> float:
        return self.now


def drive(
    sweep: Sweep,
    truth: Truth,
    slots: int = 4,
    epochs: int | None = None,
    pace: Callable[[Task, int], float] | None = None,
    clock: SimulatedClock | None = None,
) -> int:
    """Run `sweep` to its end in the simulated world.

    `slots` trials run side by side, each at a speed of its own, so that reports arrive out of order; the confirm stage
    is run too. Ends early where `epochs` have been spent, the driver is killed, or the sweep's time budget is used up.
    Returns the epochs spent; raises what the sweep ended with.

    pace: seconds that an epoch of a task takes. clock: which the sweep's time budget goes by.
    """
    waiting: list[_Running] = []
    spent, started = 0, 0
    pace, clock = pace or (lambda task, epoch: _pace(task)), clock or SimulatedClock()
    factors = sweep.study.space.names
    while True:
        while len(waiting) < slots and (task := sweep.next()) is not None:
            values = {name: getattr(task.config, name) for name in factors}
            played = run(truth, sweep.study.space.active(values), task.config.seed, task.config.epochs)
            seconds = pace(task, task.recorded + 1)
            heapq.heappush(waiting, _Running(clock.now + seconds, started, task, played, task.recorded, seconds))
            started += 1
        if not waiting or (epochs is not None and spent >= epochs):
            break
        end = clock.now + sweep.time.left
        if waiting[0].time > min(end, clock.until):
            clock.now = max(clock.now, min(end, clock.until))
            if end <= clock.until:
                sweep.interrupt()
            break
        trial = heapq.heappop(waiting)
        clock.now, trial.epoch, spent = trial.time, trial.epoch + 1, spent + 1
        if sweep.report(trial.task.trial_id, _report(trial)):
            seconds = pace(trial.task, trial.epoch + 1)
            heapq.heappush(waiting, replace(trial, time=clock.now + seconds, seconds=seconds))
    if sweep.error is not None:
        raise sweep.error
    return spent


def _pace(task: Task) -> float:
    """Seconds an epoch takes, the same for all of a trial's epochs: between 0.7 and 1.3."""
    return 0.7 + 0.6 * (stream(task.config.seed, "pace") % 1000) / 1000


def _report(trial: _Running) -> Report:
    """What a worker would report after this epoch (or instead of it, where the run diverges in it)."""
    played, epoch, task = trial.run, trial.epoch, trial.task
    if epoch > len(played.val):
        reason = f"trial {task.trial_id}, epoch {epoch}: loss is nan (simulated)"
        return Report(ending=Ending(Status.DIVERGED, reason))
    value = float(played.val[epoch - 1])
    record = EpochRecord(
        epoch=epoch, train_loss=3 * (1 - value), train_accuracy=value, val_loss=3 * (1 - value), val_accuracy=value,
        lr=float(of_images(task.config).lr), train_seconds=trial.seconds, eval_seconds=0.0, images_per_second=1000.0,
        peak_memory=2**28,
    )  # fmt: skip
    test = _test(played.test) if epoch == task.config.epochs and task.test else None
    return Report((record,), {"device": "simulated", "parameters": 1000}, test=test)


def _test(accuracy: float) -> TestResult:
    """The test split where the last images are wrong; accuracy: a fraction."""
    image = np.arange(_TEST_IMAGES)
    labels = image % 10
    wrong = image >= round(accuracy * _TEST_IMAGES)
    predictions = np.where(wrong, (labels + 1) % 10, labels)
    return TestResult(accuracy, 3 * (1 - accuracy), predictions, labels, image)
