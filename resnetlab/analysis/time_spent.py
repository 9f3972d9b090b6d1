"""What a time budget allowed, what is left of it, and what more time would give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from resnetlab.analysis.confirm.power import outlook, seed_noise
from resnetlab.analysis.results import Results
from resnetlab.planning.in_time import InTime
from resnetlab.planning.plan import Plan
from resnetlab.wording import duration, plural, seconds_of


def in_words(results: Results) -> list[str]:
    """Sentences; none where the study has no time budget and its plan was not fitted to one."""
    study, plan = results.study, results.plan
    record = results.sweep.get("time_budget") or {}
    if not study.time_budget and (plan is None or plan.time is None):
        return []
    said = []
    if study.time_budget:
        budget, used = seconds_of(study.time_budget), float(results.sweep.get("used_seconds") or 0.0)
        said.append(
            f"Time budget {duration(budget)}: the sweep ran for {duration(used)} before this report, so "
            f"{duration(max(0.0, budget - used))} were left for it and unused."
        )
    if plan is not None:
        said += _fitted(plan, len(results.explore), study.explore_trials)
        if blocks := int(record.get("blocks_not_begun") or 0):
            said.append(f"{plural(blocks, 'block')} of seeds would not have ended in time and were not begun.")
        said += _with_more(results, plan)
    elif record.get("unplanned"):
        said.append(f"Nothing is confirmed for lack of time: {left_out(InTime(**record['unplanned']))}")
    return said


def _fitted(plan: Plan, proposed: int, asked: int) -> Iterator[str]:
    found = plan.time
    if found is None or found.chosen is None:
        yield "The plan was made without a time budget, and stands."
        return
    chosen = found.chosen
    search = f"The search had proposed {found.proposed} of {asked} trials. " if asked else ""
    yield (
        f"{search}The plan was fitted to the {duration(found.left)} that were left then"
        f"{f' of {duration(found.budget)}' if found.left < found.budget else ''}, by the clock"
        f"{' and the spread of the pilot' if found.enough is not None else ''}: {chosen.design}, {chosen.arms} arms × "
        f"{plan.seeds} seeds; without a budget the study asks for {plural(found.asked, 'seed')}."
    )
    for other in found.weighed:
        if not other.fits:
            yield (
                f"There was no time for {other.design}: its {other.arms} arms take {duration(other.least_seconds)} "
                f"with the {other.least} seeds that a claim needs at least."
            )
    if found.enough is not None and chosen.fits >= max(found.enough, found.asked):
        yield f"More than {plan.seeds} seeds are of no use at the spread of the pilot, so time was left unused."


def _with_more(results: Results, plan: Plan) -> Iterator[str]:
    """What twice the budget would find, at the spread of seeds that was seen."""
    found, noise = plan.time, seed_noise(results, plan.metric.name)
    if found is None or found.chosen is None or not noise.sd > 0:
        return
    more = plan.model_copy(update={"seeds": plan.seeds + int(found.budget / found.chosen.block_seconds)})
    now, then = (detectable(one, noise.sd) for one in (plan, more))
    yield (
        f"Effects of {now} could be found with {plan.seeds} seeds (80% power); with {duration(2 * found.budget)} about "
        f"{more.seeds} seeds would find {then}."
    )


def detectable(plan: Plan, sd: float) -> str:
    """The smallest effect that a plan finds with 80% power, as people read it. sd: of seeds, as in the tables."""
    ahead = outlook(plan, sd, 1)
    least = float(ahead[ahead["holm"]]["detectable"].iloc[0]) if len(ahead) else np.inf
    if not np.isfinite(least):
        return "no size"
    return f"{plan.metric.scale * least:.{plan.metric.digits}f} {plan.metric.effect.unit}".rstrip()


def left_out(found: InTime) -> str:
    """Why nothing fits, and what would."""
    least = min(found.weighed, key=lambda one: one.least_seconds)
    needs = found.budget - found.left + least.least_seconds
    return (
        f"{least.design}, the smallest design, takes {duration(least.least_seconds)} with the {least.least} seeds that "
        f"a claim needs at least, and {duration(max(0.0, found.left))} are left. A budget "
        f"of {duration(60 * np.ceil(needs / 60))} has room for it."
    )
