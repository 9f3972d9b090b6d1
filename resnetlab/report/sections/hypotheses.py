"""What the study declared beforehand and how it ended; whether the arms were compared fairly."""

from __future__ import annotations

from resnetlab.report.findings import Findings
from resnetlab.report.formatting import interval, missing, p_value, signed
from resnetlab.report.layout import Section, Table


def declared(findings: Findings) -> Section | None:
    """Each declared hypothesis: supported, refuted or inconclusive, with its numbers and the hash of its rows."""
    if findings.results.study.arms:
        return None
    found = findings.hypotheses
    if found.empty:
        return None
    rows = [
        [
            row.hypothesis,
            row.verdict,
            "–" if missing(row.estimate) else signed(row.estimate),
            "no interval" if missing(row.low) else f"{row.confidence:.0%}: {interval(row.low, row.high)}",
            f"{row.n} / {row.n_reference}",
            p_value(row.p_supported),
            p_value(row.p_refuted),
            row.estimand,
            row.rows or "none",
            row.note,
        ]
        for row in found.itertuples(index=False)
    ]
    counts = ", ".join(f"{n} {verdict}" for verdict, n in found["verdict"].value_counts().items())
    table = Table(
        ["Hypothesis", "Verdict", "Estimate (points)", "Interval", "Runs", "p, supported", "p, refuted", "Estimand",
         "Rows", "Note"],
        ["long", "text", "number", "number", "number", "number", "number", "text", "code", "long"],
        rows,
        "Declared in the study before the confirm runs, and part of the plan. p values are one-sided, Holm-adjusted "
        "over all declared hypotheses. Rows: hash of the runs that a verdict rests on. Every other comparison in this "
        "report is exploratory.",
    )  # fmt: skip
    table = table.without_empty().said_once("Runs", "Estimand", "Rows", "Note")
    return Section("hypotheses-declared", "Declared hypotheses", [f"{len(found)} declared: {counts}."], [table])


def fair(findings: Findings) -> Section | None:
    """Tuning budgets, ranges whose best value lies at an edge, equal epochs, size and time."""
    if findings.results.trials.empty:
        return None
    found = findings.fairness
    uneven = [[finding.check, finding.text] for finding in found if finding.fair is False]
    untold = [[finding.check, finding.text] for finding in found if finding.fair is None]
    even = [[finding.check, finding.text] for finding in found if finding.fair]
    lead = f"{len(uneven) or 'None'} of {len(found)} checks found the comparison uneven."
    tables = [
        Table(["Check", "What"], ["medium", "long"], rows, title=title, folded=folded)
        for title, rows, folded in (("Uneven", uneven, False), ("Cannot be told", untold, True), ("Even", even, True))
        if rows
    ]
    return Section("fairness", "Was the comparison fair?", [lead], tables)
