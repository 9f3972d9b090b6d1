"""The tables of the report, as text: what each section shows, with what it rests on. The page sets them."""

from __future__ import annotations

import pandas as pd

from resnetlab.analysis.confirm import power
from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.explore.curves import Counts, epochs_saved, full_budget, levels_tried, rung_summary
from resnetlab.analysis.intervals import mean_interval
from resnetlab.analysis.results import Results
from resnetlab.experiment.metrics import METRICS
from resnetlab.report.answer import incumbent_runs, notes, ranked, tested
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import (
    asked,
    compact,
    duration,
    interval,
    level,
    listed,
    missing,
    p_value,
    percent,
    percents,
    settings,
    signed,
)
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.study.records import Status
from resnetlab.wording import plural


def incumbent(findings: Findings) -> Section | None:
    """The chosen setting, what it was chosen by, and how it does on fresh seeds."""
    results, plan = findings.results, findings.results.plan
    if plan is None or plan.design == "arms":
        return None
    runs = incumbent_runs(results)
    test, validated = tested(findings), mean_interval(runs["val_accuracy"])
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


def confirmed(findings: Findings) -> Section | None:
    """Every comparison of the plan but the interactions, with its evidence, and the arms that they are made of."""
    plan = findings.results.plan
    if plan is None:
        return None
    text = [
        "Differences of mean test accuracy between runs at the full budget, on seeds that exploration never used. "
        f"Family-wise error rate {plan.alpha:g}; effects within ±{plan.delta:g} points count as too small to matter."
    ]
    if plan.infeasible:
        text.append("Not run because infeasible: " + "; ".join(plan.infeasible) + ".")
    tables = _comparisons(findings, findings.effects["estimand"] != INTERACTION)
    if known := [said.split(": ", 1) for said in noise(findings)]:
        tables.append(Table(["What", "How much"], ["name", "long"], known, title="Noise and power"))
    if plan.arms:
        tables.append(_arms(findings))
    return Section("effects", "Effects on fresh seeds", text, tables)


def interactions(findings: Findings) -> Section | None:
    """Whether what one factor does depends on another; a sentence where the design cannot tell."""
    plan, found = findings.results.plan, findings.effects
    if plan is None or plan.design == "arms" or len(plan.compared) < 2:
        return None
    here = found["estimand"] == INTERACTION
    if not here.any():
        why = f"Not estimated: the design ({plan.design}) has no arms that would show interactions."
        return Section("interactions", "Interactions", [why])
    sure = int((found[here]["verdict"] == "effect").sum())
    text = [
        "An interaction is a difference of differences: how much the effect of one factor changes with the level of "
        f"the other. {sure or 'None'} of {int(here.sum())} {'is' if sure < 2 else 'are'} confirmed."
    ]
    if not sure:
        text[0] += " That is not evidence of none: their intervals are twice as wide as those of main effects."
    tables = _comparisons(findings, here)
    return Section("interactions", "Interactions", text, tables, ["interactions"])


def _comparisons(findings: Findings, which: pd.Series) -> list[Table]:
    """A row for each of the comparisons that `which` names."""
    found = findings.effects
    _, own = notes(found)
    common, _ = notes(found[which])
    declared = ["yes" if not alone else "exploratory" for alone in findings.exploratory]
    shown = ranked(found.assign(note=own, declared=declared)[which])
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
        for row in shown.itertuples(index=False)
    ]
    if not rows:
        return []
    headings = ["Comparison", "Effect (points)", "95% interval", "Runs", "Adjusted p", "Verdict", "Declared",
                "Estimand", "Note"]  # fmt: skip
    kinds = ["name", "number", "number", "number", "number", "verdict", "text", "medium", "long"]
    methods = sorted({str(method) for method in found[which]["method"].dropna()} - {"none"})
    counts = Counts.of(findings.results.confirm).words("confirm")
    foot = f"{counts}. Runs: with the level / with the reference. Method: {'; '.join(methods) or 'none'}."
    foot += f" In all comparisons: {common}." if common else ""
    return [Table(headings, kinds, rows, foot).without_empty().said_once("Runs", "Declared", "Estimand")]


def noise(findings: Findings) -> list[str]:
    """How far seeds alone spread, and what so many seeds could have found; nothing where no arm has two runs."""
    results, plan, runs = findings.results, findings.results.planned, findings.runs
    floor = power.noise_floor(runs.values)
    if not floor.known or not floor.sd > 0:
        return _pilot(results)
    sd = [signed(value).lstrip("+") for value in (floor.sd, floor.low, floor.high)]
    text = [
        f"Noise floor: seeds alone spread by {sd[0]} points (standard deviation over {floor.runs} runs of {floor.arms} "
        f"arms, 95% interval {sd[1]} … {sd[2]}).",
        *_pilot(results),
    ]
    shared = power.block_correlation(runs.values)
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
            f"Power, {row.estimand}: {plural(row.seeds, 'seed')} {'finds' if row.seeds == 1 else 'find'} an effect of "
            f"{least} points in four of five studies, adjusted for {plural(row.tests, 'test')}; {plan.delta:g} points "
            f"need {needs}."
        )
    return text


def _pilot(results: Results) -> list[str]:
    """What was known of it when the plan was made."""
    known = results.plan.pilot if results.plan else None
    if not known:
        return []
    return [
        f"Pilot: before the plan, {known['runs']:.0f} runs of the baseline alone spread by {known['sd']:.2f} points."
    ]


def _arms(findings: Findings) -> Table:
    confirm = full_budget(findings.results.confirm)
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
        for row in findings.performance.itertuples(index=False)
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
    foot = f"{Counts.of(findings.results.confirm).words('confirm')}."
    table = Table(columns, ["name", *["number"] * 7, "long"], rows, foot, "The arms", folded=len(rows) > FOLDED)
    return table.without_empty().said_once("Runs")


def hypotheses(results: Results) -> Section | None:
    """What exploration suggests; never called an effect."""
    explore = results.explore
    if explore.empty:
        return None
    levels = {name: results.study.space[name].levels for name in results.factors if results.study.space[name].compared}
    rows = []
    for row in levels_tried(explore, levels).itertuples(index=False):
        numbers = (row.trials, row.full, row.stopped, row.lost)
        rows.append([row.factor, level(row.level), *(f"{n:,}" for n in numbers), percent(row.best)])
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
            f"ASHA with a grace period of {plural(search.grace, 'epoch')} and a reduction factor of "
            f"{search.reduction}; full budget {search.epochs} epochs. {_when(results)} Stopped trials were spared "
            f"{saved:,} epochs."
        )
    rows = [
        [
            r.rung,
            r.epoch,
            *(f"{n:,}" for n in (r.arrived, r.went_on, r.stopped, r.exempt)),
            percent(r.first_cutoff),
            percent(r.last_cutoff),
        ]
        for r in rung_summary(results.rungs).itertuples(index=False)
    ]
    columns = ["Rung", "Epoch", "Arrived", "Went on", "Stopped", "Exempt", "First cutoff", "Last cutoff"]
    tables = [Table(columns, ["number"] * 8, rows, Counts.of(results.explore).words())] if rows else []
    return Section("asha", "What ASHA stopped, and when", text, tables, ["rungs"], hypothesis=True)


def _when(results: Results) -> str:
    """`It stopped 13 of 18 trials: 9 after epoch 1 and 4 after epoch 3.`"""
    explore = results.explore
    stopped = explore[explore["status"] == Status.STOPPED]["epochs_run"].value_counts().sort_index()
    when = listed([f"{n:,} after epoch {epoch}" for epoch, n in stopped.items()])
    return f"It stopped {stopped.sum():,} of {len(explore):,} trials{': ' if when else ''}{when}."
