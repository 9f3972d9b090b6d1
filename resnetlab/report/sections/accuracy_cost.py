"""What was searched for against time and size: the figures of explore trials."""

from __future__ import annotations

from resnetlab.report.figures import accuracy_cost
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section


def section(findings: Findings) -> Section | None:
    """None where named arms have a section of their own (`transfer`)."""
    if findings.named_arms:
        return None
    figures = [*reversed(accuracy_cost.NAMES)]
    title = f"{findings.searched.heading} against time and size"
    if findings.results.study.experiment:
        figures, title = ["accuracy-time"], f"{findings.searched.label} against time"
    return Section("trade", title, figures=figures, hypothesis=True)
