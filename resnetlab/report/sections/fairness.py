"""Whether the comparison was fair: tuning budgets, ranges with their best value at an edge, epochs, size and time."""

from __future__ import annotations

from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section, Table


def section(findings: Findings) -> Section | None:
    """None where nothing ran."""
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
