"""A budget in time: what a sweep may still begin, so that it ends in time with a balanced design.

The sweep asks before it proposes a trial and before it begins a block of confirm runs. Answers rest on the clock and on
how long epochs took; never on what trials reached.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from resnetlab.errors import BadRequest
from resnetlab.experiment.messages import Task
from resnetlab.planning.affordable import DoesNotFit, Fit, Make, candidates, fitted, least_seeds, makespan, weigh
from resnetlab.planning.in_time import InTime
from resnetlab.planning.making import make_plan, sketch
from resnetlab.planning.plan import Plan
from resnetlab.study import Study
from resnetlab.study.records import Phase, Status
from resnetlab.study.trial_config import RunConfig
from resnetlab.sweep.epoch_times import EpochTimes
from resnetlab.wording import duration, seconds_of

CONFIRM_SHARE = 2 / 3  # of the budget, which the search leaves alone: measured by benchmarks/time_budget.py
REPORT = 10.0  # seconds that the report takes at least; else as long as the start took, which loads the same libraries
MOST_REPORT = 60.0  # a start that took longer waited for something else
REPORT_SHARE = 0.01  # of the budget, for what grows with the number of runs
MOST_STRETCH = 3.0  # what a slot may be taken longer than its trial counts: more is a start, and no rule
FRESH = 0.005  # of the budget, for which what epochs take is not learnt anew

Planned = Sequence[tuple[Mapping[str, Any], Task]]
Rows = Mapping[str, Mapping[str, Any]]  # of the trials table, by trial_id


class OutOfTime(Exception):
    """The budget is used up: what runs is interrupted, and the report is written."""


class Unlimited:
    """No budget: everything may begin, and nothing is counted. What a sweep asks of a `TimeBudget`, it may ask of this.

    left: seconds that trials may still run; over: whether none are left. tried: a plan was to be made, and no design
    fitted. not_begun: blocks of the plan that there was no time for.
    """

    seconds = math.inf
    line = ""
    tried = False
    not_begun = 0

    @property
    def left(self) -> float:
        return math.inf

    @property
    def over(self) -> bool:
        return self.left <= 0

    def passes(self, slots: int, paused: float) -> None:
        """Time goes by."""

    def check_enough(self, rows: Rows) -> None:
        """There is always enough."""

    def mark(self, running: int) -> None:
        """Slots are not counted."""

    def trained(self, task: Task, rows: Rows, seconds: float) -> None:
        """Epochs are not counted."""

    def may_explore(self, running: Mapping[str, Task], rows: Rows, confirms: bool) -> bool:
        """Whether one more trial of pilot or search may begin."""
        return True

    def fit(self, rows: Rows) -> Fit | None:
        """What makes the plan fit; None: the plan is what the study asks for."""
        return None

    def may_begin_block(self, block: Planned, running: Mapping[str, Task], rows: Rows, design: str) -> bool:
        """Whether a block of confirm runs may begin."""
        return True

    def record(self) -> dict[str, Any] | None:
        """For sweep.json."""
        return None


UNLIMITED = Unlimited()


class TimeBudget(Unlimited):
    """Of one study.

    Args:
        study: with a `time_budget`.
        used: seconds that earlier sessions of the sweep ran.
        began: when this one began, by `now`.
        now: the clock, in seconds; does not count time in which the machine is suspended.
        enough: of a plan, the seeds beyond which none is of use; None where that is not known.

    `slots` is the number of trials that run at once.
    """

    def __init__(
        self,
        study: Study,
        used: float = 0.0,
        began: float | None = None,
        now: Callable[[], float] = time.monotonic,
        enough: Callable[[Plan], int | None] = lambda plan: None,
    ):
        self._study, self._now, self._enough = study, now, enough
        self.seconds = seconds_of(study.time_budget)
        self.slots = 1
        self._earlier, self._began = used, now() if began is None else began
        self._paused = 0.0  # seconds of this session
        self._start: float | None = None  # seconds until the first epoch began
        self._marked, self._taken, self._counted = 0.0, 0.0, 0.0
        self._learnt: tuple[float, EpochTimes] | None = None
        self._laid: tuple[int, list[tuple[Plan, list[RunConfig]]]] | None = None
        self.unplanned: InTime | None = None  # what was weighed where nothing fits

    @property
    def used(self) -> float:
        """Seconds that the sweep has run, in all its sessions."""
        return self._earlier + self.session

    @property
    def session(self) -> float:
        """Seconds that this session has run."""
        return self._now() - self._began - self._paused

    def passes(self, slots: int, paused: float) -> None:
        """Call often. slots: trials that may run at once now; paused: seconds for which this session was paused so far,
        which do not count. Raises OutOfTime once trials may not run any more."""
        self.slots, self._paused = slots or self.slots, paused
        if self.over:
            raise OutOfTime

    @property
    def _report(self) -> float:
        """Seconds that are kept for the report."""
        return min(max(REPORT, self._start or 0.0), MOST_REPORT) + REPORT_SHARE * self.seconds

    @property
    def left(self) -> float:
        return self.seconds - self._report - self.used

    @classmethod
    def check_length(cls, study: Study) -> None:
        """Raise BadRequest for a budget that not even the report fits into."""
        if study.time_budget and seconds_of(study.time_budget) <= REPORT:
            raise cls(study)._too_short(f"the report alone takes about {duration(REPORT)}")

    def check_enough(self, rows: Rows) -> None:
        """Raise BadRequest where the time is over and no trial has reached its full budget."""
        if not self.over or any(row["status"] == Status.COMPLETE for row in rows.values()):
            return
        if any(row["epochs_run"] for row in rows.values()):
            raise self._too_short("none reached its full budget")
        raise self._too_short(f"the start and the report alone take about {duration(self.used + self._report)}")

    def _too_short(self, why: str) -> BadRequest:
        return BadRequest(f"time_budget: {self._study.time_budget} is shorter than one trial: {why}")

    # What was seen so far

    def mark(self, running: int) -> None:
        """Count slots as taken since the last call, in which so many trials ran. Call when that number changes."""
        if self._start is not None:
            self._taken += (self.used - self._marked) * min(running, self.slots)
        self._marked = self.used

    def trained(self, task: Task, rows: Rows, seconds: float) -> None:
        """An epoch of `seconds` was reported. BadRequest where the first shows that no trial can end in time."""
        if self._start is None:
            self._start, self._marked = max(0.0, self.session - seconds), self.used
        else:
            self._counted += seconds
        if any(row["status"] == Status.COMPLETE for row in rows.values()):
            return
        left, epochs = self.left, task.config.epochs - rows[task.trial_id]["epochs_run"]
        if left > 0 and epochs * seconds > left:
            least = duration(self.used + self._report + epochs * seconds)
            raise self._too_short(
                f"its {task.config.epochs} epochs take about {duration(seconds)} each (allowed: at least {least})"
            )

    def _times(self, rows: Rows, fresh: bool = False) -> EpochTimes:
        """What epochs take, learnt from `rows` now or a moment ago."""
        if fresh or self._learnt is None or self.used - self._learnt[0] > FRESH * self.seconds:
            stretch = self._taken / self._counted if self._counted else 1.0
            found = EpochTimes(self._study, rows.values(), min(max(stretch, 1.0), MOST_STRETCH))
            self._learnt = (self.used, found) if found.known else None
            return found
        return self._learnt[1]

    def _remaining(self, times: EpochTimes, tasks: Iterable[Task], rows: Rows) -> list[float]:
        return [
            times.run(task.config, rows[task.trial_id]["arm"] or "", rows[task.trial_id]["epochs_run"])
            for task in tasks
        ]

    # What may begin

    def may_explore(self, running: Mapping[str, Task], rows: Rows, confirms: bool) -> bool:
        """Whether one more trial of pilot or search may begin: where it would end, even if it were not stopped, before
        the time that is kept for confirm runs. confirms: whether there will be any.

        As long as no trial of the search has reached the full budget, more may begin: the plan needs one.
        """
        if self.over:
            return False
        times = self._times(rows)
        if not times.known:
            return True
        trial = times.run(self._study.baseline_config(seed=0), "baseline")
        if not running and not any(
            Phase(r["phase"]).searched and r["status"] == Status.COMPLETE for r in rows.values()
        ):
            return trial <= self.left
        keep = self._kept(times, trial, rows) if confirms and not self.tried else 0.0
        waits = self._remaining(times, running.values(), rows)
        begins = min(waits, default=0.0) if len(waits) >= self.slots else 0.0
        return begins + trial <= self.left - keep

    def _kept(self, times: EpochTimes, trial: float, rows: Rows) -> float:
        """Seconds that are kept for confirm runs: their share, or what the smallest design needs if that is more; 0
        where not even that would fit beside one trial: nothing will be confirmed."""
        weighed = [
            weigh(plan, configs, self._study, times.arms, self.slots, left=0.0, most=0)
            for plan, configs in self._designs(rows)
        ]
        least = min(one.least_seconds for one in weighed)
        usable = self.seconds - self._report - (self._start or 0.0)
        if least + trial <= usable:
            self.unplanned = None
            return max(CONFIRM_SHARE * usable, least)
        self.unplanned = InTime(
            budget=self.seconds, left=self.left, slots=self.slots, asked=self._study.confirm.seeds, enough=None,
            proposed=0, weighed=weighed,
        )  # fmt: skip
        return 0.0

    def _designs(self, rows: Rows) -> Iterable[tuple[Plan, Sequence[RunConfig]]]:
        """The designs that might be run: around the best setting so far, which costs what it costs, or the baseline."""
        whole = [r for r in rows.values() if r["status"] == Status.COMPLETE and Phase(r["phase"]).searched]
        if self._laid is None or self._laid[0] != len(whole):

            def planned(study: Study) -> Plan:
                return make_plan(study, whole, data_hash="", code="") if whole else sketch(study)

            self._laid = len(whole), list(candidates(self._study, planned))
        return self._laid[1]

    def fit(self, rows: Rows) -> Fit:
        """Makes the plan that fits into what is left. Named arms that have not been timed yet are planned as asked for.

        The function raises DoesNotFit where no design fits.
        """
        times = self._times(rows, fresh=True)

        def planned(study: Study, make: Make) -> Plan:
            if not times.known or (study.arms and not times.has(study.arms)):
                return make(study)
            proposed = sum(Phase(row["phase"]).searched for row in rows.values())
            try:
                return fitted(study, make, times.arms, self.slots, self.left, self.seconds, proposed, self._enough)
            except DoesNotFit as error:
                self.unplanned, self.tried = error.found, True
                raise

        return planned

    def may_begin_block(self, block: Planned, running: Mapping[str, Task], rows: Rows, design: str) -> bool:
        """Whether the runs of a block, beside what runs now, would all end in time: surely, but for the blocks that a
        claim needs, which are tried where they are expected to. One that has begun goes on.

        block: those of its runs that are still to be begun, as columns of the trials table and task. design: of the
        plan."""
        arms = {(columns["seed_block"], columns["plan_hash"]) for columns, _ in block}
        if any((row["seed_block"], row["plan_hash"]) in arms for row in rows.values()):
            return True
        times = self._times(rows)
        if self.over or not times.known:
            return not self.over
        runs, margin = times.arms([task.config for _, task in block], [columns["arm"] for columns, _ in block])
        needed = block[0][0]["seed_block"] < least_seeds(self._study.confirm, design)
        busy = self._remaining(times, running.values(), rows)
        return makespan([one * (1.0 if needed else margin) for one in runs], self.slots, busy) <= self.left

    # What is told

    def record(self) -> dict[str, Any]:
        """For sweep.json."""
        unplanned = None if self.unplanned is None else self.unplanned.model_dump(mode="json")
        return {"seconds": self.seconds, "unplanned": unplanned, "blocks_not_begun": self.not_begun}

    @property
    def line(self) -> str:  # type: ignore[override]
        """What is left of it, for the live view."""
        return f"{duration(max(0.0, self.seconds - self.used))} of {duration(self.seconds)} left"
