"""Plans that ended before the one in force: their verdicts, and what all say together."""

from __future__ import annotations

from resnetlab.report.findings import Findings
from resnetlab.report.formatting import headed, interval, missing, signed
from resnetlab.report.layout import FOLDED, Table


def earlier(findings: Findings) -> list[Table]:
    """Verdicts of earlier plans that ended; none where there is none."""
    metric = findings.effect
    rows = [
        [
            row.plan_hash,
            str(row.seeds),
            row.name,
            row.verdict,
            signed(row.estimate, metric=metric),
            interval(row.low, row.high, metric),
            signed(row.pooled, metric=metric),
            "" if missing(row.pooled) else interval(row.pooled_low, row.pooled_high, metric),
        ]
        for row in findings.earlier.itertuples(index=False)
    ]
    if not rows:
        return []
    foot = (
        "These plans had ended before the one in force was made, each with an error rate of its own: their verdicts "
        "stand. Together: the estimates of all plans that ran the same arms, weighed by their precision, with "
        "intervals on the test images that they share where the split is fixed. It describes, and gives no verdict: "
        "whoever asked for more could see what the first ones said."
    )
    headings = [
        "Plan",
        "Seeds",
        "Comparison",
        "Verdict",
        headed("Estimate", metric),
        "95% interval",
        "Together",
        "Interval",
    ]
    kinds = ["code", "number", "name", "verdict", *["number"] * 4]
    return [Table(headings, kinds, rows, foot, "Earlier plans", folded=len(rows) > FOLDED)]
