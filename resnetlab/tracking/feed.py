"""Give trackers the new rows of a results folder, once or from a thread while a sweep runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from resnetlab.commands import command, short
from resnetlab.errors import BadData, BadRequest, FolderRefused
from resnetlab.provenance import without_secrets
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import factors_of, measures_of
from resnetlab.storage.store import read_table
from resnetlab.study.records import Status

INTERVAL = 5.0  # seconds between two reads of the tables; longer if reading takes more than a fiftieth of the time
LAST = 120.0  # seconds that the end of a sweep waits for its trackers
ENDED = 1 << 62  # instead of a number of epochs: the tool has the whole trial
MEASURED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "images_per_second", "peak_memory")
RESULTS = ("val_accuracy", "val_accuracy_best", "test_accuracy", "test_loss", "parameters", "train_seconds", "energy")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A row of the trials table. factors: names of its factor columns. measures: of the study's own metrics."""

    row: Row
    factors: tuple[str, ...]
    measures: tuple[str, ...] = ()

    @property
    def trial_id(self) -> str:
        return str(self.row["trial_id"])

    @property
    def name(self) -> str:
        """Number and phase or arm: `12 explore`, `23 kernel=5`."""
        return f"{self.row['number']} {self.row['arm'] or self.row['phase']}"

    @property
    def status(self) -> Status:
        return Status(self.row["status"])

    @property
    def levels(self) -> dict[str, Any]:
        """The values of the factors that apply to this trial."""
        return {name: self.row[name] for name in self.factors if self.row[name] is not None}

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the columns of an epoch that are sent."""
        return *MEASURED, *(name for name in self.measures if not name.startswith("test_"))

    @property
    def results(self) -> dict[str, float]:
        """The trial's final numbers, as far as it has them."""
        return {name: float(self.row[name]) for name in (*RESULTS, *self.measures) if self.row.get(name) is not None}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The whole config, flat, without settings that do not apply."""
        config = json.loads(self.row["config"])
        flat = config | {f"data.{name}": value for name, value in config.pop("data", {}).items()}
        return {name: value for name, value in flat.items() if value is not None}

    def at(self, rows: Sequence[Row]) -> list[float]:
        """When each epoch ended, in seconds since 1970: the trial's start plus its time so far. rows: from epoch 1."""
        clock, times = self.row["started"].timestamp(), []
        for row in rows:
            clock += row["train_seconds"] + row["eval_seconds"]
            times.append(clock)
        return times


class Tracker(Protocol):
    """Adapter of one tool. An error that it raises ends its use, never the sweep."""

    name: str  # of its command-line option

    def known(self) -> Mapping[str, int]:
        """By trial, the number of epochs that the tool has already; ENDED if it has the whole trial."""

    def epochs(self, trial: Trial, rows: Sequence[Row], first: int) -> None:
        """Take the epochs of a trial. rows: all, oldest first; the tool has those before position `first`."""

    def ended(self, trial: Trial) -> None:
        """Finish a trial that is over, after all its epochs were given."""

    def close(self) -> None:
        """Release resources; nothing more will come."""


class Feed:
    """Gives `trackers` the rows of `folder` that they do not have. problems: error message by tracker."""

    def __init__(self, folder: ResultsFolder, trackers: Sequence[Tracker]):
        self._folder, self._trackers = folder, list(trackers)
        self._sent: dict[str, dict[str, int]] = {}
        self.problems: dict[str, str] = {}

    def catch_up(self) -> None:
        """Read the tables and give each tracker what it lacks; a tracker that fails is dropped."""
        trials = read_table(self._folder, "trials")
        if trials is None:
            return
        factors, measures = factors_of(trials.schema), measures_of(trials.schema)
        rows = [row for row in trials.to_pylist() if row["status"] != Status.REPLACED]
        epochs = read_table(self._folder, "epochs")
        for tracker in list(self._trackers):
            try:
                if tracker.name not in self._sent:
                    self._sent[tracker.name] = dict(tracker.known())
                self._give(tracker, [Trial(row, factors, measures) for row in rows], epochs, self._sent[tracker.name])
            except Exception as error:  # a tool may raise anything
                self._lose(tracker, error)

    def _give(self, tracker: Tracker, trials: Sequence[Trial], epochs: pa.Table | None, sent: dict[str, int]) -> None:
        waiting = [trial for trial in trials if sent.get(trial.trial_id, 0) < ENDED]
        by_trial: dict[str, list[Row]] = {}
        if epochs is not None and waiting:
            ids = pa.array([trial.trial_id for trial in waiting])
            for row in epochs.filter(pc.is_in(epochs["trial_id"], ids)).to_pylist():
                by_trial.setdefault(row["trial_id"], []).append(row)
        for trial in waiting:
            rows, before = by_trial.get(trial.trial_id, []), sent.get(trial.trial_id, 0)
            if len(rows) > before or trial.trial_id not in sent:
                tracker.epochs(trial, rows, before)
                sent[trial.trial_id] = len(rows)
            if trial.status.ended and len(rows) >= (trial.row["epochs_run"] or 0):
                tracker.ended(trial)
                sent[trial.trial_id] = ENDED

    def close(self) -> None:
        for tracker in list(self._trackers):
            try:
                tracker.close()
            except Exception as error:
                self._lose(tracker, error)

    def _lose(self, tracker: Tracker, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self.problems[tracker.name] = lines[0][:300]
        self._trackers.remove(tracker)

    def held(self) -> dict[str, int]:
        """By tracker, the number of trials that it has completely."""
        return {name: sum(number >= ENDED for number in sent.values()) for name, sent in self._sent.items()}


class Live:
    """Runs a feed in its own thread, so that a slow or unreachable tool delays no trial."""

    def __init__(self, feed: Feed):
        self._feed, self._over, self._last = feed, threading.Event(), True
        self._thread = threading.Thread(target=self._run, name="trackers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            began = time.monotonic()
            self._try()
            pause = max(INTERVAL, 50 * (time.monotonic() - began))
        if self._last:
            self._try()
        self._feed.close()

    def _try(self) -> None:
        try:
            self._feed.catch_up()
        except Exception as error:  # in the tables: the sweep itself reports it
            self._feed.problems["tables"] = str(error)

    def end(self, last: bool) -> bool:
        """Stop; if `last`, give what is left first. False if that took too long."""
        self._last = last
        self._over.set()
        self._thread.join(LAST)
        return not self._thread.is_alive()


@contextmanager
def live(
    folder: ResultsFolder, trackers: Sequence[Tracker], say: Callable[[str], None], tools: Mapping[str, Any]
) -> Iterator[None]:
    """Feed `trackers` inside a `with` block in which a sweep writes `folder`.

    say: gets a line for each tracker that failed, with the command that sends the rest. tools: by tracker, the value of
    its option.
    """
    if not trackers:
        yield
        return
    feed = Feed(folder, trackers)
    thread, last = Live(feed), True
    try:
        yield
    except (BadRequest, BadData, FolderRefused):
        last = False  # the folder may be another study's
        raise
    finally:
        if not thread.end(last):
            feed.problems["trackers"] = f"did not take the rest within {LAST:.0f} s"
        for name, problem in feed.problems.items():
            concerned = [name] if name in tools else list(tools)  # `tables` and `trackers` concern all of them
            words = [f"--{option}={without_secrets(str(tools[option]))}" for option in concerned if tools[option]]
            say(f"{name}: {problem}; send what is missing with: {command('export', short(folder.place), *words)}")
