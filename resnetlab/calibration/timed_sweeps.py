"""Simulated sweeps with a time budget: do they end in time, what do they leave unused, what does the search gain.

As in `sweeps`, the caller gives the state machine's constructor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnetlab.calibration.simulator import Memory, SimulatedClock, Truth, drive
from resnetlab.experiment.messages import Task
from resnetlab.study import Study, build_study
from resnetlab.study.records import Phase, Status
from resnetlab.study.trial_config import of_images
from resnetlab.sweep.time_budget import TimeBudget
from resnetlab.wording import seconds_of

MakeSweep = Callable[[Study, Memory, TimeBudget], Any]
TRUTH = Truth(
    main={"kernel": {5: 1.0}, "blocks": {3: 0.5}, "shortcut": {True: 0.3}}, tuned=(({}, "lr", 0.1, 3.0),), wobble=0.5
)


@dataclass(frozen=True)
class World:
    """A machine and a budget.

    budget: as a study has it. epoch: seconds of one epoch of the cheapest arm, of which others take up to 2.2 times as
    much. jitter, speeds: relative, from epoch to epoch and from trial to trial (slots differ). start, report: seconds
    before the first epoch of a session and after the last. kill: at which second the driver is killed; None: never.
    trials: that the search may propose.
    """

    budget: str
    epoch: float
    slots: int
    jitter: float = 0.1
    speeds: float = 0.1
    start: float = 12.0
    report: float = 10.0
    kill: float | None = None
    trials: int = 10


WORLDS = tuple(
    World(budget, epoch, slots, jitter, speeds, kill=kill)
    for budget, epoch, slots in (("3m", 1.0, 2), ("10m", 1.0, 2), ("40m", 8.0, 4), ("8h", 60.0, 8), ("10m", 10.0, 2))
    for jitter, speeds, kill in ((0.1, 0.1, None), (0.3, 0.1, None), (0.1, 0.3, None), (0.2, 0.2, 100.0))
)


def timed_study(world: World, seed: int, **confirm: Any) -> Study:
    """The default study in small words: three factors of two levels, a learning rate, ASHA, a factorial design."""
    return build_study(
        {
            "name": "timed",
            "dataset": {"name": "glyphs"},
            "seed": seed,
            "time_budget": world.budget,
            "baseline": {"blocks": 2, "kernel": 3, "lr": 0.2},
            "factors": {
                "blocks": {"levels": [2, 3]},
                "kernel": {"levels": [3, 5]},
                "shortcut": {"levels": [True, False]},
                "lr": {"low": 0.03, "high": 1.0, "log": True},
            },
            "search": {"trials": world.trials, "epochs": 5, "grace_period": 1, "reduction_factor": 3},
            "confirm": {"design": "factorial", "seeds": 3, **confirm},
        },
        "simulated",
    )


def pace(world: World, seed: int) -> Callable[[Task, int], float]:
    """Seconds of each epoch: by the setting, the slot's speed, and chance."""
    rng = np.random.default_rng(seed)
    speeds: dict[str, float] = {}

    def seconds(task: Task, epoch: int) -> float:
        config = of_images(task.config)
        speed = speeds.setdefault(task.trial_id, np.exp(world.speeds * rng.standard_normal()))
        costs = (1 + 0.6 * (config.blocks == 3)) * (1 + 0.4 * (config.kernel == 5))
        return float(world.epoch * costs * speed * np.exp(world.jitter * rng.standard_normal()))

    return seconds


def one_sweep(make: MakeSweep, world: World, seed: int, truth: Truth = TRUTH, **confirm: Any) -> dict[str, Any]:
    """Run one sweep in a world and say how it ended.

    Keys: share (of the budget that it took), design, arms, planned and whole (blocks of the plan, and those that ended
    whole), ragged (blocks with some runs, but not all), proposed, regret (points that the design's centre is behind the
    best setting); sweep and store, as they were left.
    """
    study, store, clock, used = timed_study(world, seed, **confirm), Memory(), SimulatedClock(), 0.0
    seconds = pace(world, seed)
    for until in (np.inf,) if world.kill is None else (world.kill, np.inf):
        clock.until = until
        time = TimeBudget(study, used, clock.now, clock)
        time.slots = world.slots
        clock.now += world.start
        sweep = make(study, store, time)
        drive(sweep, truth, world.slots, pace=seconds, clock=clock)
        used = time.used
        if sweep.finished or time.over:
            break
        clock.now += 5000.0  # nobody runs it
    runs = [row for row in store.trials.values() if row["phase"] == Phase.CONFIRM]
    plan, blocks = sweep.plan, [row["seed_block"] for row in runs if row["status"] == Status.COMPLETE]
    counts = {block: blocks.count(block) for block in set(blocks)}
    arms = 0 if plan is None else len(plan.arms)
    centre = None if plan is None else truth.mean(plan.incumbent)
    best = truth.mean({"kernel": 5, "blocks": 3, "shortcut": True, "lr": 0.1})
    return {
        "share": (used + world.report) / seconds_of(world.budget),
        "design": None if plan is None else plan.design,
        "arms": arms,
        "planned": 0 if plan is None else plan.seeds,
        "whole": sum(number == arms for number in counts.values()),
        "ragged": sum(0 < number < arms for number in counts.values()),
        "proposed": sum(Phase(row["phase"]).searched for row in store.trials.values()),
        "regret": None if centre is None else best - centre,
        "sweep": sweep,
        "store": store,
    }
