"""Before anything is claimed: how far seeds spread, what the planned number of them can find, what is not compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.confirm_runs import collapsed
from resnetlab.analysis.confirm.power import POWER, NoiseFloor, outlook, pooled_sd
from resnetlab.analysis.confirm.verdicts import not_compared
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.planning.plan import Plan, asked, sketch
from resnetlab.study import Study
from resnetlab.study.records import Phase
from resnetlab.wording import plural

PLAUSIBLE = (0.25, 0.5, 0.75, 1.0)  # seed-to-seed standard deviations in points, where none is measured


def foresight(study: Study, results: Results | None = None) -> Iterator[str]:
    """Lines for a dry run: the noise floor, the smallest effect that the planned seeds find, the seeds and epochs that
    delta needs, the hypotheses. results: the study's results folder, where there is one."""
    if study.confirm.design == "none":
        return
    plan = _plan(study, results)
    floor = None if results is None else replicates(results.trials, plan)
    if floor is None or not floor.known or not floor.sd > 0:
        where = "" if results is None else f" ({results.folder.url} has no arm with two runs at the full budget)"
        where += f"; --phase pilot{'' if study.confirm.pilot else ' --set confirm.pilot=3'} measures it"
        yield f"noise floor: not measured yet{where}; the table below assumes several values of the seed sd"
        spreads: Sequence[float] = PLAUSIBLE
    else:
        yield (
            f"noise floor: seeds alone spread by {100 * floor.sd:.2f} points (standard deviation over {floor.runs} "
            f"runs of {floor.arms} arms, 95% interval {100 * floor.low:.2f} … {100 * floor.high:.2f})"
        )
        spreads = tuple(100 * sd for sd in (floor.low, floor.sd, floor.high))
    yield from _table(study, plan, spreads)
    yield f"seeds are fixed by the plan ({plan.seeds}): another number makes a new plan, with fresh runs of every arm"
    for found in study.declared:
        why = not_compared(plan, found)
        yield f"hypothesis: {found.text}" + (f": not compared: {why}" if why else "")


def replicates(trials: pd.DataFrame, plan: Plan | None = None) -> NoiseFloor:
    """The spread of seeds within the pilot and each arm of each plan in the trials table: test accuracy at the full
    budget. Runs that collapsed are left out: below what the plan says, without one below half of their arm's best."""
    runs = full_budget(trials[trials["phase"].isin([Phase.PILOT, Phase.CONFIRM])])
    groups = []
    for _, part in runs[runs["test_accuracy"].notna()].groupby(["plan_hash", "design_row"], dropna=False):
        values = part["test_accuracy"].to_numpy(dtype=float)
        least = plan.collapse * plan.chosen_val_accuracy if plan and plan.chosen_val_accuracy else values.max() / 2
        groups.append(values[~collapsed(values, least)])
    return pooled_sd(groups)


def _plan(study: Study, results: Results | None) -> Plan:
    """The plan that is in force, else what it would be around the baseline."""
    made = results.plan if results is not None else None
    return made if made is not None and made.asked == asked(study) else sketch(study)


def _table(study: Study, plan: Plan, spreads: Sequence[float]) -> Iterator[str]:
    """One line for each spread (points) and kind of comparison, with Holm's adjustment."""
    seeds = f"{plural(plan.seeds, 'seed')} {'finds' if plan.seeds == 1 else 'find'}"
    yield f"power {POWER:.0%} (two-sided alpha {plan.alpha:g}, adjusted for the number of comparisons), in points:"
    yield f"  {'seed sd':<9}{'comparison':<46}{'tests':<7}{seeds:<16}{plan.delta:g} points need"
    for sd in spreads:
        ahead = outlook(plan, sd / 100, study.search.epochs)
        for row in ahead[ahead["holm"]].itertuples(index=False) if len(ahead) else ():
            least = f"{100 * row.detectable:.2f}" if np.isfinite(row.detectable) else "no interval"
            needs = "no number of seeds"
            if not np.isnan(row.seeds_needed):
                needs = f"{row.seeds_needed:,.0f} seeds, {row.epochs_needed:,.0f} epochs"
            yield f"  {sd:<9.2f}{row.estimand:<46}{row.tests:<7}{least:<16}{needs}"
    yield from _shorter(study, plan, spreads[len(spreads) // 2])


def _first(ahead: pd.DataFrame) -> float:
    """What the first kind of comparison detects with Holm's adjustment, a fraction."""
    return float(ahead[ahead["holm"]]["detectable"].iloc[0])


def _shorter(study: Study, plan: Plan, sd: float) -> Iterator[str]:
    """The same epochs spent on more and shorter runs, which trades what training ends at for what can be told apart."""
    if study.search.epochs < 4 or not len(outlook(plan, sd / 100, study.search.epochs)):
        return
    more = plan.model_copy(update={"seeds": 2 * plan.seeds})
    now, then = (_first(outlook(one, sd / 100, study.search.epochs)) for one in (plan, more))
    if np.isfinite(then):
        found = f"{100 * now:.2f}" if np.isfinite(now) else "nothing"
        yield (
            f"  the same epochs as {more.seeds} seeds of {study.search.epochs // 2} epochs would find {100 * then:.2f} "
            f"instead of {found} at seed sd {sd:.2f}, of effects visible by then (--set confirm.seeds={more.seeds} "
            f"--set search.epochs={study.search.epochs // 2}, under another --name)"
        )
