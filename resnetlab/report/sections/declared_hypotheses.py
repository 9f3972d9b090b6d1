"""Each declared hypothesis: supported, refuted, inconclusive or not answered, with its numbers and what it rests on."""

from __future__ import annotations

from resnetlab.report.findings import Findings
from resnetlab.report.formatting import headed, interval, missing, p_value, signed
from resnetlab.report.layout import Section, Table


def section(findings: Findings) -> Section | None:
    """None where the study declares none."""
    found, effect = findings.hypotheses, findings.effect
    if found.empty:
        return None
    rows = [
        [
            row.hypothesis,
            row.verdict,
            "–" if missing(row.estimate) else signed(row.estimate, metric=effect),
            "no interval" if missing(row.low) else f"{row.confidence:.0%}: {interval(row.low, row.high, effect)}",
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
        ["Hypothesis", "Verdict", headed("Estimate", effect), "Interval", "Runs", "p, supported", "p, refuted",
         "Estimand", "Rows", "Note"],
        ["long", "text", "number", "number", "number", "number", "number", "text", "code", "long"],
        rows,
        "Declared in the study before the confirm runs, and part of the plan. p values are one-sided, Holm-adjusted "
        "over all declared hypotheses. Rows: hash of the runs that a verdict rests on. Every other comparison in this "
        "report is exploratory.",
    )  # fmt: skip
    table = table.without_empty().said_once("Runs", "Estimand", "Rows", "Note")
    return Section("hypotheses-declared", "Declared hypotheses", [f"{len(found)} declared: {counts}."], [table])
