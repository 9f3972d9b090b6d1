"""The design's centre: the incumbent with what it was chosen by, or the baseline, and how it does on fresh seeds."""

from __future__ import annotations

import pandas as pd

from resnetlab.analysis.intervals import mean_interval
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.planning.plan import Plan
from resnetlab.report.answer import incumbent_runs, tested
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import compact, duration, missing, settings, shown, span
from resnetlab.report.layout import Section, Table


def section(findings: Findings) -> Section | None:
    """None without a plan, and where the arms are named."""
    results, plan = findings.results, findings.results.plan
    if plan is None or plan.design == "arms":
        return None
    runs = incumbent_runs(results)
    test, validated = tested(findings), mean_interval(runs[findings.searched.name])
    chosen = results.explore[results.explore["trial_id"] == plan.chosen_trial]
    number = f"trial {chosen['number'].iloc[0]}" if len(chosen) else plan.chosen_trial
    metric, searched = findings.metric, findings.searched
    rows = [
        [f"{one.label}, fresh seeds", shown(mean, one), span(low, high, one), n]
        for one, (mean, low, high, n) in ((metric, test), (searched, validated))
    ]
    if plan.around == "incumbent":
        chose = shown(plan.chosen_val_accuracy, searched)
        rows.append([f"{searched.label} when chosen ({number})", chose, f"optimistic: the {searched.most}", 1])
    columns = ["Measure", "Mean", "95% interval", "Runs"]
    foot = Counts.of(results.confirm[results.confirm["arm"] == plan.around]).words("confirm")
    facts = _facts(runs)
    return Section(
        "incumbent",
        f"The {plan.around}",
        [settings(plan.incumbent) + (f". {facts}" if facts else ""), _role(plan)],
        [Table(columns, ["name", "number", "number", "number"], rows, foot)],
    )


def _role(plan: Plan) -> str:
    """What the centre is in the comparisons."""
    if plan.around == "baseline":
        return "Every arm changes it: the study asked for a design around its baseline, whatever the search finds."
    said = "Every arm changes it. It is what the search found: another run of the study may find another."
    if plan.oriented is None:
        return said
    return f"{said} Effects are named by the study file (the baseline's level is the reference), so their signs stay."


def _facts(runs: pd.DataFrame) -> str:
    if runs.empty or missing(runs["parameters"].iloc[0]):
        return ""
    row = runs.iloc[0]
    speed = duration(float(runs["train_seconds"].mean()))
    return (
        f"{int(row['parameters']):,} parameters, {compact(row['multiply_adds'])} multiply-adds an image, "
        f"{speed} of training on {row['device']}."
    )
