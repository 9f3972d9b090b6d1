"""Which design, on how many seeds, fits into the time that is left.

Decided by seconds and by how far the pilot's seeds spread. No other result of a run is looked at, so that the errors of
what is confirmed stay what they are: a plan that was fitted to time is a plan that someone with less time had made.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from resnetlab.planning.in_time import InTime, Weighed
from resnetlab.planning.plan import Plan, asked
from resnetlab.study import Study
from resnetlab.study.sections.confirm import CROSSED, MAX_LOOKED, MIN_LOOKED, MIN_REPLANNED, ConfirmSettings
from resnetlab.study.trial_config import RunConfig

# By which design one that needs too much time is replaced. One factor at a time has the fewest arms of all.
SMALLER = {"factorial": ("fractional", "one-factor"), "fractional": ("one-factor",), "d-optimal": ("one-factor",)}
LEAST_CROSSED, LEAST_SINGLE = 2, 3  # seeds: with fewer, no effect of any plausible size can be told (see LOG.md)
MOST_SEEDS = 1000  # as `confirm.seeds`

# What one run of each of these arms is expected to take, and how many times as much all together may take.
ArmSeconds = Callable[[Sequence[RunConfig], Sequence[str]], tuple[list[float], float]]
Make = Callable[[Study], Plan]
Fit = Callable[[Study, Make], Plan]  # the study's plan, or a smaller one, by what makes them


class DoesNotFit(Exception):
    """No design with enough seeds to carry a claim ends in time. found: what was weighed."""

    def __init__(self, found: InTime):
        super().__init__("no design fits into the time that is left")
        self.found = found


def makespan(runs: Sequence[float], slots: int, busy: Sequence[float] = ()) -> float:
    """Seconds until the last of `runs` has ended, each taken in order by the first of `slots` that is free. busy:
    seconds that slots still need for what runs now."""
    free = [*busy, *[0.0] * (max(slots, 1) - len(busy))]
    heapq.heapify(free)
    last = max(free)
    for seconds in runs:
        ends = free[0] + seconds
        heapq.heapreplace(free, ends)
        last = max(last, ends)
    return last


def most_blocks(block: Sequence[float], slots: int, left: float, most: int) -> int:
    """How many blocks, each of runs that take `block` seconds, end within `left`, at most `most`."""
    free, last = [0.0] * max(slots, 1), 0.0
    for number in range(most):
        for seconds in block:
            last = max(last, ends := free[0] + seconds)
            heapq.heapreplace(free, ends)
        if last > left:
            return number
    return most


def candidates(study: Study, make: Make) -> Iterator[tuple[Plan, list[RunConfig]]]:
    """The designs that the study may fall back to, what it asks for first, each with the configs of its arms. make: of
    a study, its plan."""
    fewest: float = math.inf
    for design in (study.confirm.design, *SMALLER.get(study.confirm.design, ())):
        smaller = with_confirm(study, design, study.confirm.seeds)
        if smaller is None:
            continue
        plan = make(smaller)
        if len(plan.arms) < fewest:
            fewest = len(plan.arms)
            first = zip(range(len(plan.arms)), plan.trials(smaller), strict=False)
            yield plan, [config for _, (*_, config) in first]


def with_confirm(study: Study, design: str, seeds: int) -> Study | None:
    """The study with another design and number of seeds; None where it cannot have that design."""
    old = study.confirm
    changes: dict[str, Any] = {"design": design, "seeds": seeds}
    if design != "d-optimal":
        changes["arms"] = None
    changes["reestimate"] = old.reestimate and design in CROSSED and seeds >= MIN_REPLANNED
    if design == "fractional" and not 2 <= len(study.compared_factors()) <= 8:
        return None
    return study.model_copy(update={"confirm": old.model_copy(update=changes)})


def least_seeds(confirm: ConfirmSettings, design: str) -> int:
    """The fewest seeds that carry a claim in a design."""
    least = LEAST_SINGLE if design in ("one-factor", "arms") else LEAST_CROSSED
    return max(least, MIN_LOOKED) if confirm.looks != "none" else least


def weigh(
    plan: Plan, configs: Sequence[RunConfig], study: Study, seconds: ArmSeconds, slots: int, left: float, most: int
) -> Weighed:
    """How many seeds of one design fit into `left` seconds on so many slots, at most `most`: surely, but for the least,
    which are tried where they are expected to fit."""
    block, margin = seconds(configs, [arm.name for arm in plan.arms])
    least = least_seeds(study.confirm, plan.design)
    least_seconds = makespan(block * least, slots)
    fits = most_blocks([margin * one for one in block], slots, left, max(most, least))
    fits = least if fits < least and least_seconds <= left else fits
    return Weighed(
        design=plan.design,
        arms=len(block),
        least=least,
        least_seconds=least_seconds,
        fits=fits if fits >= least else 0,
        block_seconds=margin * sum(block) / max(slots, 1),
    )


def fitted(
    study: Study,
    make: Make,
    seconds: ArmSeconds,
    slots: int,
    left: float,
    budget: float,
    proposed: int,
    enough: Callable[[Plan], int | None] = lambda plan: None,
) -> Plan:
    """The plan that fits into the time that is left, with what it was chosen by.

    The first design with enough seeds is taken: one that crosses factors tells more in as many runs. Its seeds are as
    many as fit: also more than the study asks for, up to what is enough.

    Args:
        study: as it is asked for.
        make: of a study, its plan.
        seconds: what runs take.
        slots: runs that train at once.
        left: seconds for confirm runs, without what the report takes.
        budget: seconds of the whole sweep, as the plan records it.
        proposed: explore trials so far, as the plan records it.
        enough: of a plan, the seeds beyond which none is of use; None where that is not known.

    Raises:
        DoesNotFit: not even the design with the fewest runs ends in time.
    """
    weighed: list[Weighed] = []
    needed: int | None = None
    for plan, configs in candidates(study, make):
        needed = enough(plan)
        most = MOST_SEEDS if study.confirm.looks == "none" else MAX_LOOKED
        most = most if needed is None else min(most, max(needed, study.confirm.seeds))
        weighed.append(weigh(plan, configs, study, seconds, slots, left, most))
        if weighed[-1].fits:
            break
    found = InTime(
        budget=budget, left=left, slots=slots, asked=study.confirm.seeds, enough=needed, proposed=proposed,
        weighed=weighed,
    )  # fmt: skip
    chosen = found.chosen
    smaller = None if chosen is None else with_confirm(study, chosen.design, chosen.fits)
    if smaller is None:
        raise DoesNotFit(found)
    return make(smaller).model_copy(update={"time": found, "asked": asked(study)})
