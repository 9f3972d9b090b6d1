"""What exploration alone would have had people believe, beside what was confirmed."""

from __future__ import annotations

from typing import Any

from resnetlab.analysis.explore.naive import AUDIT, FINISHED, LAST, flips, naive
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import headed, interval, level, missing, signed
from resnetlab.report.layout import Section, Table
from resnetlab.study.metrics import Metric


def section(findings: Findings) -> Section | None:
    """Three naive analyses of the explore stage and where each would have misled; hypotheses, never effects.

    Last-reported values are of unequal epochs, so only what they would have made people say is shown, no size. None
    where something else is confirmed than was searched for.
    """
    results, plan = findings.results, findings.results.plan
    searched, effect = findings.searched, findings.effect
    if plan is None or not plan.compared or results.explore.empty or searched.short != findings.metric.short:
        return None
    levels = {name: results.study.space[name].levels for name in plan.compared if name in results.factors}
    believed = naive(results.trials, results.rungs, levels, plan.references, searched.name)
    found = flips(believed, findings.effects)
    rows, misled, concluded = [], 0, 0
    for _, group in found.groupby(["factor", "level", "reference"], sort=False):
        by = {row.method: row for row in group.itertuples(index=False)}
        flipped = [method for method, row in by.items() if row.flips]
        misled += bool(flipped)
        concluded += any(row.low > 0 or row.high < 0 for row in by.values())
        first = by[LAST]
        rows.append(
            [
                f"{first.factor} {level(first.level)} instead of {level(first.reference)}",
                _said(first, searched.sign),
                _sized(by[FINISHED], effect),
                _sized(by[AUDIT], effect),
                _confirmed(first, effect),
                ", ".join(flipped) if flipped else "no",
            ]
        )
    in_ = f"in {effect.unit} " if effect.unit else ""
    table = Table(
        [
            "Comparison",
            "Last reported says",
            "Finished only",
            "Audit, weighted",
            headed("Confirm stage", effect),
            "Flips under",
        ],
        ["text", "text", "long", "long", "text", "text"],
        rows,
        f"{searched.label} of explore trials, {in_}with naive 95% intervals. Last reported compares trials at "
        "unequal epochs, so no size is shown. Finished only keeps those that were not stopped. The audit weights the "
        "exempt trials by their known chance. A conclusion flips where the confirmed effect has the other sign or is "
        "equivalent to none.",
        "Had the explore stage been believed",
    )
    lead = (
        f"In {concluded} of {len(rows)} comparisons the explore stage alone would have led to a conclusion, in "
        f"{misled} of them to one that the confirm stage contradicts."
    )
    return Section("flips", "Flips under naive analysis", [lead], [table], hypothesis=True)


def _confirmed(row: Any, effect: Metric) -> str:
    """The estimate with its verdict: a number alone would read as a finding."""
    known = not missing(row.confirmed) and row.verdict in ("effect", "equivalent", "inconclusive", "depends")
    return f"{signed(row.confirmed, metric=effect)} ({row.verdict})" if known else "not estimable"


def _said(row: Any, sign: int) -> str:
    """What the interval would have made a reader say."""
    if missing(row.estimate):
        return "not estimable"
    if not (row.low > 0 or row.high < 0):
        return "nothing"
    return f"{level(row.level)} is {'better' if sign * row.estimate > 0 else 'worse'}"


def _sized(row: Any, effect: Metric) -> str:
    if missing(row.estimate):
        if row.method == AUDIT and not row.n and not row.n_reference:
            return "not estimable: no trial was exempt from stopping"
        return f"not estimable: {row.n} of {row.of} and {row.n_reference} of {row.of_reference} reached the full budget"
    size, sure = signed(row.estimate, metric=effect), interval(row.low, row.high, effect)
    return f"{size} ({sure}, n = {row.n} against {row.n_reference})"
