"""How the search went: figures alone."""

from __future__ import annotations

from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section


def section(findings: Findings) -> Section | None:
    """The page leaves it out where nothing was explored."""
    return Section("search", "How the search went", hypothesis=True)
