"""Before anything is claimed: how far seeds spread, what the planned number of them can find, what is not compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from resnetlab.analysis.confirm.images import FROM_PREDICTIONS
from resnetlab.analysis.confirm.power import POWER, NoiseFloor, outlook, pooled_sd
from resnetlab.analysis.confirm.verdicts import not_compared
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.planning.making import sketch
from resnetlab.planning.plan import Plan, asked
from resnetlab.study import Study
from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.records import Phase
from resnetlab.study.sections.confirm import MIN_REPLANNED
from resnetlab.wording import plural

DIFFER = (0.005, 0.02, 0.05)  # shares of the images on which two arms may differ
PLAUSIBLE = (0.25, 0.5, 0.75, 1.0)  # seed-to-seed sd where none is measured: points, else parts of delta


def foresight(study: Study, results: Results | None = None, test_images: int = 0) -> Iterator[str]:
    """Lines for a dry run: the noise floor, the smallest effect that the planned seeds find, the seeds and epochs that
    delta needs, what no number of seeds finds, the hypotheses. results: the study's results folder, where there is one;
    test_images: of its data, 0 where that is not known."""
    if study.confirm.design == "none":
        return
    plan = _plan(study, results)
    metric = plan.metric
    floor = None if results is None else replicates(results.trials, plan)
    if floor is None or not floor.known or not floor.sd > 0:
        where = "" if results is None else f" ({results.folder.url} has no arm with two runs at the full budget)"
        where += f"; --phase pilot{'' if study.confirm.pilot else ' --set confirm.pilot=3'} measures it"
        yield f"noise floor: not measured yet{where}; the table below assumes several values of the seed sd"
        spreads: Sequence[float] = [sd * (1 if metric.fraction else plan.delta) for sd in PLAUSIBLE]
    else:
        spreads = low, sd, high = [metric.scale * sd for sd in (floor.low, floor.sd, floor.high)]
        yield (
            f"noise floor: seeds alone spread by {_size(sd, metric, True)} (standard deviation over {floor.runs} "
            f"runs of {floor.arms} arms, 95% interval {_size(low, metric)} … {_size(high, metric)})"
        )
    yield from _table(study, plan, spreads)
    yield from _of_images(plan, test_images)
    yield (
        f"seeds are fixed by the plan ({plan.seeds}): once it has runs, --extend adds seeds as a second plan beside "
        "it; fewer make a new plan, with fresh runs of every arm"
    )
    if plan.looks is None and plan.seeds >= MIN_REPLANNED:
        yield "looks after each block would stop what is settled before all of them have run: confirm.looks: blocks"
    for found in study.declared:
        why = not_compared(plan, found)
        yield f"hypothesis: {found.text}" + (f": not compared: {why}" if why else "")


def _size(value: float, metric: Metric, unit: bool = False) -> str:
    """A difference as people read it: value in the unit of delta."""
    text = f"{value:.{metric.digits}f}"
    return f"{text} {metric.effect.unit}".rstrip() if unit else text


def replicates(trials: pd.DataFrame, plan: Plan | None = None) -> NoiseFloor:
    """The spread of seeds within the pilot and each arm of each plan in the trials table: the metric at the full
    budget. Runs that collapsed are left out: as the plan knows them, or of accuracy below half of their arm's best."""
    runs = full_budget(trials[trials["phase"].isin([Phase.PILOT, Phase.CONFIRM])])
    name = plan.metric.name if plan else "test_accuracy"
    groups = []
    for _, part in runs[runs[name].notna()].groupby(["plan_hash", "design_row"], dropna=False):
        values = part[name].to_numpy(dtype=float)
        groups.append(values[~_collapsed(plan, values)])
    return pooled_sd(groups)


def _collapsed(plan: Plan | None, values: np.ndarray) -> np.ndarray:
    metric = plan.metric if plan else METRICS["test_accuracy"]
    levels = np.array(plan.collapsed_up_to if plan else [], dtype=float)
    if not np.isnan(levels).all():
        return np.asarray(metric.sign * values <= metric.sign * np.nanmin(levels))
    return np.asarray(values < (values.max() / 2 if metric == METRICS["test_accuracy"] else -np.inf))


def _plan(study: Study, results: Results | None) -> Plan:
    """The plan that is in force, or the one on further seeds that follows it; else what it would be around the
    baseline."""
    made = results.plan if results is not None else None
    if made is None or results is None or made.seeds_short(asked(study)) is None:
        return sketch(study)
    if made.asked == asked(study):
        return made
    return sketch(study) if results.confirm.empty else made.on_further_seeds(study, made.code)


def _table(study: Study, plan: Plan, spreads: Sequence[float]) -> Iterator[str]:
    """One line for each spread (in the unit of delta) and kind of comparison, with Holm's adjustment."""
    metric = plan.metric
    in_ = f", in {metric.effect.unit}" if metric.effect.unit else ""
    seeds = f"{plural(plan.seeds, 'seed')} {'finds' if plan.seeds == 1 else 'find'}"
    yield f"power {POWER:.0%} (two-sided alpha {plan.alpha:g}, adjusted for the number of comparisons){in_}:"
    yield f"  {'seed sd':<9}{'comparison':<46}{'tests':<7}{seeds:<16}{plan.delta_text} need"
    for sd in spreads:
        ahead = outlook(plan, sd / metric.scale, study.search.epochs)
        for row in ahead[ahead["holm"]].itertuples(index=False) if len(ahead) else ():
            least = _size(metric.scale * row.detectable, metric) if np.isfinite(row.detectable) else "no interval"
            needs = "no number of seeds"
            if not np.isnan(row.seeds_needed):
                needs = f"{row.seeds_needed:,.0f} seeds, {row.epochs_needed:,.0f} epochs"
            yield f"  {_size(sd, metric):<9}{row.estimand:<46}{row.tests:<7}{least:<16}{needs}"
    yield from _shorter(study, plan, spreads[len(spreads) // 2])


def _first(ahead: pd.DataFrame) -> float:
    """What the first kind of comparison detects with Holm's adjustment, a fraction."""
    return float(ahead[ahead["holm"]]["detectable"].iloc[0])


def _of_images(plan: Plan, images: int) -> Iterator[str]:
    """What no number of seeds can find on new images: where two arms differ on so many of them, however many seeds
    there are, the spread of these differences over a finite test set remains."""
    if plan.about != "new" or plan.splits != "fixed" or not images or plan.metric.name not in FROM_PREDICTIONS:
        return
    tests = max(int(outlook(plan, 0.01, 1)["tests"].max()) if len(outlook(plan, 0.01, 1)) else 1, 1)
    reach = float(stats.norm.isf(plan.alpha / tests / 2) + stats.norm.ppf(POWER))
    least = {share: reach * (share / images) ** 0.5 for share in DIFFER}
    said = [f"{_size(plan.metric.scale * x, plan.metric)} ({share:.1%})" for share, x in least.items()]
    yield (
        f"verdicts are about new images, of which the {images:,} test images are a sample. Smallest differences that "
        f"any number of seeds finds, by the share of images on which two arms differ: {', '.join(said)}"
    )
    beyond = [share for share, x in least.items() if x > plan.least_effect]
    if beyond:
        yield (
            f"  where arms differ on {min(beyond):.1%} of the images or more, no number of seeds finds "
            f"{plan.delta_text}: use a larger test set, or confirm.images: these (verdicts about these images alone)"
        )


def _shorter(study: Study, plan: Plan, sd: float) -> Iterator[str]:
    """The same epochs spent on more and shorter runs, which trades what training ends at for what can be told apart."""
    if study.search.epochs < 4 or not len(outlook(plan, sd / plan.metric.scale, study.search.epochs)):
        return
    more, metric = plan.model_copy(update={"seeds": 2 * plan.seeds}), plan.metric
    now, then = (_first(outlook(one, sd / metric.scale, study.search.epochs)) for one in (plan, more))
    if np.isfinite(then):
        found = _size(metric.scale * now, metric) if np.isfinite(now) else "nothing"
        yield (
            f"  the same epochs as {more.seeds} seeds of {study.search.epochs // 2} epochs would find "
            f"{_size(metric.scale * then, metric)} instead of {found} at seed sd {_size(sd, metric)}, of effects "
            f"visible by then (--set confirm.seeds={more.seeds} --set search.epochs={study.search.epochs // 2}, under "
            "another --name)"
        )
