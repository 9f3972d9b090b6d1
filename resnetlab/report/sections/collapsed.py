"""How often runs learnt nothing, arm by arm: a table beside the effects."""

from __future__ import annotations

import numpy as np

from resnetlab.analysis.confirm.collapse import rates
from resnetlab.analysis.confirm.confirm_runs import UNFINISHED
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import interval, missing, p_value, percents, shown, signed
from resnetlab.report.layout import Table


def collapsed_runs(findings: Findings) -> list[Table]:
    """One table; none where no run of the plan collapsed."""
    runs, plan = findings.runs, findings.results.planned
    if not runs.collapsed.any():
        return []
    found = rates([arm.name for arm in plan.arms], runs.collapsed, runs.state != UNFINISHED)
    rows = [
        [
            row.arm,
            f"{row.collapsed} / {row.runs}",
            percents(row.low, row.high),
            None if missing(row.difference) else signed(row.difference),
            None if missing(row.p) else interval(row.difference_low, row.difference_high),
            None if missing(row.p) else p_value(row.p),
        ]
        for row in found.itertuples(index=False)
    ]
    levels = [level for level in plan.collapsed_below if not np.isnan(level)]
    which = f": no better than guessing, which reaches up to {shown(max(levels), plan.metric)}" if levels else ""
    foot = (
        f"Collapsed: ended with next to nothing learnt{which}, or diverged. The first count in all means and effects, "
        "the second have no value. A verdict that turns on either is inconclusive. Rate: Wilson's interval; against "
        f"{found['arm'].iloc[0]}: Newcombe's interval in points, and Fisher's exact test, not adjusted."
    )
    headings = ["Arm", "Collapsed", "Rate, 95% interval", "Against the first arm", "95% interval", "p"]
    return [Table(headings, ["name", *["number"] * 5], rows, foot, "Runs that collapsed")]
