"""Print what a recorded study shows, for docs/findings.md: its effects with both intervals, or what its arms cost.

python docs/make_findings.py STUDY [STUDY …]
python docs/make_findings.py --arms STUDY
"""

from __future__ import annotations

import sys
from pathlib import Path

from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_cost import cost, efficiency
from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import asked, duration, interval, missing, p_value, signed, span

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"


def effects(findings: Findings) -> list[str]:
    """A row for each comparison, interactions last. Intervals of simple effects account for their selection."""
    metric = findings.effect
    lines = [f"| comparison | {metric.unit} | on these test images | on new images | n | adjusted p | verdict |"]
    lines.append("|---|---:|---|---|---|---:|---|")
    table = findings.effects.assign(last=findings.effects["estimand"] == INTERACTION)
    declared = {name for name, free in zip(table["name"], findings.exploratory, strict=True) if not free}
    for row in table.sort_values("last", kind="stable").itertuples(index=False):
        if missing(row.estimate):
            lines.append(f"| {asked(row)} | – | – | – | – | – | {row.verdict} |")
            continue
        ends = (row.low_new, row.high_new) if not missing(row.low_new) else (row.low, row.high)
        new = "–" if missing(ends[0]) else interval(*ends, metric)
        these = "–" if missing(row.low_these) else interval(row.low_these, row.high_these, metric)
        verdict = row.verdict + ", exploratory" * (row.name not in declared)
        lines.append(
            f"| {asked(row)} | {signed(row.estimate, metric=metric)} | {these} | {new} | {row.n} / {row.n_reference} "
            f"| {p_value(row.p_adjusted)} | {verdict} |"
        )
    return lines


def hypotheses(findings: Findings) -> list[str]:
    """A row for each hypothesis that was declared."""
    metric = findings.effect
    lines = [f"| hypothesis, declared before any run | {metric.unit} | 90% interval | verdict |", "|---|---:|---|---|"]
    for row in findings.hypotheses.itertuples(index=False):
        sure = "–" if missing(row.low) else interval(row.low, row.high, metric)
        size = "–" if missing(row.estimate) else signed(row.estimate, metric=metric)
        lines.append(f"| {row.hypothesis} | {size} | {sure} | {row.verdict} |")
    return lines if len(lines) > 2 else []


def arms(findings: Findings) -> list[str]:
    """A row for each arm: its mean, its size, and seconds an epoch."""
    runs, metric = full_budget(findings.results.confirm), findings.metric
    lines = ["| arm | mean | 95% interval on these test images | n | parameters | seconds an epoch |"]
    lines.append("|---|---:|---|---|---:|---|")
    for row in findings.performance.dropna(subset="mean").itertuples(index=False):
        mine = runs[runs["arm"] == row.arm]
        seconds = mine["train_seconds"].astype(float) / mine["epochs_run"].astype(float)
        sure = "–" if missing(row.low) else span(row.low, row.high, metric)
        lines.append(
            f"| {row.arm} | {metric.show(row.mean)} | {sure} | {row.n} | {int(mine['parameters'].iloc[0]):,} "
            f"| {seconds.min():.1f} to {seconds.max():.1f} |"
        )
    return lines


def ran(results: Results) -> str:
    """What ran, on what, and what it cost."""
    sweep, about = results.sweep, results.sweep["data"]
    counts = ", ".join(f"{about[split]:,} {name}" for split, name in (("train", "training"), ("test", "test")))
    spent = cost(results.trials)["device_seconds"].sum()
    runs = len(full_budget(results.confirm))
    used = efficiency(sweep)
    wall = f", {duration(used.offered / sweep['slots'])} of {sweep['slots']} CPU cores" if used else ""
    return (
        f"Made by `{sweep['command']}`: {runs} confirm runs of {results.study.search.epochs} epochs, {counts} images; "
        f"{duration(spent)} of one CPU{wall}; torch {sweep['versions']['torch']}."
    )


def main() -> None:
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    for name in names:
        place = REFERENCE / name
        results = Results.open(place)
        findings = Findings(results)
        lines = [ran(results), "", *hypotheses(findings), "", *effects(findings)]
        if "--arms" in sys.argv:
            lines = arms(findings)
        print("\n".join([*lines, ""] if len(names) > 1 else lines))


if __name__ == "__main__":
    main()
