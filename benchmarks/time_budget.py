"""Simulated sweeps with a time budget: how many end in time, what they leave unused, what share the search is worth.

python benchmarks/time_budget.py            20 sweeps in each world, and four shares kept for confirm runs
python benchmarks/time_budget.py --n 5      fewer
"""

from __future__ import annotations

import argparse

import numpy as np

from resnetlab.analysis.confirm.power import cube
from resnetlab.calibration.timed_sweeps import WORLDS, World, one_sweep
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
        least = [cube(one["arms"]).detectable(0.74, one["whole"], 0.05 / 3) for one in planned]
        print(
            f"| {share:.0%} | {np.mean([one['proposed'] for one in found]):.1f} | "
            f"{np.mean([one['regret'] for one in planned]):.2f} | {np.mean(least):.2f} (n = {len(planned)}) |"
        )
    time_budget.CONFIRM_SHARE = kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20, help="sweeps in each world")
    parser.add_argument("--only", choices=["worlds", "shares"], help="one of the two tables")
    given = parser.parse_args()
    if given.only != "shares":
        worlds(given.n)
    if given.only != "worlds":
        shares(given.n)
