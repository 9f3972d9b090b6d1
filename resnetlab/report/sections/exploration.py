"""What exploration suggests: the levels that it tried and the best trials. Hypotheses, never called effects."""

from __future__ import annotations

import pandas as pd

from resnetlab.analysis.explore.search_progress import levels_tried
from resnetlab.analysis.trial_outcomes import Counts, full_budget
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import compact, duration, level, settings, shown
from resnetlab.report.layout import Section, Table
from resnetlab.study.records import Status


def section(findings: Findings) -> Section | None:
    """None where nothing was explored."""
    results, searched = findings.results, findings.searched
    explore = results.explore
    if explore.empty:
        return None
    levels = {name: results.study.space[name].levels for name in results.factors if results.study.space[name].compared}
    rows = []
    for row in levels_tried(explore, levels, searched).itertuples(index=False):
        numbers = (row.trials, row.full, row.stopped, row.lost)
        rows.append([row.factor, level(row.level), *(f"{n:,}" for n in numbers), shown(row.best, searched)])
    counts = Counts.of(explore).words()
    columns = ["Factor", "Level", "Trials", "At full budget", "Stopped", "Lost", "Best at full budget"]
    tried = Table(
        columns, ["text", "code", *["number"] * 5], rows, f"{counts}. Lost: diverged, out of memory or failed.",
        "Levels tried",
    )  # fmt: skip
    full = full_budget(explore).sort_values([searched.name, "number"], ascending=[searched.sign < 0, True])

    def size(row: pd.Series) -> str:
        return "" if results.study.experiment else compact(row["parameters"])

    top = [
        [row["number"], shown(row[searched.name], searched), size(row), duration(row["train_seconds"]),
         settings({name: row[name] for name in results.factors})]
        for _, row in full.head(5).iterrows()
    ]  # fmt: skip
    best = Table(
        ["Trial", searched.label, "Parameters", "Training time", "Setting"],
        ["number", "number", "number", "number", "long"],
        top,
        f"{len(full)} at the full budget, of {counts}. One seed each, and the {searched.most} of many: optimistic.",
        "Best full-budget trials",
    ).without_empty()
    stopped = Counts.of(explore).by_status[Status.STOPPED]
    text = [
        f"Trials were proposed by a sampler ({results.study.search.sampler}), and {stopped} of {len(explore)} were "
        "stopped early. So these are hypotheses and not effects: a level with few "
        "full-budget trials was hardly tried, not shown to be worse."
    ]
    asked = results.study.explore_trials
    if results.plan is not None and len(explore) < asked and not results.study.arms:
        why = "it found no other combination to run"
        if results.plan.time is not None:
            why = "it found no other to run, or the rest of the time budget was kept for confirm runs"
        text.append(f"The search ended after {len(explore)} of {asked} trials: {why}.")
    return Section("hypotheses", "What exploration suggests", text, [best, tried], hypothesis=True)
