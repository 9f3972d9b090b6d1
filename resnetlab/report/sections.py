"""The tables of the report, as text: what each section shows, with what it rests on. The page sets them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from resnetlab.analysis import effects, power
from resnetlab.analysis.curves import (
    Counts,
    epochs_saved,
    full_budget,
    levels_tried,
    mean_interval,
    rung_summary,
)
from resnetlab.analysis.results import Results
from resnetlab.analysis.runs import Runs
from resnetlab.metrics import METRICS
from resnetlab.records import Status
from resnetlab.report.answer import incumbent_runs, notes, ranked, tested, undeclared
from resnetlab.report.words import (
    asked,
    compact,
    duration,
    interval,
    level,
    missing,
    p_value,
    percent,
    percents,
    settings,
    signed,
)

MOST = 40  # classes shown


@dataclass(frozen=True)
class Table:
    """Rows of text under headings. kinds: `text`, `number`, `code`, `bar` (a fraction) or `verdict`, one a column."""

    headings: list[str]
    kinds: list[str]
    rows: list[list[Any]]
    foot: str = ""
    title: str = ""
    folded: bool = False  # shown when its title is clicked


@dataclass(frozen=True)
class Section:
    """A heading with sentences, tables and the names of figures."""

    key: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    hypothesis: bool = False


def incumbent(results: Results) -> Section | None:
    """The chosen setting, what it was chosen by, and how it does on fresh seeds."""
    plan = results.plan
    if plan is None or plan.design == "arms":
        return None
    runs = incumbent_runs(results)
    test, validated = tested(results), mean_interval(runs["val_accuracy"])
    chosen = results.explore[results.explore["trial_id"] == plan.chosen_trial]
    number = f"trial {chosen['number'].iloc[0]}" if len(chosen) else plan.chosen_trial
    rows = [
        ["Test accuracy, fresh seeds", percent(test[0]), percents(test[1], test[2]), test[3]],
        [
            "Validation accuracy, fresh seeds",
            percent(validated[0]),
            percents(validated[1], validated[2]),
            validated[3],
        ],
        [
            f"Validation accuracy when chosen ({number})",
            percent(plan.chosen_val_accuracy),
            "optimistic: the highest",
            1,
        ],
    ]
    columns = ["Measure", "Mean", "95% interval", "Runs"]
    foot = Counts.of(results.confirm[results.confirm["arm"] == "incumbent"]).words("confirm")
    facts = _facts(runs)
    return Section(
        "incumbent",
        "The incumbent",
        [settings(plan.incumbent) + (f". {facts}" if facts else "")],
        [Table(columns, ["name", "number", "number", "number"], rows, foot)],
    )


def _facts(runs: pd.DataFrame) -> str:
    if runs.empty or missing(runs["parameters"].iloc[0]):
        return ""
    row = runs.iloc[0]
    speed = duration(float(runs["train_seconds"].mean()))
    return (
        f"{int(row['parameters']):,} parameters, {compact(row['multiply_adds'])} multiply-adds an image, "
        f"{speed} of training on {row['device']}."
    )


def confirmed(results: Results, found: pd.DataFrame) -> Section | None:
    """Every comparison of the plan with its evidence, and the arms that they are made of."""
    plan = results.plan
    if plan is None:
        return None
    counts = Counts.of(results.confirm).words("confirm")
    common, own = notes(found)
    free = undeclared(results, found)
    declared = ["yes" if not alone else "exploratory" for alone in free]
    rows = [
        [
            asked(row),
            signed(row.estimate),
            interval(row.low, row.high),
            f"{row.n:.0f} / {row.n_reference:.0f}",
            p_value(row.p_adjusted),
            row.verdict,
            row.declared,
            row.estimand,
            row.note,
        ]
        for row in ranked(found.assign(note=own, declared=declared)).itertuples(index=False)
    ]
    columns = [
        "Comparison",
        "Effect (points)",
        "95% interval",
        "Runs",
        "Adjusted p",
        "Verdict",
        "Declared",
        "Estimand",
        "Note",
    ]
    kinds = ["name", "number", "number", "number", "number", "verdict", "text", "medium", "long"]
    methods = sorted({str(method) for method in found["method"].dropna()} - {"none"})
    foot = f"{counts}. Runs: with the level / with the reference. Method: {'; '.join(methods) or 'none'}."
    foot += f" In all comparisons: {common}." if common else ""
    tables = [_without_empty(Table(columns, kinds, rows, foot))] if rows else []
    if results.planned.arms:
        tables.append(_arms(results))
    text = [
        "Differences of mean test accuracy between runs at the full budget, on seeds that exploration never used. "
        f"Family-wise error rate {plan.alpha:g}; effects within ±{plan.delta:g} points count as too small to matter."
    ]
    text += noise(results)
    if plan.infeasible:
        text.append("Not run because infeasible: " + "; ".join(plan.infeasible) + ".")
    return Section("effects", "Effects on fresh seeds", text, tables)


def _without_empty(table: Table) -> Table:
    """The table without its last column where that says nothing."""
    if any(row[-1] for row in table.rows):
        return table
    return replace(table, headings=table.headings[:-1], kinds=table.kinds[:-1], rows=[row[:-1] for row in table.rows])


def noise(results: Results) -> list[str]:
    """How far seeds alone spread, and what so many seeds could have found; nothing where no arm has two runs."""
    plan = results.planned
    floor = power.noise_floor(Runs.of(plan, results.confirm).values)
    if not floor.known or not floor.sd > 0:
        return _pilot(results)
    sd = [signed(value).lstrip("+") for value in (floor.sd, floor.low, floor.high)]
    text = [
        f"Noise floor: seeds alone spread by {sd[0]} points (standard deviation over {floor.runs} runs of {floor.arms} "
        f"arms, 95% interval {sd[1]} … {sd[2]}).",
        *_pilot(results),
    ]
    shared = power.block_correlation(Runs.of(plan, results.confirm).values)
    if not missing(shared.correlation):
        text.append(
            f"Pairing gain: runs of different arms on the same seed correlate {shared.correlation:+.2f} (95% interval "
            f"{shared.low:+.2f} … {shared.high:+.2f}, {shared.blocks} seeds); the intervals here assume none."
        )
    ahead = power.outlook(plan, floor.sd, results.study.search.epochs)
    for row in ahead[ahead["holm"]].itertuples(index=False):
        needs = "no number of seeds"
        if not missing(row.seeds_needed):
            needs = f"{row.seeds_needed:,.0f} seeds ({row.epochs_needed:,.0f} epochs in all)"
        least = signed(row.detectable).lstrip("+") if row.seeds > 1 else "no size"
        text.append(
            f"Power, {row.estimand}: {row.seeds} seed{'s' * (row.seeds > 1)} find an effect of {least} points in four "
            f"of five studies, adjusted for {row.tests} test{'s' * (row.tests > 1)}; {plan.delta:g} points need "
            f"{needs}."
        )
    return text


def _pilot(results: Results) -> list[str]:
    """What was known of it when the plan was made."""
    known = results.plan.pilot if results.plan else None
    if not known:
        return []
    return [f"Before the plan, {known['runs']:.0f} runs of the baseline alone spread by {known['sd']:.2f} points."]


def _arms(results: Results) -> Table:
    confirm = full_budget(results.confirm)
    confirm = confirm.assign(epoch_seconds=confirm["train_seconds"] / confirm["epochs_run"])
    names = ("parameters", "epoch_seconds", "train_seconds")
    size, epoch, seconds = (confirm.groupby("arm")[name].mean() for name in names)
    rows = [
        [
            row.arm,
            f"{row.n} of {row.planned}",
            percent(row.mean),
            percents(row.low, row.high),
            signed(row.sd).lstrip("+"),
            compact(size.get(row.arm)),
            duration(epoch.get(row.arm)),
            duration(seconds.get(row.arm)),
            row.note,
        ]
        for row in effects.performance(results.planned, results.confirm).itertuples(index=False)
    ]
    sd = "Seed-to-seed sd (points)"
    columns = [
        "Arm",
        "Runs",
        "Test accuracy",
        "95% interval",
        sd,
        "Parameters",
        "Time per epoch",
        "Training time",
        "Note",
    ]
    foot = f"{Counts.of(results.confirm).words('confirm')}."
    return _without_empty(Table(columns, ["name", *["number"] * 7, "long"], rows, foot, "The arms"))


def hypotheses(results: Results) -> Section | None:
    """What exploration suggests; never called an effect."""
    explore = results.explore
    if explore.empty:
        return None
    levels = {name: results.study.space[name].levels for name in results.factors if results.study.space[name].compared}
    rows = [
        [row.factor, level(row.level), row.trials, row.full, row.stopped, row.lost, percent(row.best)]
        for row in levels_tried(explore, levels).itertuples(index=False)
    ]
    counts = Counts.of(explore).words()
    columns = ["Factor", "Level", "Trials", "At full budget", "Stopped", "Lost", "Best at full budget"]
    tried = Table(
        columns, ["text", "code", *["number"] * 5], rows, f"{counts}. Lost: diverged, out of memory or failed.",
        "Levels tried",
    )  # fmt: skip
    full = full_budget(explore).sort_values(["val_accuracy", "number"], ascending=[False, True])
    top = [
        [row["number"], percent(row["val_accuracy"]), compact(row["parameters"]), duration(row["train_seconds"]),
         settings({name: row[name] for name in results.factors})]
        for _, row in full.head(5).iterrows()
    ]  # fmt: skip
    best = Table(
        ["Trial", METRICS["val_accuracy"].label, "Parameters", "Training time", "Setting"],
        ["number", "number", "number", "number", "long"],
        top,
        f"{len(full)} at the full budget, of {counts}. One seed each, and the highest of many: optimistic.",
        "Best full-budget trials",
    )
    stopped = Counts.of(explore).by_status[Status.STOPPED]
    text = [
        f"Trials were proposed by a sampler ({results.study.search.sampler}), and ASHA "
        f"stopped {stopped} of {len(explore)} early. So these are hypotheses and not effects: a level with few "
        "full-budget trials was hardly tried, not shown to be worse."
    ]
    return Section("hypotheses", "What exploration suggests", text, [best, tried], hypothesis=True)


def stopping(results: Results) -> Section | None:
    if results.explore.empty:
        return None
    search = results.study.search
    text = []
    if not search.stopping:
        text.append("Early stopping was off: every explore trial was allowed its full budget.")
    else:
        saved = epochs_saved(results.explore)
        text.append(
            f"ASHA with a grace period of {search.grace} epoch{'s' * (search.grace > 1)} and a reduction factor of "
            f"{search.reduction}; full budget {search.epochs} epochs. Stopped trials were spared {saved:,} epochs."
        )
    rows = [
        [
            r.rung,
            r.epoch,
            r.arrived,
            r.went_on,
            r.stopped,
            r.exempt,
            percent(r.first_cutoff),
            percent(r.last_cutoff),
        ]
        for r in rung_summary(results.rungs).itertuples(index=False)
    ]
    columns = ["Rung", "Epoch", "Arrived", "Went on", "Stopped", "Exempt", "First cutoff", "Last cutoff"]
    tables = [Table(columns, ["number"] * 8, rows, Counts.of(results.explore).words())] if rows else []
    return Section("asha", "What ASHA stopped, and when", text, tables, ["rungs"], hypothesis=True)
