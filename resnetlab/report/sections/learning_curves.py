"""Learning curves: of each named arm, else of explore and confirm trials."""

from __future__ import annotations

from resnetlab.report.figures import arm_curves, confirm_curves, learning_curves
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section


def section(findings: Findings) -> Section | None:
    """Figures alone; the page leaves them out where there are none."""
    names = arm_curves.NAMES if findings.results.study.arms else (*learning_curves.NAMES, *confirm_curves.NAMES)
    return Section("curves", "Learning curves", figures=[*names])
