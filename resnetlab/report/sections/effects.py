"""Every comparison of the plan but the interactions, with its evidence, and the arms that they are made of."""

from __future__ import annotations

from typing import Any

import pandas as pd

from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.trial_outcomes import Counts, full_budget
from resnetlab.report.answer import notes, ranked
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import (
    amount,
    asked,
    compact,
    duration,
    headed,
    interval,
    missing,
    p_value,
    shown,
    signed,
    span,
)
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.report.sections.collapsed import collapsed_runs
from resnetlab.report.sections.earlier import earlier
from resnetlab.report.sections.looks import looks
from resnetlab.report.sections.noise import noise_and_power
from resnetlab.study.metrics import Metric


def section(findings: Findings) -> Section | None:
    """None without a plan."""
    plan = findings.results.plan
    if plan is None:
        return None
    metric = findings.metric
    lower = f" Lower {metric.short} is better." if metric.sign < 0 else ""
    text = [
        f"Differences of mean {metric.words} between runs at the full budget, on seeds that exploration never used. "
        f"Family-wise error rate {plan.alpha:g}; effects within ±{plan.delta_text} count as too small to matter.{lower}"
    ]
    if plan.infeasible:
        text.append("Not run because infeasible: " + "; ".join(plan.infeasible) + ".")
    tables = comparisons(findings, findings.effects["estimand"] != INTERACTION)
    tables += [*earlier(findings), *looks(findings), *collapsed_runs(findings), *noise_and_power(findings)]
    if plan.arms:
        tables.append(_arms(findings))
    return Section("effects", "Effects on fresh seeds", text, tables)


def comparisons(findings: Findings, which: pd.Series) -> list[Table]:
    """A row for each of the comparisons that `which` names."""
    found = findings.effects
    _, own = notes(found)
    common, _ = notes(found[which])
    declared = ["yes" if not alone else "exploratory" for alone in findings.exploratory]
    counts = Counts.of(findings.results.confirm).words("confirm")
    return of_comparisons(found.assign(note=own, declared=declared)[which], counts, common, findings.effect)


def of_comparisons(found: pd.DataFrame, counts: str, common: str, metric: Metric) -> list[Table]:
    """A row for each row of the effects table, which has a column `declared`; none where it has no rows. common: what
    holds for all of them."""
    rows = [
        [
            asked(row),
            signed(row.estimate, metric=metric),
            row.verdict,
            interval(row.low, row.high, metric),
            _other(row, metric),
            interval(row.low_adjusted, row.high_adjusted, metric),
            f"{row.n:.0f} / {row.n_reference:.0f}",
            p_value(row.p_adjusted),
            row.declared,
            row.estimand,
            row.note,
        ]
        for row in ranked(found).itertuples(index=False)
    ]
    if not rows:
        return []
    new = bool((found["verdict_on"] == "new images").any())
    headings = [
        "Comparison",
        headed("Effect", metric),
        "Verdict",
        f"95% interval{', new images' if new else ''}",
        "On these images",
        "Adjusted interval",
        "Runs",
        "Adjusted p",
        "Declared",
        "Estimand",
        "Note",
    ]
    kinds = ["name", "number", "verdict", *["number"] * 5, "text", "medium", "long"]
    methods = sorted({str(method) for method in found["method"].dropna()} - {"none"})
    foot = (
        f"{counts}. Runs: with the level / with the reference. Adjusted interval: for the number of comparisons "
        f"(Bonferroni; Holm's p can be smaller). {_about(found)}Method: {'; '.join(methods) or 'none'}."
    )
    foot += f" In all comparisons: {common}." if common else ""
    return [
        Table(headings, kinds, rows, foot).without_empty().said_once("Runs", "Declared", "Estimand").footnotes("Note")
    ]


def _other(row: Any, metric: Metric) -> str:
    """The interval on these test images where the verdict is about new ones; empty where there is no other."""
    other = row.verdict_on == "new images" and not missing(row.low_these)
    return interval(row.low_these, row.high_these, metric) if other else ""


def _about(found: pd.DataFrame) -> str:
    """What the two intervals are about; empty where there is one."""
    if not (found["verdict_on"] == "new images").any():
        return ""
    return (
        "Intervals and verdicts are about new images of the same kind: they hold the spread between seeds and that "
        "between test images. On these images: seeds alone. "
    )


def _arms(findings: Findings) -> Table:
    confirm = full_budget(findings.results.confirm)
    confirm = confirm.assign(epoch_seconds=confirm["train_seconds"] / confirm["epochs_run"])
    names = ("parameters", "epoch_seconds", "train_seconds")
    size, epoch, seconds = (confirm.groupby("arm")[name].mean() for name in names)
    any_new = bool(findings.performance["low_new"].notna().any())
    rows = [
        [
            row.arm,
            f"{row.n} of {row.planned}",
            shown(row.mean, findings.metric),
            span(row.low, row.high, findings.metric),
            span(row.low_new, row.high_new, findings.metric) if any_new else "",
            amount(row.sd, findings.effect),
            "" if findings.results.study.experiment else compact(size.get(row.arm)),
            duration(epoch.get(row.arm)),
            duration(seconds.get(row.arm)),
            row.note,
        ]
        for row in findings.performance.itertuples(index=False)
    ]
    sd = headed("Seed-to-seed sd", findings.effect)
    columns = [
        "Arm",
        "Runs",
        findings.metric.label,
        "95% interval, these images" if any_new else "95% interval",
        "95% interval, new images",
        sd,
        "Parameters",
        "Time per epoch",
        "Training time",
        "Note",
    ]
    foot = f"{Counts.of(findings.results.confirm).words('confirm')}."
    table = Table(columns, ["name", *["number"] * 8, "long"], rows, foot, "The arms", folded=len(rows) > FOLDED)
    return table.without_empty().said_once("Runs")
