"""Learning curves: of each named arm, else of explore and confirm trials."""

from __future__ import annotations

from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section


def section(findings: Findings) -> Section | None:
    """Figures alone; the page leaves it out where there are none."""
    return Section("curves", "Learning curves")
