"""Simulated sweeps with a time budget: do they end in time, what share is the search worth, what does it leave idle.

python benchmarks/time_budget.py                 20 sweeps of each kind
python benchmarks/time_budget.py --only tail     one of the tables: how much of the slots' time the search leaves idle
"""

from __future__ import annotations

import argparse

import numpy as np

from resnetlab.analysis.confirm.power import main_effect
from resnetlab.calibration.simulator import Memory, SimulatedClock, drive
from resnetlab.calibration.timed_sweeps import TRUTH, WORLDS, World, one_sweep, pace, timed_study
from resnetlab.sweep import time_budget
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

FACTS = {"git_revision": "simulated", "versions": "{}"}


def make(study, store, time):
    return Sweep(study, store, FACTS, one_dataset(study, "simulated", [str(n) for n in range(10)]), time=time)


def worlds(n: int) -> None:
    print(
        "| budget | s an epoch | slots | jitter, speeds | killed | most used | used | designs | all blocks | ragged |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for world in WORLDS:
        found = [one_sweep(make, world, seed) for seed in range(n)]
        shares = [one["share"] for one in found]
        designs = sorted({str(one["design"]) for one in found})
        named = ", ".join(f"{sum(str(one['design']) == name for one in found)} {name}" for name in designs)
        planned = [one for one in found if one["planned"]]
        whole = sum(one["whole"] == one["planned"] for one in planned)
        print(
            f"| {world.budget} | {world.epoch:g} | {world.slots} | {world.jitter:g}, {world.speeds:g} | "
            f"{'no' if world.kill is None else 'once'} | {max(shares):.1%} | {np.mean(shares):.1%} | {named} | "
            f"{whole} of {len(planned)} | {sum(one['ragged'] > 0 for one in found)} |"
        )


def shares(n: int) -> None:
    """What the share that is kept for confirm runs costs the incumbent, and gives the intervals."""
    kept = time_budget.CONFIRM_SHARE
    print("\n| kept for confirm runs | trials | incumbent behind the best (points) | smallest effect at seed sd 0.74 |")
    print("|---|---|---|---|")
    for share in (1 / 3, 1 / 2, 2 / 3, 4 / 5, 9 / 10):
        time_budget.CONFIRM_SHARE = share
        found = [one_sweep(make, World("10m", 1.5, 2, trials=100), seed) for seed in range(n)]
        planned = [one for one in found if one["whole"] > 1]
        least = [main_effect(one["arms"]).detectable(0.74, one["whole"], 0.05 / 3) for one in planned]
        print(
            f"| {share:.0%} | {np.mean([one['proposed'] for one in found]):.1f} | "
            f"{np.mean([one['regret'] for one in planned]):.2f} | {np.mean(least):.2f} (n = {len(planned)}) |"
        )
    time_budget.CONFIRM_SHARE = kept


class Watched(Sweep):
    """Adds up the time of idle slots before there is a plan."""

    def watch(self, clock, slots):
        self._clock, self._slots, self._at, self.idle = clock, slots, 0.0, 0.0
        return self

    def _mark(self):
        if self.plan is None:
            self.idle += max(0, self._slots - len(self.running)) * (self._clock.now - self._at)
        self._at = self._clock.now

    def next(self):
        self._mark()
        return super().next()

    def report(self, trial_id, report):
        self._mark()
        return super().report(trial_id, report)


def tail(n: int) -> None:
    """What of the slots' time is idle before the plan, in sweeps without a budget."""
    print("\n| slots | idle before the plan, of the whole sweep |\n|---|---|")
    for slots in (2, 4, 8):
        found = []
        for seed in range(n):
            world, clock = World("10m", 1.0, slots), SimulatedClock()
            study = timed_study(world, seed).model_copy(update={"time_budget": ""})
            sweep = Watched(study, Memory(), FACTS, one_dataset(study, "simulated", list("0123456789")))
            drive(sweep.watch(clock, slots), TRUTH, slots, pace=pace(world, seed), clock=clock)
            found.append(sweep.idle / (slots * clock.now))
        print(f"| {slots} | {np.mean(found):.1%} (n = {n}) |")


TABLES = {"worlds": worlds, "shares": shares, "tail": tail}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20, help="sweeps in each world")
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    given = parser.parse_args()
    for name in [given.only] if given.only else TABLES:
        TABLES[name](given.n)
