"""A sweep as a state machine: which trial to run next, what a report means, when it is over. Imports no Ray or torch.

    next()    -> the Task to start, or None if there is nothing to start now (`finished`: nor later)
    report()  -> True if the trial continues
    ended()   -> records that the trial is over, and why

Every decision is written to the store before it takes effect. A Sweep over a folder that holds rows continues it:
finished trials are replayed to the sampler and the stopping rule, unfinished ones are handed out again first.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from resnetlab.errors import BadRequest, ResnetlabError, TrialsFailed
from resnetlab.experiment.messages import Report, Task
from resnetlab.planning.affordable import DoesNotFit
from resnetlab.planning.plan import Plan
from resnetlab.search.optuna_sampler import OptunaSampler, WarmTrial
from resnetlab.search.rule import PAUSE
from resnetlab.storage.layout import CHECKPOINTS, checkpoint_names, kept_name
from resnetlab.storage.store import Store
from resnetlab.study import Study
from resnetlab.study.records import EpochRecord, Phase, Status, TaskEpoch
from resnetlab.study.sections.search import USUAL_RULE
from resnetlab.study.seeding import MAX_SEED, stream
from resnetlab.study.trial_config import RunConfig
from resnetlab.sweep import crashes, own_search, plan_store, reopened, test_rows, trial_texts
from resnetlab.sweep.crashes import Crash, Deaths
from resnetlab.sweep.longer import LongerTrials
from resnetlab.sweep.paused import Paused
from resnetlab.sweep.planned_looks import PlannedLooks
from resnetlab.sweep.progress import FUSE, WORKED, Clock, Fuse, SweepProgress, clocked
from resnetlab.sweep.task import content_hash, data_key, first_row, with_codes
from resnetlab.sweep.time_budget import UNLIMITED, Unlimited
from resnetlab.wording import plural

INTERRUPTED = "the sweep was interrupted"
Stage = Literal["pilot", "explore", "plan", "confirm", "all"]


def _most_failures(study: Study) -> int:
    """How many trials may fail before any has an epoch: enough to try each named arm, some of which may lack weights,
    and no more than the search proposes."""
    return max(FUSE, len(study.arms)) if study.arms else min(FUSE, study.reachable_trials)


class Sweep:
    """A study being run into a store. `facts` are columns that all trials share: revision, versions.

    data: content hash and classes of each dataset that trials read, by `data_key`; with one dataset, that one.
    stage: how far to go. `pilot` runs the baseline's seeds alone, `explore` ends before the plan, `plan` after it,
    `confirm` explores no further, `all`. code: what a plan says of the code; else its revision.
    retry: run trials again that failed or ran out of memory. guessing: as the plan has it. code_place: a folder of this
    machine in which code of the study's own is unpacked. warm: trials of other sweeps, for the sampler alone. time: its
    budget, if it has one."""

    def __init__(
        self,
        study: Study,
        store: Store,
        facts: Mapping[str, Any],
        data: Mapping[str, tuple[str, Sequence[str]]],
        stage: Stage = "all",
        code: str | None = None,
        retry: bool = False,
        guessing: Mapping[str, float] | None = None,
        code_place: Path | None = None,
        warm: Sequence[WarmTrial] = (),
        time: Unlimited = UNLIMITED,
    ):
        self.study, self.store, self.time = study, store, time
        self._code = code or facts["git_revision"] or "unknown"
        self._facts, self._data, self._stage = dict(facts), dict(data), stage
        self._guessing = dict(guessing or {})
        self._rule = own_search.rule(study, code_place)
        propose, make = own_search.sampler(study, code_place), own_search.optunas(study, code_place)
        self._search = OptunaSampler(study, propose, make, warm)
        self._longer = LongerTrials.of(study, store.trials.values(), store.folder)
        self._search.reserve(self._longer.points)
        self._proposed, self._exhausted = 0, False
        self._again: deque[Task] = deque()
        self._paused = Paused(self._rule, store)
        self._pilot: deque[tuple[dict[str, Any], Task]] = deque()
        self._confirm: deque[tuple[dict[str, Any], Task]] = deque()
        self._looks: PlannedLooks | None = None  # of a plan that stops where all is settled
        self._obsolete: list[str] = []
        self.plan: Plan | None = None
        self.running: dict[str, Task] = {}  # handed out and not over
        self.waiting: set[str] = set()  # those of them that have no worker yet, for lack of `waits_for`
        self.working: set[str] = set()  # those of them that have reported; the others are being set up
        self.waits_for = ""
        self.asked: Literal["", "pause", "stop"] = ""  # of the driver: trials end after the epoch that they train
        self.shared = ""  # other sweeps that run on the cluster
        self._deaths = Deaths()
        self.notes: deque[str] = deque()  # lines for the live view, not shown yet
        self._fuse = Fuse(_most_failures(study))
        self.clock = Clock(self._search, store)
        self.finished = False
        self.error: ResnetlabError | None = None
        self.progress = SweepProgress(study.explore_trials, study.searched)
        self._reopen(retry)
        self._replay()

    def _reopen(self, retry: bool) -> None:
        """Queue failed trials again (`retry`), and new ones in place of trials that never trained."""
        plan, _ = plan_store.find(self.store, self.study)
        for config, phase, columns in reopened.replace(self.store, self.study, plan):
            self._open(Task(config.trial_id, config, phase, False, self._dataset(config)[0]), columns)
        if retry:
            self.notes += reopened.reopen(self.store, plan)

    def _replay(self) -> None:
        values: dict[str, list[tuple[int, float]]] = {}
        epochs = self.store.read("epochs")
        columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", self.study.searched.name))
        for trial_id, epoch, value in zip(*columns, strict=True):
            values.setdefault(trial_id, []).append((epoch, value))
        self.progress.epochs = len(epochs)
        rows = [row for row in self.store.trials.values() if row["status"] != Status.REPLACED]
        searched = {row["trial_id"] for row in rows if Phase(row["phase"]).searched}
        seen = {trial_id: found for trial_id, found in values.items() if trial_id in searched}
        rungs = [row for row in self.store.read("rungs").to_pylist() if row["trial_id"] in searched]
        self._rule.replay(rungs, seen)
        stopped = {row["trial_id"] for row in rungs if row["decision"] == "stop"}
        for row in sorted(rows, key=lambda row: row["number"]):
            if not Status(row["status"]).ended and row["trial_id"] in stopped:
                row = self._close(row["trial_id"], Status.STOPPED, self._stopped_by)
            if not Phase(row["phase"]).searched:
                continue
            self._proposed = max(self._proposed, row["number"] + 1)
            self._search.replay(row, values.get(row["trial_id"], []))
            if Status(row["status"]).ended:
                if row["status"] == Status.COMPLETE:
                    self._obsolete += self._unused(row["trial_id"], Status.COMPLETE)
                self.progress.ended(row)
            elif row["phase"] != Phase.AUDIT and self._paused.waits(row["trial_id"]):
                self._paused.add(self._task(row))
            else:
                self._again.append(self._task(row))
        for asked, task in plan_store.pilot(self.study, self.store.trials, self._dataset):
            self.progress.pilot_planned += 1
            self._queue(self._pilot, asked, task)
        self._find_plan()

    def _queue(self, fresh: deque[tuple[dict[str, Any], Task]], columns: dict[str, Any], task: Task) -> None:
        """Add a planned run to `fresh`, or to the trials to resume, unless it has ended."""
        known = self.store.trials.get(task.trial_id)
        source = self.store.trials.get(task.source) if task.source else None
        waits = bool(task.source) and (source is None or source["status"] != Status.COMPLETE)
        if known is None or (waits and not Status(known["status"]).ended):
            fresh.append((columns, task))
        elif not Status(known["status"]).ended:
            self._again.append(replace(task, recorded=known["epochs_run"]))

    def _close_runs(self, replaced: Callable[[str], bool]) -> None:
        """End the confirm runs of replaced plans, given by their hashes, that have not ended."""
        for trial_id, row in list(self.store.trials.items()):
            if row["plan_hash"] and replaced(row["plan_hash"]) and not Status(row["status"]).ended:
                self._close(trial_id, Status.FAILED, "its plan was replaced by another")

    def _find_plan(self) -> None:
        """Adopt the folder's plan, or set it aside if the study has changed."""
        plan, replaced = plan_store.find(self.store, self.study)
        if plan is not None:
            self._adopt(plan)
            return
        if replaced:
            self._close_runs(lambda plan_hash: plan_hash == replaced)
        explored = [task for task in self._again if task.phase.searched]
        if self._stage == "confirm":
            plan_store.check_explored(len(explored) + len(self._paused))

    def _task(self, row: Mapping[str, Any]) -> Task:
        """The task of an explore trial that is resumed. The study, not the row, tells where its data is."""
        config = self.study.trial_type.model_validate_json(row["config"])
        if self.study.dataset is not None:
            config = config.model_copy(update={"data": self.study.dataset})
        task = self._explored(config, Phase(row["phase"]))
        return replace(task, trial_id=row["trial_id"], recorded=row["epochs_run"])

    def _explored(self, config: RunConfig, phase: Phase) -> Task:
        """The task of an explore trial."""
        stays = self.study.search.keep_checkpoints and not config.depends_on_budget
        before = self._longer.before(config.trial_id)
        shorter = before.trial_id if before is not None else ""
        data_hash = self._dataset(config)[0]
        return Task(
            config.trial_id, config, phase, False, data_hash,
            saves=self._saves, decided=tuple(self.study.search.rungs), stays=stays, shorter=shorter,
        )  # fmt: skip

    def next(self) -> Task | None:
        """The next trial to start, or None. Sets `error` and `finished` if the sweep cannot continue."""
        try:
            self.time.mark(len(self.running))
            task = None if self.finished else self._next()
        except ResnetlabError as error:
            self.error, self.finished, task = error, True, None
        if task is not None:
            self.running[task.trial_id] = task
            self.waiting.add(task.trial_id)
            said = self._reason(task.trial_id, "")
            self.store.add("trials", {"trial_id": task.trial_id, "status": str(Status.WAITING), "reason": said})
            self.store.flush()
        return task

    def _dataset(self, config: RunConfig) -> tuple[str, Sequence[str]]:
        """Content hash and classes of the dataset that a trial reads."""
        return self._data[data_key(config)]

    @property
    def needs_workers(self) -> bool:
        """True if there is a trial to run: if not, Ray need not start, even if a plan is still to be written."""
        if self.time.over:
            return False
        if self._stage == "pilot":
            return any(task.phase is Phase.PILOT for task in self._again) or bool(self._pilot)
        if self._pilot and self._stage != "confirm":
            return True
        if self.plan is not None:
            more = plan_store.further_seeds(self.plan, self.study, self.store.trials.values())
            return self._stage in ("confirm", "all") and bool(self._again or self._confirm or more)
        exploring = self._again or len(self._paused) or self._proposed < self.study.explore_trials
        confirming = self._stage in ("confirm", "all") and self.study.confirm.design != "none"
        return bool(exploring or confirming)

    def _next(self) -> Task | None:
        if self.time.over:
            self.finished = not self.running
            return None
        if self._pilot and self._stage != "confirm":
            if self._may_explore():
                row, task = self._pilot.popleft()
                self._open(task, row)
                return task
            if self.running:
                return None
            self._too_late_for_pilot()
        if self._stage == "pilot":
            while self._again:
                if (task := self._again.popleft()).phase is Phase.PILOT:
                    return task
            self.finished = not self.running
            return None
        if self.plan is not None and self._stage in ("explore", "plan"):
            self.finished = not self.running
            return None
        if self._again:
            return self._again.popleft()
        if self.plan is None:
            return self._next_explore()
        return self._next_confirm()

    def _next_explore(self) -> Task | None:
        """The next trial of the search; after it, the first of the plan."""
        in_time = self._may_explore()
        if in_time and (promoted := self._paused.promoted()) is not None:
            return promoted
        more = self._stage != "confirm" and not self._exhausted and self._proposed < self.study.explore_trials
        if more and in_time:
            if (proposed := self._propose()) is not None:
                return proposed
            self._search_ends(self._search.why_ended)
        if self.running:
            return None
        if in_time and (promoted := self._paused.promoted(drained=True)) is not None:
            return promoted
        if more and not in_time:
            why = "no time for another" if self.time.tried else "the rest of the time is kept for confirm runs"
            self._search_ends(why)
        self._end_paused()
        if self._stage == "explore" or self.study.confirm.design == "none":
            self.finished = True
            return None
        return self._planned()

    def _planned(self) -> Task | None:
        """Make the plan, and return its first run; where no design fits into the time left, the next explore trial."""
        data = content_hash(found for found, _ in self._data.values())
        tried, fit = self.time.tried, self.time.fit(self.store.trials)
        try:
            made = plan_store.make(self.store, self.study, data, self._code, self._guessing, fit)
        except DoesNotFit:
            if tried:
                self.finished = True
                return None
            self._exhausted, self.progress.explore_planned = False, self.study.explore_trials
            self.notes.append("nothing will be confirmed: no design that carries a claim fits into the time left")
            return self._next()
        self._close_runs(lambda plan_hash: plan_hash != made.plan_hash)
        self._adopt(made)
        return self._next()

    def _may_explore(self) -> bool:
        """Whether the time budget has room for one more trial before the plan."""
        confirms = self._stage not in ("pilot", "explore") and self.study.confirm.design != "none"
        return self.time.may_explore(self.running, self.store.trials, confirms)

    def _search_ends(self, why: str) -> None:
        self._exhausted = True
        self.progress.explore_planned = self._proposed
        self.notes.append(f"the search ends after {self._proposed} of {self.study.explore_trials} trials: {why}")

    def _too_late_for_pilot(self) -> None:
        self.notes.append(f"the pilot ends {len(self._pilot)} runs early: the rest of the time budget is kept")
        self.progress.pilot_planned -= len(self._pilot)
        self._pilot.clear()

    def _end_paused(self) -> None:
        """Nothing is left to explore: what was not promoted is stopped."""
        audit = {trial_id for trial_id, row in self.store.trials.items() if row["phase"] == Phase.AUDIT}
        for task in self._paused.settle(audit):
            self.running[task.trial_id] = task
            epoch = self.store.trials[task.trial_id]["epochs_run"]
            self.ended(task.trial_id, Status.STOPPED, f"not promoted at epoch {epoch}")

    def _next_confirm(self) -> Task | None:
        """The first planned run that can start: one that starts from another trial waits until that one has ended."""
        for position, (row, task) in enumerate(self._confirm):
            source = self.store.trials.get(task.source) if task.source else None
            if task.source and (source is None or not Status(source["status"]).ended):
                continue
            if not self._may_begin(row["seed_block"]):
                return self._next_confirm()
            del self._confirm[position]
            self._open(task, row)
            if source is not None and source["status"] != Status.COMPLETE:
                self._close(task.trial_id, Status.FAILED, f"its source, trial {task.source}, {source['status']}")
                return self._next_confirm()
            return task
        if self._looks is not None and not self.running and self._look():
            return self._next_confirm()
        assert self.plan is not None
        unfinished = self.running or self.time.not_begun
        if unfinished or (second := plan_store.second(self.store, self.study, self.plan, self._code)) is None:
            self.finished = not self.running
            return None
        self.progress.confirm_planned = 0
        self._adopt(second)
        return self._next_confirm()

    def _may_begin(self, block: int) -> bool:
        """Whether the time budget has room for this block of the plan; without it, it and later ones are not begun."""
        runs = [(row, task) for row, task in self._confirm if row["seed_block"] == block]
        design = "" if self.plan is None else self.plan.design
        if self.time.may_begin_block(runs, self.running, self.store.trials, design):
            return True
        self._leave({row["seed_block"] for row, _ in self._confirm if row["seed_block"] >= block})
        return False

    def _leave(self, blocks: set[int]) -> None:
        """Do not begin these blocks of the plan, for lack of time."""
        self._confirm = deque((row, task) for row, task in self._confirm if row["seed_block"] not in blocks)
        self.time.not_begun += len(blocks)
        if blocks:
            self.notes.append(f"{plural(len(blocks), 'block')} of seeds not begun: the time that is left is too short")

    def _look(self) -> bool:
        """Take the looks that are due, and queue the runs that they ask for; False where there are none."""
        assert self._looks is not None
        self.store.flush()
        asked_for = list(self._looks.take(self.store))
        for columns, task in asked_for:
            self._queue(self._confirm, columns, task)
        self.progress.confirm_planned = self._looks.possible
        if line := self._looks.news():
            self.notes.append(line)
        return bool(asked_for)

    @property
    def standing_of_looks(self) -> str:
        """What is settled and what still runs; empty where the plan does not look."""
        return self._looks.line if self._looks is not None else ""

    def _propose(self) -> Task | None:
        number = self._proposed
        asked = self._search.ask(number, self._longer.at(number))
        if asked is None:
            if number == 0:
                raise BadRequest(f"{self.study.name}: no feasible combination of levels was found")
            return None
        trial, values = asked
        config = self.study.config(values, seed=stream(self.study.seed, "explore", number))
        audit = stream(self.study.seed, "audit", number) / MAX_SEED < self.study.search.audit
        phase = Phase.AUDIT if audit else Phase.EXPLORE
        task = self._explored(config, phase)
        self._search.started(task.trial_id, trial, (number, values))
        self._proposed += 1
        self._open(task, {"number": number, "stop_probability": 1 - self.study.search.audit, **values})
        return task

    @property
    def _saves(self) -> tuple[int, ...]:
        """The epochs after which an explore trial may pause."""
        return tuple(self.study.search.rungs) if self._paused.possible else ()

    def _adopt(self, plan: Plan) -> None:
        """Queue the plan's runs, or those that its looks ask for."""
        self.plan = plan
        if plan.time is not None:  # what was left out before it is not made up for
            self._pilot.clear()
            pilot = sum(row["phase"] == Phase.PILOT for row in self.store.trials.values())
            self.progress.pilot_planned, self.progress.explore_planned = pilot, self._proposed
        if plan.looks is not None:
            runs = plan_store.runs(plan, self.study, self.store.trials, self._dataset)
            self._looks = PlannedLooks(plan, runs)
            self._look()
            return
        for columns, task in plan_store.runs(plan, self.study, self.store.trials, self._dataset):
            self.progress.confirm_planned += 1
            self._queue(self._confirm, columns, task)

    def _open(self, task: Task, columns: Mapping[str, Any]) -> None:
        self.store.add("trials", first_row(task, self.study.name) | self._facts | dict(columns))

    def started(self, trial_id: str) -> None:
        """Note that the trial has a worker."""
        if trial_id in self.waiting:
            self.waiting.discard(trial_id)
            self.store.add("trials", {"trial_id": trial_id, "status": str(Status.RUNNING)})

    @clocked
    def report(self, trial_id: str, report: Report) -> bool:
        """Record a worker's report; returns True if the trial continues.

        Raises the report's `ending.ends_sweep`, if set, and leaves the trial as it is: other trials would fail alike.
        """
        self.clock.busy += report.busy_seconds
        self.time.mark(len(self.running))
        task = self.running.get(trial_id)
        if task is None:
            return False
        self.started(trial_id)
        self.working.add(trial_id)
        columns = dict(report.columns)
        if self.study.own.parts and (settings := columns.get("settings")):
            columns["settings"] = with_codes(self.store.trials[trial_id], str(settings))
        if report.printed:
            trial_texts.add_printed(self.store.folder, trial_id, report.printed)
        if report.note:
            self.notes.append(f"trial {trial_id}: {report.note}")
            columns["reason"] = self._reason(trial_id, report.note)
        if report.restarted:
            columns["restarts"] = (self.store.trials[trial_id].get("restarts") or 0) + 1
        self.store.add("trials", {"trial_id": trial_id, **columns})
        for epoch in report.epochs:
            if epoch.epoch > report.resumed and epoch.epoch > self.store.trials[trial_id]["epochs_run"]:
                self._deaths.forget(trial_id)
            decision = self._take_epoch(task, epoch, trained=epoch.epoch > report.before)
            if decision == PAUSE:
                self._pause(task)
                return False
            if decision == "stop":
                self.ended(trial_id, Status.STOPPED, f"{self._stopped_by} at epoch {epoch.epoch}")
                return False
        if ending := report.ending:
            if ending.ends_sweep is not None:
                raise ending.ends_sweep(ending.reason)
            self.ended(trial_id, ending.status, ending.reason, ending.traceback)
            return False
        if self.store.trials[trial_id]["epochs_run"] >= task.config.epochs:
            if task.test:
                assert report.test is not None, f"trial {trial_id}: no test result at the full budget"
                test_rows.record(self.store, task, report.test, self._dataset(task.config)[1])
            self.ended(trial_id, Status.COMPLETE, "reached the full budget")
            return False
        self.store.tick()
        return True

    def _pause(self, task: Task) -> None:
        """The trial leaves its worker, and waits to be promoted."""
        del self.running[task.trial_id]
        self.working.discard(task.trial_id)
        self._paused.add(task)
        self.store.add("trials", {"trial_id": task.trial_id, "status": str(Status.WAITING)})
        self.store.tick()

    def _take_epoch(self, task: Task, record: EpochRecord | TaskEpoch, trained: bool = True) -> str:
        """Record one epoch; what the stopping rule says, `continue` where it decides nothing. trained: by this sweep,
        not by one of a shorter budget."""
        trial_id, epoch, row = task.trial_id, record.epoch, record.as_row()
        value = row[self.study.searched.name]
        if self.store.add("epochs", {"trial_id": trial_id, **row}):
            known = self.store.trials[trial_id]
            totals = {
                "train_seconds": (known.get("train_seconds") or 0.0) + record.train_seconds,
                "eval_seconds": (known.get("eval_seconds") or 0.0) + record.eval_seconds,
            }
            last: dict[str, Any] = {name: row[name] for name in ("val_accuracy", "val_loss") if name in row}
            if "val_accuracy" in row:
                last["val_accuracy_best"] = max(row["val_accuracy"], known.get("val_accuracy_best") or 0.0)
            totals |= {"epochs_run": epoch, **record.metrics}
            self.store.add("trials", {"trial_id": trial_id, **last, **totals})
            if task.phase.searched:
                self._search.reported(trial_id, epoch, value)
            if trained:
                self.progress.trained(record, len(self.working))
                self.time.trained(task, self.store.trials, record.train_seconds + record.eval_seconds)
            else:
                self.progress.epochs += 1
        if not task.phase.searched:
            return "continue"
        decision = self._rule.report(trial_id, epoch, value, exempt=task.phase is Phase.AUDIT)
        if decision is None:
            return "continue"
        if decision.decision != PAUSE:
            self.store.add("rungs", {"trial_id": trial_id, **decision.as_row()})
        return decision.decision

    def ended(self, trial_id: str, status: Status, reason: str, detail: str = "") -> None:
        """Record that the trial is over; its checkpoints are deleted once that is durable.

        detail: of a failure, such as the traceback, for errors/<trial_id>.txt.
        """
        task = self.running.pop(trial_id, None)
        if task is None:
            return
        if status in reopened.FAILED:
            about = crashes.settings(task.config, self._baseline(task))
            trial_texts.add_failure(self.store.folder, trial_id, about, reason, detail)
        self.working.discard(trial_id)
        self.waiting.discard(trial_id)
        row = self._close(trial_id, status, reason)
        if status is Status.FAILED and self._fuse.blown(reason, self.progress.epochs, self._worked):
            self.finished = True
            said = f"the first {self._fuse.most} trials failed, the last with: {reason}"
            if self.study.own.parts:
                about = crashes.settings(task.config, self._baseline(task))
                said = f"{said}\ntrial {trial_id}, settings: {about}\n{detail}".rstrip()
            self.error = TrialsFailed(f"{self.study.name}: {said}")
        if task.phase.searched:
            second = self.study.search.second_objective
            self._search.ended(trial_id, status, row.get(second) if second else None)
            self.progress.ended(row)
        self.store.flush()
        while self._obsolete:
            self.store.folder.delete(self._obsolete.pop())
        self.store.tick()

    def tidy(self) -> None:
        """Delete what workers that were asked to leave have written since of trials that had ended."""
        for name in self.store.folder.names(CHECKPOINTS):
            row = self.store.trials.get(name.partition(".")[0])
            if row is not None and Status(row["status"]).ended:
                self.store.folder.delete(f"{CHECKPOINTS}/{name}")

    def died(self, trial_id: str, reason: str, status: Status = Status.FAILED, crash: Crash | None = None) -> None:
        """Record the death of the trial's process, and hand the trial out again unless it has died too often.

        status: `failed` or `out_of_memory`, for a trial that has died too often. crash: how a signal ended the process.
        """
        if trial_id not in self.running:
            return
        if often := self._deaths.too_many(trial_id, "crash" if crash else str(status)):
            self.ended(trial_id, status, f"{often}: {reason}", "\n".join(crash.log) if crash else "")
            return
        self.hand_back(trial_id, last=True)
        self.notes.append(f"trial {trial_id}: its process died ({reason}); it is run again from its checkpoint")

    def hand_back(self, trial_id: str, last: bool = False) -> None:
        """Queue a trial that has lost its worker, to resume from its checkpoint: first in the queue, or last."""
        if (task := self.running.pop(trial_id, None)) is None:
            return
        self.working.discard(trial_id)
        self.waiting.discard(trial_id)
        task = replace(task, recorded=self.store.trials[trial_id]["epochs_run"])
        (self._again.append if last else self._again.appendleft)(task)
        self.store.add("trials", {"trial_id": trial_id, "status": str(Status.WAITING)})

    def crashed(self, trial_id: str, crash: Crash) -> None:
        """Record that a signal ended the trial's process. The trial fails if that repeats without a new epoch."""
        if task := self.running.get(trial_id):
            reason = crash.message(task.config, self._baseline(task), self.store.trials[trial_id]["epochs_run"])
            self.died(trial_id, reason, Status.OUT_OF_MEMORY if crash.oom else Status.FAILED, crash)

    def _baseline(self, task: Task) -> RunConfig:
        return self.study.baseline_config(task.config.seed)

    def interrupt(self) -> None:
        """Mark running and waiting trials as interrupted; they resume when the sweep is continued."""
        for trial_id in [*self.running, *(task.trial_id for task in self._again), *self._paused]:
            row = {"status": str(Status.INTERRUPTED), "reason": self._reason(trial_id, INTERRUPTED)}
            self.store.add("trials", {"trial_id": trial_id, **row})
        self.running.clear()
        self.waiting.clear()
        self.working.clear()
        if self.time.over:  # in a block that was tried although it might not end in time
            begun = {(row["seed_block"], row["plan_hash"]) for row in self.store.trials.values()}
            waiting = {(row["seed_block"], row["plan_hash"]) for row, _ in self._confirm}
            self._leave({block for block, _ in waiting - begun})

    @property
    def _stopped_by(self) -> str:
        rule = self.study.search.rule
        return "below the cutoff of its rung" if rule == USUAL_RULE else f"stopped by {rule}"

    @property
    def with_workers(self) -> set[str]:
        """Trials that have a worker."""
        return self.running.keys() - self.waiting

    @property
    def paused(self) -> bool:
        """True if the sweep was asked to pause, and no trial trains any more."""
        return self.asked == "pause" and not self.with_workers

    @property
    def queued(self) -> int:
        """Number of trials that have no worker yet, or have lost it."""
        return len(self.waiting) + len(self._again)

    def _close(self, trial_id: str, status: Status, reason: str) -> dict[str, Any]:
        ended = max(datetime.now(UTC), self.store.trials[trial_id]["started"])  # clocks are set back
        ending = {"status": str(status), "reason": self._reason(trial_id, reason), "ended": ended}
        self.store.add("trials", {"trial_id": trial_id, **ending})
        self._obsolete += (*checkpoint_names(trial_id), *self._unused(trial_id, status))
        return self.store.trials[trial_id]

    @property
    def _worked(self) -> bool:
        return any(Status(row["status"]) in WORKED for row in self.store.trials.values())

    def _unused(self, trial_id: str, status: Status) -> tuple[str, ...]:
        """What is kept and has no use any more once the trial has ended so."""
        if status is not Status.COMPLETE:
            return (kept_name(trial_id),) if self.study.search.keep_checkpoints else ()
        before = self._longer.before(trial_id)
        return before.names if before is not None else ()

    def _reason(self, trial_id: str, reason: str) -> str:
        """`reason`, followed by earlier remarks on the trial, such as a damaged checkpoint."""
        before = (self.store.trials[trial_id]["reason"] or "").removeprefix(INTERRUPTED).removeprefix("; ")
        return "; ".join(part for part in (reason, before) if part)

    def counts(self) -> dict[str, int]:
        """Number of trials by status, without the runs of plans that were set aside."""
        ours = None if self.plan is None else self.plan.plan_hash
        found = Counter(
            row["status"]
            for row in self.store.trials.values()
            if row["phase"] != Phase.CONFIRM or row["plan_hash"] == ours
        )
        return {status: number for status, number in found.items() if status != Status.REPLACED}
