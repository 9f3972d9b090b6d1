"""What a study could find in some amounts of time on this machine, said before it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnetlab.analysis.confirm.power import enough_seeds
from resnetlab.analysis.confirm.power_preview import PLAUSIBLE, replicates
from resnetlab.analysis.results import Results
from resnetlab.analysis.time_spent import detectable, left_out
from resnetlab.driver.dry_run import explore_epochs, pilot_epochs
from resnetlab.planning.affordable import ArmSeconds, DoesNotFit, fitted
from resnetlab.planning.making import sketch
from resnetlab.study import Study
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import RunConfig, of_images
from resnetlab.sweep.epoch_times import EpochTimes
from resnetlab.sweep.task import data_key
from resnetlab.sweep.time_budget import CONFIRM_SHARE, REPORT, REPORT_SHARE
from resnetlab.vision.data import Dataset
from resnetlab.wording import duration, plural, seconds_of

BUDGETS = (600.0, 3600.0, 8 * 3600.0)
START = 15.0  # seconds until the first epoch begins
TIMED, MOST_TIMED = 0.3, 10.0  # seconds of steps of one arm, and of all of them
OUTSIDE = 1.1  # an epoch's time, by that of its training steps


def in_time(
    study: Study, results: Results | None, datasets: Mapping[str, Dataset], most: int | None = None
) -> Iterator[str]:
    """A line for each budget: the design and seeds that fit, and the smallest effect that these find.

    results: the study's results folder, where there is one: its epochs tell what one takes. Else, where the study has a
    time budget and trains built-in networks on this machine's CPU, a few steps of each arm are timed. most: trials that
    may run at once.
    """
    if study.confirm.design == "none":
        return
    rows = (
        [] if results is None else results.trials.astype(object).where(results.trials.notna(), None).to_dict("records")
    )
    times, where = EpochTimes(study, rows), "as recorded"
    seconds: ArmSeconds = times.arms
    if not times.known or (study.arms and not times.has(study.arms)):
        if not _can_be_timed(study):
            yield (
                "time: what an epoch takes is not known before some were run; then this says what 10 min, 1 h and 8 h "
                "could find (--phase pilot --set confirm.pilot=3 runs a few)"
            )
            return
        if not study.time_budget:
            yield "time: --dry-run --time-budget 1h times a few steps and says what 10 min, 1 h and 8 h could find here"
            return
        here, where = _timed(study, datasets), "as a few steps took here"
        seconds = here
    slots = max(1, int((os.cpu_count() or 1) / study.resources.cpus))
    if results is not None and results.sweep.get("slots"):
        slots = int(results.sweep["slots"])
    slots = min(slots, most or slots)
    plan = sketch(study)
    first = [config for _, (*_, config) in zip(plan.arms, plan.trials(study), strict=False)]
    epoch = sum(seconds(first, [arm.name for arm in plan.arms])[0]) / sum(config.epochs for config in first)
    floor = None if results is None else replicates(results.trials, plan)
    known = floor is not None and floor.known and floor.sd > 0
    sd = floor.sd if floor is not None and known else PLAUSIBLE[1] * (0.01 if plan.metric.fraction else plan.delta)
    spread = f"{plan.metric.scale * sd:.{plan.metric.digits}f} {plan.metric.effect.unit}".rstrip()
    yield (
        f"time: about {epoch:.2g} s an epoch ({where}), {plural(slots, 'trial')} at once, seed sd {spread} "
        f"({'measured' if known else 'assumed'}). Smallest effects that could be found:"
    )
    search = (pilot_epochs(study) + explore_epochs(study)[1]) * epoch / slots
    budgets = sorted({*BUDGETS, *([seconds_of(study.time_budget)] if study.time_budget else [])})
    for budget in budgets:
        usable = budget * (1 - REPORT_SHARE) - START - REPORT
        left = max(usable - search, CONFIRM_SHARE * usable)
        try:
            found = fitted(study, sketch, seconds, slots, left, budget, study.explore_trials, enough_seeds)
        except DoesNotFit as error:
            yield f"  {duration(budget):<12}nothing: {left_out(error.found)}"
            continue
        what = f"{found.design}, {len(found.arms)} arms × {found.seeds} seeds"
        yield f"  {duration(budget):<12}{what:<36}{detectable(found, sd)}"


def _can_be_timed(study: Study) -> bool:
    return not (study.experiment or study.own.parts or study.resources.gpus)


def _timed(study: Study, datasets: Mapping[str, Dataset]) -> ArmSeconds:
    """By timing steps of each arm's network here."""
    from resnetlab.vision.training.loop import Training

    threads, spent = max(1, int(study.resources.cpus)), 0.0
    known: dict[str, float] = {}

    def an_epoch(config: RunConfig) -> float:
        """Seconds; of an arm that there was no time to try, the mean of the others."""
        nonlocal spent
        trial = of_images(config)
        dataset = datasets[data_key(trial)]
        key = trial.model_copy(update={"seed": 0, "split_seed": 0}).trial_id
        if key not in known and spent < MOST_TIMED:
            rate = Training(trial.model_copy(update={"weights": "none"}), dataset, threads=threads).rehearse(TIMED)
            images = len(dataset.split("train", stream(study.seed, "split")))
            known[key] = OUTSIDE * trial.data_fraction * images / rate
            spent += TIMED
        return known.get(key, sum(known.values()) / len(known))

    def seconds(configs: Sequence[RunConfig], arms: Sequence[Any]) -> tuple[list[float], float]:
        return [config.epochs * an_epoch(config) for config in configs], 1.0

    return seconds
