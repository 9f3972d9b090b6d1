"""How often runs collapsed or diverged, arm by arm: a table beside the effects."""

from __future__ import annotations

import numpy as np

from resnetlab.analysis.confirm.collapse import rates
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import interval, missing, p_value, percents, shown, signed
from resnetlab.report.layout import Table


def collapsed_runs(findings: Findings) -> list[Table]:
    """One table; none where no run of the plan collapsed or diverged."""
    runs, plan = findings.runs, findings.results.planned
    if not runs.untrained.any():
        return []
    found = rates([arm.name for arm in plan.arms], runs.untrained, runs.untrained | ~np.isnan(runs.values))
    rows = [
        [
            row.arm,
            f"{row.untrained} / {row.runs}",
            percents(row.low, row.high),
            None if missing(row.difference) else signed(row.difference),
            None if missing(row.p) else interval(row.difference_low, row.difference_high),
            None if missing(row.p) else p_value(row.p),
        ]
        for row in found.itertuples(index=False)
    ]
    levels = [level for level in plan.collapsed_up_to if not np.isnan(level)]
    which = f" (no better than guessing: at most {shown(max(levels), plan.metric)})" if levels else ""
    foot = (
        f"Collapsed runs{which} count in all means and effects; diverged runs have no value. A comparison whose "
        "verdict turns on either is inconclusive. Rate: Wilson's interval. Difference: Newcombe's interval, in points; "
        "p: Fisher's exact test, not adjusted."
    )
    headings = ["Arm", "Runs", "Rate, 95% interval", f"Less {found['arm'].iloc[0]}", "95% interval", "p"]
    return [Table(headings, ["name", *["number"] * 5], rows, foot, "Runs that collapsed or diverged")]
