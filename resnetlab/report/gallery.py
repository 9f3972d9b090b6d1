"""Which figures a report has: data computed from the tables, bound to a drawing, with caption and text alternative."""

from __future__ import annotations

from functools import partial

import pandas as pd

from resnetlab.analysis.curves import (
    Counts,
    full_budget,
    learning_curves,
    pareto,
    rung_summary,
    search_progress,
)
from resnetlab.analysis.results import Results
from resnetlab.analysis.sharing import shared_times
from resnetlab.metrics import METRICS
from resnetlab.report import arm_gallery, figures
from resnetlab.report.answer import ranked
from resnetlab.report.figures import COLUMN, WIDE, Drawing
from resnetlab.report.words import asked, compact, interval, listed, percent, signed

NAMES = (  # that a report of any study may have
    "effects",
    "effects-narrow",
    "learning-curves",
    "confirm-curves",
    "accuracy-parameters",
    "accuracy-time",
    "rungs",
    "search-trials",
    "search-epochs",
    *arm_gallery.NAMES,
)
ROWS = 40  # comparisons in one figure; the table has them all


def gallery(results: Results, effects: pd.DataFrame) -> list[Drawing]:
    """All figures that the tables allow, in the order of NAMES."""
    drawings = []
    if results.plan is not None and effects["estimate"].notna().any():
        drawings += _effects(results, effects)
    if not results.epochs.empty and not results.study.arms:
        drawings += _curves(results)
    if not results.explore.empty:
        drawings += [_pareto(results, "parameters"), _pareto(results, "train_seconds")]
        if not results.rungs.empty:
            drawings.append(_rungs(results))
        drawings += _search(results)
    return drawings + arm_gallery.arm_gallery(results)


def _effects(results: Results, effects: pd.DataFrame) -> list[Drawing]:
    shown = ranked(effects).head(ROWS)
    delta = results.planned.delta
    foot = Counts.of(results.confirm).words("confirm")
    alt = "Effects on test accuracy with 95% intervals. " + " ".join(
        f"{asked(row)}: {signed(row.estimate, unit=True)} ({interval(row.low, row.high)}), {row.verdict}."
        for row in shown.itertuples(index=False)
    )
    left = f" The {ROWS} largest of {len(effects)}." if len(effects) > ROWS else ""
    caption = (
        "Difference of mean test accuracy at the full budget on fresh seeds. Lines are 95% intervals, not adjusted for "
        f"the number of comparisons; verdicts are (Holm's method).{left}"
    )
    wide = partial(figures.draw_effects, effects=shown, delta=delta)
    narrow = partial(figures.draw_effects, effects=shown, delta=delta, narrow=True)
    return [
        Drawing("effects", (WIDE, 1.0 + 0.26 * len(shown)), wide, foot, alt, caption),
        Drawing("effects-narrow", (COLUMN, 0.9 + 0.33 * len(shown)), narrow, foot, alt, caption),
    ]


def _curves(results: Results) -> list[Drawing]:
    drawings = []
    explore = learning_curves(results.explore, results.epochs)
    counts = Counts.of(results.explore)
    if explore:
        chosen = results.plan.chosen_trial if results.plan else None
        draw = partial(figures.draw_learning_curves, curves=explore, chosen=chosen)
        alt = f"Validation accuracy by epoch, one line for each of {len(explore)} explore trials. {counts.words()}."
        caption = "Explore: each line is a trial; a hollow mark is where ASHA stopped it, a cross where it was lost."
        foot = _rests(counts.words(), counts.total - len(explore))
        drawings.append(Drawing("learning-curves", (COLUMN, 2.7), draw, foot, alt, caption))
    confirm = learning_curves(results.confirm, results.epochs)
    if confirm:
        counts = Counts.of(results.confirm)
        alt = f"Validation accuracy by epoch of {len(confirm)} confirm runs. {counts.words('confirm')}."
        caption = "Confirm: every run has a fresh seed and the full budget; none is stopped."
        draw = partial(figures.draw_confirm_curves, curves=confirm)
        foot = _rests(counts.words("confirm"), counts.total - len(confirm))
        drawings.append(Drawing("confirm-curves", (COLUMN, 2.7), draw, foot, alt, caption))
    return drawings


def _rests(words: str, without: int) -> str:
    return f"{words}; {without} recorded no epoch" if without else words


def _pareto(results: Results, cost: str) -> Drawing:
    points = pareto(results.explore, cost)
    front = points[points["front"]]
    numbers = dict(results.explore[["trial_id", "number"]].itertuples(index=False))
    label = METRICS[cost].label.lower()
    ends = [f"{percent(row.accuracy)} at {compact(row.cost)}" for row in front.itertuples(index=False)]
    alt = f"Validation accuracy against {label}. " + (
        f"Pareto front of {len(front)} trials: {listed(ends)} {METRICS[cost].unit}".rstrip() + "."
        if ends
        else "No trial reached the full budget."
    )
    caption = (
        f"Validation accuracy at the full budget against {label}; the front is of {int(points['full'].sum())} "
        "full-budget explore trials, numbers are trials. Stopped trials stand in the strip: theirs is a lower budget"
    )
    if cost == "train_seconds":
        caption += ", and their place is the time that the full one would have taken at their pace"
        if shared := shared_times(results.explore):
            caption += f". Not fit to compare: {shared}"
    caption += "."
    draw = partial(figures.draw_pareto, points=points, cost=cost, numbers=numbers)
    name = "accuracy-parameters" if cost == "parameters" else "accuracy-time"
    return Drawing(name, (COLUMN, 2.7), draw, Counts.of(results.explore).words(), alt, caption)


def _rungs(results: Results) -> Drawing:
    summary = rung_summary(results.rungs)
    said = [
        f"at epoch {r.epoch} {r.arrived} arrived, {r.stopped} were stopped, {r.exempt} were exempt"
        for r in summary.itertuples(index=False)
    ]
    caption = (
        "What ASHA did at each rung: trials from left to right in the order of arrival, each against the cutoff that "
        "it met. Within a rung all trials have the same number of epochs."
    )
    width = WIDE if len(summary) > 4 else COLUMN
    draw = partial(figures.draw_rungs, rungs=results.rungs, summary=summary)
    return Drawing("rungs", (width, 2.7), draw, Counts.of(results.explore).words(), f"Rungs: {listed(said)}.", caption)


def _search(results: Results) -> list[Drawing]:
    progress = search_progress(results.explore)
    foot = Counts.of(results.explore).words()
    full = full_budget(results.explore)
    best = percent(full["val_accuracy"].max()) if len(full) else "none yet"
    drawings = []
    for name, by, what in (("search-trials", "number", "trial"), ("search-epochs", "spent", "epochs spent")):
        alt = f"Best full-budget validation accuracy so far by {what}; at the end {best}."
        caption = f"How the search went, by {what}: the best so far is over full-budget explore trials only."
        if by == "spent":
            caption += " Epochs of stopped and failed trials count as spent."
        draw = partial(figures.draw_search, progress=progress, by=by)
        drawings.append(Drawing(name, (COLUMN, 2.5), draw, foot, alt, caption))
    return drawings
