"""Which figures a report has: data computed from the tables, bound to a drawing, with caption and text alternative."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pandas as pd

from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.confirm.interaction_means import cells
from resnetlab.analysis.explore.curves import (
    Counts,
    full_budget,
    learning_curves,
    pareto,
    rung_summary,
    search_progress,
)
from resnetlab.analysis.results import Results
from resnetlab.analysis.shared_times import shared_times
from resnetlab.experiment.metrics import METRICS
from resnetlab.report.answer import ranked
from resnetlab.report.figures import arm_catalog, effect_figures
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import TIMES, asked, compact, interval, level, listed, percent, signed
from resnetlab.report.rendering import Drawing

NAMES = (  # that a report of any study may have
    "effects",
    "effects-narrow",
    "interactions",
    "learning-curves",
    "confirm-curves",
    "accuracy-parameters",
    "accuracy-time",
    "rungs",
    "search-trials",
    "search-epochs",
    *arm_catalog.NAMES,
)
PANELS = 4  # interactions drawn
CURVES = 2.7, 3.4  # inches, at one and at two columns
ROWS = 40  # comparisons in one figure; the table has them all


def gallery(findings: Findings) -> list[Drawing]:
    """All figures that the tables allow, in the order of NAMES."""
    results, drawings = findings.results, []
    if results.plan is not None and findings.effects["estimate"].notna().any():
        drawings += [*_effects(results, findings.effects), *_interactions(findings)]
    if not results.epochs.empty and not results.study.arms:
        drawings += _curves(results)
    if not results.explore.empty:
        drawings += [_pareto(results, "parameters"), _pareto(results, "train_seconds")]
        if not results.rungs.empty:
            drawings.append(_rungs(results))
        drawings += _search(results)
    return drawings + arm_catalog.arm_gallery(findings)


def _effects(results: Results, effects: pd.DataFrame) -> list[Drawing]:
    shown = ranked(effects).head(ROWS)
    delta = results.planned.delta
    foot = Counts.of(results.confirm).words("confirm")
    alt = "Effects on test accuracy with 95% intervals. " + " ".join(
        f"{asked(row)}: {signed(row.estimate, unit=True)} ({interval(row.low, row.high)}), {row.verdict}."
        for row in shown.itertuples(index=False)
    )
    left = f" The {ROWS} largest of {len(effects)}." if len(effects) > ROWS else ""
    lines = (
        "Lines are 95% intervals, not adjusted for the number of comparisons; verdicts are adjusted for it (Holm's "
        "method)."
        if shown["low"].notna().any()
        else "One run of each arm gives no interval, so nothing can be judged."
    )
    caption = f"Difference of mean test accuracy at the full budget on fresh seeds. {lines}{left}"
    draw = partial(effect_figures.draw_effects, effects=shown, delta=delta)
    heights = 0.9 + 0.33 * len(shown), 1.0 + 0.26 * len(shown)
    found = Drawing("effects", heights, draw, foot, alt, caption, columns=2)
    return [found, replace(found, name="effects-narrow", columns=1)]


def _interactions(findings: Findings) -> list[Drawing]:
    """The strongest, confirmed or not: what was averaged, for the eye."""
    effects, runs = findings.effects, findings.runs
    rows = ranked(effects[(effects["estimand"] == INTERACTION) & effects["estimate"].notna()])
    pairs = [row.factor.split(f" {TIMES} ") for row in rows.head(PANELS).itertuples(index=False)]
    found = [one for first, second in pairs if (one := cells(runs, first, second)) is not None]
    if not found:
        return []
    said = [
        f"{listed(list(one.factors))}: "
        + ", ".join(
            f"{level(a)} with {level(b)} {percent(one.mean[i, j])}"
            for i, a in enumerate(one.levels[0])
            for j, b in enumerate(one.levels[1])
        )
        for one in found
    ]
    more = f" The {PANELS} largest of {len(rows)}." if len(rows) > PANELS else ""
    caption = (
        "Mean test accuracy at each pair of levels, averaged over the other factors. Lines that are not parallel are "
        f"an interaction. Bars are 95% intervals of each mean, not of the interaction.{more}"
    )
    draw = partial(effect_figures.draw_interactions, found=found)
    heights = 0.5 + 1.7 * math.ceil(len(found) / 2), 0.5 + 1.7 * math.ceil(len(found) / 4)
    foot, alt = Counts.of(findings.results.confirm).words("confirm"), f"Means by pairs of levels. {'; '.join(said)}."
    return [Drawing("interactions", heights, draw, foot, alt, caption, columns=1 if len(found) < 3 else 2)]


def _curves(results: Results) -> list[Drawing]:
    drawings = []
    explore = learning_curves(results.explore, results.epochs)
    counts = Counts.of(results.explore)
    if explore:
        chosen = results.plan.chosen_trial if results.plan else None
        draw = partial(effect_figures.draw_learning_curves, curves=explore, chosen=chosen)
        alt = f"Validation accuracy by epoch, one line for each of {len(explore)} explore trials. {counts.words()}."
        caption = "Explore: each line is a trial; a hollow mark is where ASHA stopped it, a cross where it was lost."
        foot = _rests(counts.words(), counts.total - len(explore))
        drawings.append(Drawing("learning-curves", CURVES, draw, foot, alt, caption))
    confirm = learning_curves(results.confirm, results.epochs)
    if confirm:
        counts = Counts.of(results.confirm)
        alt = f"Validation accuracy by epoch of {len(confirm)} confirm runs. {counts.words('confirm')}."
        caption = "Confirm: every run has a fresh seed and the full budget; none is stopped."
        draw = partial(effect_figures.draw_confirm_curves, curves=confirm)
        foot = _rests(counts.words("confirm"), counts.total - len(confirm))
        drawings.append(Drawing("confirm-curves", CURVES, draw, foot, alt, caption))
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
    draw = partial(effect_figures.draw_pareto, points=points, cost=cost, numbers=numbers)
    name = "accuracy-parameters" if cost == "parameters" else "accuracy-time"
    return Drawing(name, CURVES, draw, Counts.of(results.explore).words(), alt, caption)


def _rungs(results: Results) -> Drawing:
    summary = rung_summary(results.rungs)
    said = [
        f"at epoch {r.epoch} {r.arrived:,} arrived, {r.stopped:,} were stopped, {r.exempt:,} were exempt"
        for r in summary.itertuples(index=False)
    ]
    caption = (
        "What ASHA did at each rung: trials from left to right in the order of arrival, each against the cutoff that "
        "it met. Within a rung all trials have the same number of epochs."
    )
    draw = partial(effect_figures.draw_rungs, rungs=results.rungs, summary=summary)
    foot, alt = Counts.of(results.explore).words(), f"Rungs: {listed(said)}."
    return Drawing("rungs", CURVES, draw, foot, alt, caption, columns=2 if len(summary) > 4 else 1)


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
        draw = partial(effect_figures.draw_search, progress=progress, by=by)
        drawings.append(Drawing(name, CURVES, draw, foot, alt, caption))
    return drawings
